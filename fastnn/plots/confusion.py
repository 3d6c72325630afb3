"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plots.canvas import FAINT, INK, new_figure, plain, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Beyond so many classes the numbers would not fit into the cells.
NUMBERED = 25
# And beyond so many not even each name beside the matrix.
NAMED = 60


def confusion_counts(truth: Any, predicted: Any, classes: int | None = None) -> np.ndarray:
    """How often each true class (row) is taken for each class (column).

    Parameters
    ----------
    truth, predicted : (N,) integer arrays
        Places of classes, 0 to C-1.
    classes : int, optional
        C; by default the largest place that occurs, plus one.

    Returns
    -------
    (C, C) int64 array

    Raises
    ------
    ValueError
        Nothing to count, arrays of different shapes, or places outside 0 to C-1.
    TypeError
        No integers.

    Examples
    --------
    >>> confusion_counts([0, 0, 1, 1], [0, 1, 1, 1])
    array([[1, 1],
           [0, 2]])
    """
    rows, columns = np.asarray(truth), np.asarray(predicted)
    if rows.shape != columns.shape or rows.ndim != 1 or not rows.size:
        raise ValueError(
            f"truth and predicted have the shapes {rows.shape} and {columns.shape}, "
            "expected (N,) twice, with at least one row"
        )
    for name, places in (("truth", rows), ("predicted", columns)):
        if places.dtype.kind not in "iu":
            raise TypeError(
                f"{name} holds {places.dtype} values, expected the places of classes (integers)"
            )
    low, high = min(rows.min(), columns.min()), max(rows.max(), columns.max())
    count = int(high) + 1 if classes is None else classes
    if low < 0 or high >= count:
        raise ValueError(f"classes are from {low} to {high}, expected 0 to {count - 1}")
    flat = rows.astype(np.int64) * count + columns
    return np.bincount(flat, minlength=count * count).reshape(count, count)


def confusion_matrix(
    truth: Any,
    predicted: Any,
    classes: Sequence[object] | None = None,
    *,
    title: str = "Confusion matrix",
) -> Figure:
    """Draw how often each class is taken for each other one.

    A row is a true class. The diagonal (right) is blue, the mistakes are orange, each the darker the
    larger its share of the row; zeros are left empty.

    Parameters
    ----------
    truth, predicted : (N,) integer arrays
        Places of classes, 0 to C-1.
    classes : sequence of C names, optional
        By default their places.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    TypeError, ValueError
        As in `confusion_counts`.

    Examples
    --------
    >>> figure = confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"])
    >>> figure.axes[0].get_title(loc="left")
    'Confusion matrix: 3 of 4 right (75.0%)'
    """
    names = None if classes is None else list(classes)
    counts = confusion_counts(truth, predicted, None if names is None else len(names))
    n = len(counts)
    labels = [plain(name, 18) for name in (range(n) if names is None else names)]
    right, total = int(np.trace(counts)), int(counts.sum())

    side = float(np.clip(0.42 * n, 3.2, 8.0))
    longest = max(map(len, labels))
    figure = new_figure(side + 1.3 + 0.07 * longest, side + 1.1 + 0.07 * longest)
    axes = figure.subplots()
    heading = f"{plain(title)}: {right:,} of {total:,} right ({right / total:.1%})"
    style(axes, heading, "predicted")
    axes.set_ylabel("true", color=FAINT)
    axes.grid(False)

    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    # Cells as areas of colour: they stay sharp at any size, and a dark page can invert them.
    axes.pcolormesh(_colours(shares), edgecolors="white", linewidth=min(1.0, 12 / n))
    axes.set_aspect("equal")
    axes.set_xlim(0, n)
    axes.set_ylim(n, 0)
    axes.spines["bottom"].set_visible(False)
    shown = np.arange(0, n, -(-n // NAMED))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(shown + 0.5, [labels[place] for place in shown])
    small = 9 if n <= NUMBERED else 6
    axes.tick_params(labelsize=small)
    if longest > 3:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    if n <= NUMBERED:
        size = 9 if n <= 12 and total < 100_000 else 6.5
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = shares[row, column] > (0.55 if row == column else 0.35)
            axes.text(
                column + 0.5, row + 0.5, f"{counts[row, column]}", ha="center", va="center",
                fontsize=size, color="white" if dark else INK,
            )  # fmt: skip
    return figure


def _colours(shares: np.ndarray) -> np.ndarray:
    """(C, C, 3): from white towards blue on the diagonal, towards orange beside it."""
    blue, orange, paper = np.array([[11, 98, 168], [209, 99, 12], [246, 246, 246]]) / 255
    # Mistakes are few: a share of a half is as dark as they get, and a single one can be seen.
    strength = np.sqrt(np.minimum(1.0, 2.0 * shares))[..., None]
    cells = paper + strength * (orange - paper)
    diagonal = np.arange(len(shares))
    cells[diagonal, diagonal] = paper + np.diag(shares)[:, None] * (blue - paper)
    return cells
