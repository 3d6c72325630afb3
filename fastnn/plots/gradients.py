"""Histograms of the gradients, a row for each weight matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastnn.gradient_flow import DECADES, GradientStatistics
from fastnn.plots.canvas import COLOURS, FAINT, INK, new_figure, plain, power_of_ten, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.recorder import Recorder

# Of a hill, where rows are one apart.
HEIGHT = 0.9
# The axis begins a decade before all but so large a share of the elements: a few lie far out, such as
# those of pixels that hardly ever change.
OUTLIERS = 0.1


def gradient_histograms(
    source: Recorder | Mapping[str, GradientStatistics], *, title: str = "Size of the gradients"
) -> Figure:
    """Draw how the sizes of the gradients are distributed, the first layer at the top.

    The axis counts powers of ten. Hills that move left from one row to the row above are gradients
    that vanish on their way back; those that move right explode.

    Parameters
    ----------
    source : Recorder or result of `gradient_statistics`
        Of a recorder that was given a probe, the first and the last epoch are drawn.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        There are no gradients.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(8), fnn.ReLU(), fnn.Dense(2)], input_dim=3, seed=0)
    >>> x = np.random.default_rng(0).standard_normal((50, 3)).astype("float32")
    >>> statistics = fnn.gradient_statistics(model, x, np.arange(50) % 2, "softmax_cross_entropy")
    >>> figure = gradient_histograms(statistics)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['0.weight', '2.weight']
    """
    moments = _moments(source)
    names = list(moments[0][1])
    if not names:
        raise ValueError("the model has no weight matrices, so there are no gradients to draw")
    figure = new_figure(7.4, 1.7 + 0.55 * len(names))
    axes = figure.subplots()
    style(axes, title, "|gradient| of an element of the weights")
    axes.grid(axis="x", color=axes.yaxis.get_gridlines()[0].get_color(), linewidth=0.8)
    axes.grid(False, axis="y")
    used: list[np.ndarray] = []
    for colour, (label, statistics) in zip(COLOURS, moments, strict=False):
        for row, name in enumerate(names):
            used.append(statistics[name].counts)
            _hill(axes, row, statistics[name].counts, colour, label if row == 0 else None)
    low, high = _range(used)
    axes.set_xlim(low, high)
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    ticks = ticks[:: -(-len(ticks) // 9)]
    axes.set_xticks(ticks, [power_of_ten(10.0**tick) for tick in ticks])
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.9, -HEIGHT - 0.1)
    _note_zeros(axes, moments[-1][1], names)
    if len(moments) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(moments),
            frameon=False, fontsize=9, labelcolor=INK,
        )  # fmt: skip
    return figure


def _moments(
    source: Recorder | Mapping[str, GradientStatistics],
) -> list[tuple[str, Mapping[str, GradientStatistics]]]:
    """What to draw, labelled: one set of statistics, or those of the first and the last epoch."""
    if isinstance(source, Mapping):
        return [("", source)]
    epochs = sorted(source.gradients)
    if not epochs:
        raise ValueError(
            "the recorder has no gradients: make it with probe=(x, y), one batch of the data"
        )
    chosen = [epochs[0], epochs[-1]] if len(epochs) > 1 else epochs
    return [
        (f"after epoch {epoch}" if epoch else "before training", source.gradients[epoch])
        for epoch in chosen
    ]


def _range(histograms: list[np.ndarray]) -> tuple[float, float]:
    """Between which powers of ten the histograms lie, but for a few outliers on the left."""
    filled = [counts for counts in histograms if counts.any()]
    if not filled:
        return -4.0, 0.0
    first = min(int(np.argmax(np.cumsum(c) > OUTLIERS * c.sum())) for c in filled)
    last = max(int(np.flatnonzero(c)[-1]) for c in filled)
    return DECADES[first] - 1.0, DECADES[last + 1] + 0.3


def _hill(axes: Axes, row: int, counts: np.ndarray, colour: str, label: str | None) -> None:
    if not counts.any():
        return
    heights = row - HEIGHT * counts / counts.max()
    inside = np.flatnonzero(counts)
    part = slice(inside[0], inside[-1] + 1)
    steps, edges = heights[part], DECADES[inside[0] : inside[-1] + 2]
    axes.stairs(
        steps, edges, baseline=row, fill=True, facecolor=colour, alpha=0.3, lw=0, zorder=row + 2
    )
    axes.stairs(steps, edges, baseline=row, color=colour, lw=1.3, zorder=row + 2.5, label=label)


def _note_zeros(axes: Axes, statistics: Mapping[str, GradientStatistics], names: list[str]) -> None:
    """At the right, how many elements have no gradient at all, where it is some per cent."""
    for row, name in enumerate(names):
        if statistics[name].zeros >= 0.01:
            axes.annotate(
                f"{statistics[name].zeros:.0%} zero", (1.0, row), xycoords=("axes fraction", "data"),
                xytext=(6, 4), textcoords="offset points", fontsize=9, color=FAINT,
                annotation_clip=False,
            )  # fmt: skip
