"""What all pictures share: a figure without global state, one look, and the way to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct in hue and in lightness, so that they also differ in grey and for the colour-blind
# (after Okabe and Ito, https://jfly.uni-koeln.de/color/, darkened for white paper).
COLOURS = ("#0b62a8", "#d1630c", "#00815f", "#b0488c", "#7a6a00", "#3c9fd6", "#555555")
INK, FAINT, GRID = "#262626", "#6b6b6b", "#e4e4e4"

FORMATS = (".png", ".svg", ".pdf")


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure (inches) that draws itself without a display.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise ImportError(
            "pictures need matplotlib, which is not installed: pip install 'fastnn[plot]'"
        ) from None
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.03)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, title: str, x_label: str) -> None:
    """The common look: a title at the left, faint grid lines, no box."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(x_label, color=FAINT)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure; the ending of `path` chooses the format, an old file is replaced whole.

    Raises
    ------
    ValueError
        The ending is none of .png, .svg, .pdf.
    OSError
        The file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(
            f"the picture {str(path)!r} ends in {ending or 'nothing'}, "
            f"expected one of {', '.join(FORMATS)}"
        )
    with replacing(path) as file:
        figure.savefig(file, format=ending[1:], dpi=dpi)
