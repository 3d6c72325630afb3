"""Text in columns, for what fastnn prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], sides: str = "<") -> list[str]:
    """Lines of a table, two spaces between the columns.

    Parameters
    ----------
    rows : iterable of sequences of str
        All of one length; the first one may be the heading.
    sides : str
        "<" or ">" for each column, flush left or right; the columns after those are flush right.

    Examples
    --------
    >>> print("\\n".join(aligned([("layer", "mean"), ("2 (ReLU)", "0.5")])))
    layer     mean
    2 (ReLU)   0.5
    """
    cells = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = sides.ljust(len(widths), ">")
    lines = []
    for row in cells:
        parts = zip(row, sides, widths, strict=True)
        lines.append("  ".join(f"{cell:{side}{width}}" for cell, side, width in parts).rstrip())
    return lines
