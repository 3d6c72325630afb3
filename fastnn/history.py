"""The record of a training run: one row per epoch, seen as a mapping of columns."""

from __future__ import annotations

import csv
import math
import numbers
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastnn.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "lr",
    "seconds",
    "samples_per_second",
)


class History(Mapping[str, list[float]]):
    """One row per epoch, as a mapping from column names to lists of equal length.

    The columns are `epoch` (from 1), `loss` and `accuracy` (training data, averaged over the
    epoch), `val_loss` and `val_accuracy` (validation data, at the epoch's end), `lr` (the learning
    rate of the epoch's last step), `seconds` and `samples_per_second`; whoever appends a row may
    add others. What a run does not have (no validation data, no accuracy in a regression) is NaN.

    Examples
    --------
    >>> history = History()
    >>> history.append(epoch=1, loss=0.7, accuracy=0.81)
    >>> history.append(epoch=2, loss=0.4, accuracy=0.90)
    >>> history["loss"]
    [0.7, 0.4]
    >>> history.epochs, history.last["accuracy"]
    (2, 0.9)
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {name: [] for name in COLUMNS}

    def append(self, **row: float) -> None:
        """Add one epoch. A column not named gets NaN; a new column has NaN in the rows before.

        Raises
        ------
        TypeError
            A value is not a number.
        """
        values: dict[str, float] = {}
        for name, value in row.items():
            if type(value) in (float, int):  # all that `fit` has: nothing to convert
                values[name] = value
                continue
            try:
                # Whole numbers (epochs, steps) stay whole, so that they are written as such.
                whole = isinstance(value, numbers.Integral)
                values[name] = int(value) if whole else float(value)
            except (TypeError, ValueError):
                raise TypeError(f"the history takes numbers, got {name}={value!r}") from None
        rows = self.epochs
        for name in values.keys() - self._columns.keys():
            self._columns[name] = [math.nan] * rows
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))

    @property
    def epochs(self) -> int:
        """The number of rows."""
        return len(self._columns["epoch"])

    @property
    def last(self) -> dict[str, float]:
        """The newest row, column by column.

        Raises
        ------
        IndexError
            The history is empty.
        """
        if not self.epochs:
            raise IndexError("the history is empty: no epoch has ended yet")
        return {name: column[-1] for name, column in self._columns.items()}

    def has(self, name: str) -> bool:
        """Whether the column exists and holds at least one number other than NaN."""
        return any(not math.isnan(value) for value in self._columns.get(name, ()))

    def __getitem__(self, name: str) -> list[float]:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"no column {name!r}; there are {', '.join(self._columns)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        shown = (f"{name}={self[name][-1]:.4g}" for name in self if self.has(name))
        return f"History(epochs={self.epochs}, last: {', '.join(shown)})"

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, NaN as an empty cell; an old file is replaced as a whole.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        with replacing(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self._columns)
            self.write_rows(writer)

    def write_rows(self, writer: Any, first: int = 0) -> None:
        """Write the rows from `first` on to a `csv.writer`, as `to_csv` does."""
        for row in zip(*(column[first:] for column in self._columns.values()), strict=True):
            writer.writerow("" if math.isnan(value) else repr(value) for value in row)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is not the record of a run: no `epoch` column, ragged rows, or a cell that is not a
            number.
        """
        history = cls()
        with open(path, newline="", encoding="utf-8") as file:
            try:
                rows = list(csv.DictReader(file, strict=True))
                for row in rows:
                    if "epoch" not in row or None in row or None in row.values():
                        raise ValueError
                    history.append(**{name: _number(text) for name, text in row.items()})
            except (ValueError, TypeError, csv.Error):
                raise ValueError(
                    f"{path} is not a training history (a CSV of numbers with a column 'epoch', "
                    "as History.to_csv writes it)"
                ) from None
        return history

    def plot(self, path: str | os.PathLike[str] | None = None, **options: object) -> Figure:
        """Draw loss and accuracy over the epochs (`fastnn.plots.training_curves`).

        Parameters
        ----------
        path : path, optional
            Where to write the picture; its ending chooses the format (`.png`, `.svg`, `.pdf`).
        **options
            Passed on, for example `title`.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib is not installed (the `plot` extra).
        ValueError
            The history is empty.
        """
        from fastnn import plots

        figure = plots.training_curves(self, **options)  # type: ignore[arg-type]
        if path is not None:
            plots.save(figure, path)
        return figure


def _number(text: str) -> float:
    """A cell as `to_csv` wrote it: empty is NaN, digits alone are a whole number."""
    if not text:
        return math.nan
    return int(text) if text.lstrip("-").isdigit() else float(text)
