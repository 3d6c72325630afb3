"""Predicted against true values of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plots.canvas import COLOURS, FAINT, INK, new_figure, plain, short, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More points hide each other, and make a large file.
POINTS = 3000
PANELS = 6


def predicted_against_true(
    truth: Any,
    predicted: Any,
    names: Sequence[object] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw each row's predicted value over its true one; on the diagonal it is right.

    Parameters
    ----------
    truth, predicted : (N,) or (N, K) arrays of finite numbers
        In the unit of the data. A panel for each of the first six of K; of more than 3,000 rows
        evenly spaced ones are shown, while the error is that of all.
    names : sequence of K names, optional
    title : str, optional
        Above the picture.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        Arrays of different shapes, without rows, or with values that are not finite.

    Examples
    --------
    >>> figure = predicted_against_true([1.0, 2.0, 3.0], [1.0, 2.5, 3.0], ["price"])
    >>> figure.axes[0].get_title(loc="left")
    'price: error 0.289, R² 0.875'
    """
    true, guess = (np.asarray(values, np.float64) for values in (truth, predicted))
    if true.shape != guess.shape or true.ndim not in (1, 2) or not true.size:
        raise ValueError(
            f"truth and predicted have the shapes {true.shape} and {guess.shape}, "
            "expected (N,) or (N, K) twice, not empty"
        )
    if not (np.isfinite(true).all() and np.isfinite(guess).all()):
        raise ValueError("truth and predicted hold NaN or infinity, expected finite numbers")
    true, guess = true.reshape(len(true), -1), guess.reshape(len(guess), -1)
    outputs = true.shape[1]
    labels = [f"output {k}" for k in range(outputs)] if names is None else list(names)
    if len(labels) != outputs:
        raise ValueError(f"{len(labels)} names for {outputs} outputs, expected one for each")

    panels = min(outputs, PANELS)
    columns = min(panels, 3)
    figure = new_figure(4.6 * columns, 4.4 * -(-panels // columns))
    grid = np.ravel(figure.subplots(-(-panels // columns), columns, squeeze=False))
    rows = slice(None, None, -(-len(true) // POINTS))
    for k, axes in enumerate(grid):
        if k >= panels:
            axes.remove()
            continue
        heading = _heading(plain(labels[k], 30), true[:, k], guess[:, k])
        style(axes, heading, "true")
        axes.set_ylabel("predicted", color=FAINT)
        both = np.concatenate([true[:, k], guess[:, k]])
        low, high = both.min(), both.max()
        margin = 0.04 * (high - low) or 0.5
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, "-", color=FAINT, lw=1.0, zorder=1)
        count = len(true[rows])
        axes.scatter(
            true[rows, k], guess[rows, k], s=14 if count < 500 else 7, color=COLOURS[0],
            alpha=float(np.clip(150 / count, 0.25, 0.8)), linewidths=0, rasterized=count > 500,
        )  # fmt: skip
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.locator_params(nbins=5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: short(value))
    if title:
        figure.suptitle(plain(title), fontsize=13, color=INK)
    return figure


def _heading(name: str, true: np.ndarray, guess: np.ndarray) -> str:
    """The root mean square error and R², where the true values differ."""
    error = guess - true
    text = f"{name}: error {short(np.sqrt((error**2).mean()))}"
    spread = ((true - true.mean()) ** 2).sum()
    return f"{text}, R² {1 - (error**2).sum() / spread:.3f}" if spread > 0 else text
