"""What all pictures share: a figure without global state, one look, and the way to a file."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
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


def colours(count: int) -> list[str]:
    """Colours for so many lines: as different as can be, and for many an even ramp."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return ramp(count)


def ramp(count: int) -> list[str]:
    """Colours for things in a row, such as layers, from violet to green.

    The ends of the scale are left out: yellow cannot be read on white, nor on black when inverted.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    viridis = colormaps["viridis"]
    return [to_hex(viridis(0.08 + 0.62 * i / max(1, count - 1))) for i in range(count)]


def power_of_ten(value: float, _: object = None) -> str:
    """The label of a tick on a logarithmic axis, 10⁻³; drawn in a hundredth of the time of a formula.

    Examples
    --------
    >>> power_of_ten(0.001), power_of_ten(1.0)
    ('10⁻³', '10⁰')
    """
    return "10" + f"{math.log10(value):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def short(value: float) -> str:
    """A number for a heading or a tick: three digits, thousands whole, no exponents before 1e7.

    Examples
    --------
    >>> short(0.012345), short(29094.3)
    ('0.0123', '29,094')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def plain(text: object, longest: int = 60) -> str:
    """A user's text as matplotlib shall write it: dollars are no formulas, long ones are cut."""
    words = " ".join(str(text).split())
    return (words if len(words) <= longest else f"{words[: longest - 1]}…").replace("$", r"\$")


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


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element to be put into an HTML page.

    Texts stay texts, in the fonts of whoever looks at it; the background is transparent; there are
    no ids on groups, which several pictures of one page would share.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # The browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    return re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
