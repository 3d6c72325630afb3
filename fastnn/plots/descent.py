"""Gradient descent step by step: with all rows at once, and with mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plots.canvas import FAINT, INK, colours, new_figure, plain, style
from fastnn.plots.curves import loss_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.recorder import Recorder

# Points of the grid on which a surface is drawn, along each axis.
GRID_POINTS = 60

# Paths of more steps are drawn without a point for each, and below the shorter ones.
MARKED = 200


def step_losses(runs: Mapping[str, Recorder], *, title: str = "Loss of each step") -> Figure:
    """Draw the loss of every step over the epochs, of runs with different batch sizes.

    Over the epochs, so that the runs have seen as much data where they stand above each other. The loss
    of a mini-batch jumps from batch to batch: the thin line; the thick one is its mean over each
    epoch's worth of steps.

    Parameters
    ----------
    runs : mapping of labels to `fastnn.Recorder`
        After a `fit` with it among the callbacks.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        There is no run, or one without steps.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> runs = {}
    >>> for label, size in (("batch", None), ("mini-batches of 10", 10)):
    ...     runs[label] = fnn.Recorder()
    ...     model = fnn.Sequential([fnn.Dense(1)], seed=0)
    ...     _ = model.fit(x, 2 * x, loss="mean_squared_error", batch_size=size,
    ...                   callbacks=[runs[label]])
    >>> step_losses(runs).axes[0].get_title(loc="left")
    'Loss of each step'
    """
    if not runs:
        raise ValueError("there is no run to draw")
    figure = new_figure(7.4, 4.0)
    axes = figure.subplots()
    style(axes, plain(title), "epoch (passes over the data)")
    for (name, recorder), colour in zip(runs.items(), colours(len(runs)), strict=True):
        losses, span = np.array(recorder.losses), recorder.steps_per_epoch
        if not losses.size:
            raise ValueError(f"the recorder of {name!r} has seen no step: fit with it first")
        epochs = np.arange(len(losses)) / span
        if span == 1:
            marker = "o" if len(losses) == 1 else None
            axes.plot(epochs, losses, color=colour, lw=2.0, marker=marker, label=plain(name))
            continue
        axes.plot(epochs, losses, color=colour, lw=0.6, alpha=0.45)
        window = min(span, len(losses))
        mean = np.convolve(losses, np.full(window, 1 / window), "valid")
        middle = epochs[: len(mean)] + (window - 1) / (2 * span)
        marker = "o" if len(mean) == 1 else None
        axes.plot(middle, mean, color=colour, lw=2.0, marker=marker, label=plain(name))
    axes.set_xlim(left=0)
    loss_axis(axes, np.concatenate([recorder.losses for recorder in runs.values()]))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def descent_paths(
    surface: Callable[[np.ndarray], Any],
    paths: Mapping[str, Any],
    *,
    labels: tuple[str, str] = ("first parameter", "second parameter"),
    title: str = "Paths of descent",
) -> Figure:
    """Draw how parameters move over the contours of a loss of two parameters.

    Descent with all rows goes straight down, across the contours; with mini-batches it zigzags, and
    at the bottom it wanders about.

    Parameters
    ----------
    surface : callable
        From points (P, 2) to their losses (P,).
    paths : mapping of labels to (steps, 2) arrays
        The parameters before the first and after each step.
    labels : pair of str
        What the parameters are.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        There is no path, or one of another shape or with values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> path = np.outer(0.5 ** np.arange(6), [3.0, 1.0])
    >>> figure = descent_paths(lambda w: (w**2).sum(axis=1), {"batch": path})
    >>> [line.get_label() for line in figure.axes[0].lines][:1]
    ['batch']
    """
    if not paths:
        raise ValueError("there is no path to draw")
    points = {name: np.asarray(path, np.float64) for name, path in paths.items()}
    for name, path in points.items():
        if path.ndim != 2 or path.shape[1] != 2 or not len(path) or not np.isfinite(path).all():
            raise ValueError(
                f"the path {name!r} has the shape {path.shape}, expected (steps, 2), all finite"
            )
    together = np.concatenate(list(points.values()))
    low, high = together.min(axis=0), together.max(axis=0)
    margin = np.maximum(0.15 * (high - low), 1e-6 + 0.05 * np.abs(high))
    a, b = (np.linspace(low[k] - margin[k], high[k] + margin[k], GRID_POINTS) for k in range(2))
    mesh = np.stack(np.meshgrid(a, b), axis=-1)
    heights = np.asarray(surface(mesh.reshape(-1, 2)), np.float64).reshape(mesh.shape[:2])

    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    style(axes, plain(title), plain(labels[0]))
    axes.set_ylabel(plain(labels[1]), color=FAINT)
    axes.grid(False)
    bottom = heights.min()
    # Levels that stand closer at the bottom, where the paths end.
    levels = bottom + (heights.max() - bottom) * np.geomspace(1e-3, 1.0, 14)
    if heights.max() > bottom:
        axes.contour(a, b, heights, levels=levels, colors=FAINT, linewidths=0.7, alpha=0.6)
    for (name, path), colour in zip(points.items(), colours(len(points)), strict=True):
        long = len(path) > MARKED
        axes.plot(
            *path.T, "-" if long else "-o", color=colour, lw=0.8 if long else 1.6, ms=3,
            label=plain(name), zorder=2 + 1 / len(path),
        )  # fmt: skip
    start = next(iter(points.values()))[0]
    axes.plot(*start, "o", color="white", mec=INK, ms=8, zorder=4)
    axes.annotate("start", start, xytext=(8, 6), textcoords="offset points", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure
