"""What comes out of each layer: a histogram per layer, of one network or of several below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastnn.plots.canvas import COLOURS, FAINT, GRID, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.statistics import ActivationStatistics, LayerStatistics

# Histograms side by side; a deeper network goes on in the next row.
ACROSS = 10


def activation_histograms(
    statistics: ActivationStatistics | Mapping[str, ActivationStatistics],
    *,
    title: str | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw a histogram per layer, with mean and spread above each.

    The histograms of one network share their horizontal axis, so that a network whose activations
    shrink, grow or saturate from layer to layer shows at a glance; each has a height of its own.

    Parameters
    ----------
    statistics : ActivationStatistics, or mapping of labels to such
        Of `fastnn.activation_statistics`. Of several networks, each begins a row of its own.
    title : str, optional
        Above the picture.
    names : sequence of str, optional
        What to call the layers, instead of their position and class.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        There is nothing to draw, or `names` has another length.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(8), fnn.Tanh(), fnn.Dense(2)], seed=0)
    >>> x = np.random.default_rng(0).standard_normal((100, 4))
    >>> figure = activation_histograms(fnn.activation_statistics(model, x))
    >>> len(figure.axes)
    3
    """
    networks = dict(statistics) if isinstance(statistics, Mapping) else {"": statistics}
    if not networks or not all(networks.values()):
        raise ValueError("there are no layers to draw")
    lines: list[tuple[str, list[tuple[str, LayerStatistics]], tuple[float, float]]] = []
    for label, layers in networks.items():
        called = [s.label for s in layers] if names is None else list(names)
        if len(called) != len(layers):
            raise ValueError(f"{len(called)} names for {len(layers)} layers")
        panels = list(zip(called, layers, strict=True))
        limits = _limits(layers)
        each = -(-len(panels) // -(-len(panels) // ACROSS))  # rows of about the same length
        for start in range(0, len(panels), each):
            lines.append((label if not start else "", panels[start : start + each], limits))

    across = max(len(panels) for _, panels, _ in lines)
    figure = new_figure(max(4.0, 1.25 * across), 0.6 + 1.35 * len(lines))
    grid = figure.subplots(len(lines), across, squeeze=False)
    for row, (label, panels, limits) in enumerate(lines):
        for place, axes in enumerate(grid[row]):
            if place < len(panels):
                _draw(axes, *panels[place], limits)
            else:
                axes.remove()
        if label:
            grid[row][0].set_title(
                label, loc="left", fontsize=9, fontweight="bold", color=INK, pad=14
            )
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


def _limits(layers: ActivationStatistics) -> tuple[float, float]:
    """A horizontal axis that holds all layers, and 0."""
    low = min(0.0, *(float(s.edges[0]) for s in layers))
    high = max(0.0, *(float(s.edges[-1]) for s in layers))
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _draw(axes: Axes, name: str, s: LayerStatistics, limits: tuple[float, float]) -> None:
    axes.stairs(s.counts, s.edges, fill=True, color=COLOURS[0])
    axes.stairs(s.counts, s.edges, color=COLOURS[0], lw=0.8)  # a spike is thinner than a pixel
    axes.set_xlim(limits)
    axes.set_ylim(0, 1.05 * _height(s.counts))
    axes.set_yticks([])
    axes.set_xticks(_ticks(limits))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(colors=FAINT, length=2, labelsize=7, pad=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.set_xlabel(name, fontsize=7.5, color=FAINT, labelpad=1)
    mean = 0.0 if abs(s.mean) < s.std / 100 else s.mean
    text = f"{mean:.2g} ± {s.std:.2g}"
    axes.text(0.0, 1.02, text, transform=axes.transAxes, fontsize=7, color=FAINT, va="bottom")


def _height(counts: np.ndarray) -> float:
    """The largest count; where it stands alone (the zeros of a ReLU), it may leave the panel."""
    largest, second = sorted(counts.tolist())[-1:-3:-1] if counts.size > 1 else (counts[0], 0)
    return float(min(largest, 3 * second) if second > largest / 100 else largest) or 1.0


def _ticks(limits: tuple[float, float]) -> list[float]:
    """0 and a round number near the far end or ends."""
    low, high = limits
    size = max(-low, high)
    if not size:
        return [0.0]
    power = 10.0 ** np.floor(np.log10(0.9 * size))
    end = float(power * max(n for n in (1, 2, 5) if n * power <= 0.96 * size or n == 1))
    return [tick for tick in (-end, 0.0, end) if low <= tick <= high]
