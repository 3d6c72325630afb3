"""Texts that fastnn prints: columns, and names that are close to the one given."""

from __future__ import annotations

import difflib
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known names that are close to this one, in brackets; empty where there are none.

    Examples
    --------
    >>> did_you_mean("Relu6", ["relu", "sigmoid"])
    " (did you mean 'relu'?)"
    """
    folded = {each.casefold(): each for each in known}
    close = [folded[each] for each in difflib.get_close_matches(name.casefold(), folded)]
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
