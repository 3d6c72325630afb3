"""Tables as plain columns: a dict of names and 1-D arrays of equal length.

Whatever the table came from (a file, pandas, polars, a dict of lists), a column ends up as numbers
(float64, missing values NaN) or as texts (an object array of str, missing values None).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..text import did_you_mean

Columns = dict[str, np.ndarray]


def as_columns(table: Any) -> Columns:
    """The columns of a mapping of names to 1-D sequences, or of a pandas or polars data frame.

    Raises
    ------
    TypeError
        `table` is none of these.
    ValueError
        It has no columns or no rows, or columns of different lengths.
    """
    if isinstance(table, Mapping):
        names: Iterable[Any] = table.keys()
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        names = table.columns
    else:
        raise TypeError(
            f"expected a table (a data frame, or a mapping of names to columns), "
            f"got {type(table).__name__}"
        )
    columns = {str(name): np.asarray(table[name]) for name in names}
    if not columns:
        raise ValueError("the table has no columns")
    for name, column in columns.items():
        if column.ndim != 1:
            raise ValueError(f"column {name!r} has the shape {column.shape}, expected (rows,)")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}")
    if not next(iter(lengths.values())):
        raise ValueError("the table has no rows")
    return columns


def pick(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The column of that name; the error lists what is there, close names first."""
    try:
        return columns[name]
    except KeyError:
        raise ValueError(unknown("column", name, columns)) from None


def unknown(what: str, name: str, known: Iterable[str], limit: int = 12) -> str:
    """The text of an error about a name that is not among the known ones."""
    known = list(known)
    shown = ", ".join(known[:limit]) + (f" and {len(known) - limit} more" * (len(known) > limit))
    return f"no {what} {name!r}{did_you_mean(name, known)}; there are: {shown}"


def is_numeric(values: np.ndarray, name: str) -> bool:
    """Whether a column holds numbers rather than texts; booleans are the texts true and false.

    Raises
    ------
    TypeError
        It holds neither (dates, complex numbers, lists).
    """
    if values.dtype.kind in "iuf":
        return True
    if values.dtype.kind in "bUT":
        return False
    if values.dtype.kind == "O":
        present = [value for value in values if not _missing(value)]
        if all(isinstance(v, (int, float, np.number)) and not _is_bool(v) for v in present):
            return bool(present)
        if all(isinstance(v, (str, int, float, np.number)) or _is_bool(v) for v in present):
            return False
        odd = next(v for v in present if not isinstance(v, (str, int, float, np.number)))
        raise TypeError(
            f"column {name!r} holds {type(odd).__name__} values, expected numbers or texts; "
            "turn them into numbers or leave the column out"
        )
    raise TypeError(
        f"column {name!r} holds {values.dtype} values, expected numbers or texts; "
        "turn them into numbers or leave the column out"
    )


def to_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """A column as float64, missing values NaN.

    Raises
    ------
    ValueError
        A value is not a number, or infinite; named with its row (from 1).
    """
    if values.dtype.kind in "iuf":
        numbers = values.astype(np.float64)
    else:
        numbers = np.empty(len(values))
        for row, value in enumerate(values.tolist()):
            try:
                numbers[row] = math.nan if _missing(value) else float(value)
            except (TypeError, ValueError):
                raise ValueError(
                    f"column {name!r}, row {row + 1}: {value!r} is not a number"
                ) from None
    if (infinite := np.isinf(numbers)).any():
        row = int(np.argmax(infinite))
        raise ValueError(
            f"column {name!r}, row {row + 1}: {numbers[row]} is not finite; correct or remove it"
        )
    return numbers


def to_texts(values: np.ndarray) -> np.ndarray:
    """A column as an object array of str, missing values None."""
    texts = np.empty(len(values), object)
    texts[:] = [None if _missing(value) else _text(value) for value in values.tolist()]
    return texts


def missing(values: np.ndarray) -> np.ndarray:
    """Where a column of `to_numbers` or `to_texts` has no value: (N,) bool."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([value is None for value in values], bool)


def _missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _text(value: Any) -> str:
    """One spelling for one value: a whole number has no point, as polars and pandas disagree."""
    if _is_bool(value):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)
