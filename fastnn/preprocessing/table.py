"""Tables for a network: numeric columns standardised, text columns one-hot."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, Self

import numpy as np

from fastnn.preprocessing.arrays import float_dtype
from fastnn.preprocessing.base import Arrays, Preprocessor, require_fitted
from fastnn.preprocessing.columns import (
    Columns,
    as_columns,
    is_numeric,
    missing,
    pick,
    to_numbers,
    to_texts,
)
from fastnn.preprocessing.scaling import Standardize


class TableEncoder(Preprocessor):
    """The columns of a table as one matrix of features.

    A numeric column becomes its z-score (`Standardize`; a constant column becomes 0). A text or
    boolean column becomes one indicator (0 or 1) for each value it has in the training rows. The
    features stand in the order of the columns; `feature_names` names them ("age", "colour=red").

    Later tables are read by column name: the order of their columns is free, further columns are
    ignored, a missing one is an error. A text that the training rows do not have switches none of
    its column's indicators on, with a UserWarning that names it.

    Parameters
    ----------
    impute : bool
        Fill missing values: with the mean (numbers) or the most frequent value (texts; the first
        in alphabetical order among equals) of the training rows. Without it they are refused.
    dtype : {"float32", "float64"}
        Of the result.
    max_categories : int
        A text column with more different values than that is refused: it is an identifier or free
        text, of which one indicator per value would learn nothing.

    Examples
    --------
    >>> encoder = TableEncoder().fit({"size": [1.0, 3.0], "colour": ["red", "blue"]})
    >>> encoder.feature_names
    ['size', 'colour=blue', 'colour=red']
    >>> encoder.transform({"colour": ["red"], "size": [5.0]})
    array([[3., 0., 1.]], dtype=float32)
    """

    kind = "table"

    def __init__(
        self, impute: bool = False, dtype: str = "float32", max_categories: int = 1000
    ) -> None:
        self.impute = bool(impute)
        self.dtype = float_dtype(dtype)
        self.max_categories = max_categories
        # Column name to its sorted texts, or None for a numeric column; in the order of features.
        self.categories: dict[str, list[str] | None] | None = None
        self.fill: dict[str, str] = {}  # text column to its most frequent value
        self._scaler: Standardize | None = None  # of all numeric columns

    def fit(self, data: Any) -> Self:
        """Learn columns, categories and scales from a table (see `columns.as_columns`).

        Raises
        ------
        TypeError
            A column holds neither numbers nor texts.
        ValueError
            The table is empty, values are missing (without `impute`) or infinite, a column has no
            value at all or too many different texts.
        """
        table = as_columns(data)
        columns = {
            name: to_numbers(values, name) if is_numeric(values, name) else to_texts(values)
            for name, values in table.items()
        }
        self._refuse_missing(columns, fitting=True)
        categories: dict[str, list[str] | None] = {}
        fill = {}
        for name, values in columns.items():
            if values.dtype.kind == "f":
                categories[name] = None
                continue
            counts = Counter(values[~missing(values)].tolist())
            texts = sorted(counts)
            if len(texts) > self.max_categories:
                raise ValueError(
                    f"column {name!r} has {len(texts):,} different texts, at most "
                    f"{self.max_categories:,} can be encoded; leave the column out "
                    f"(on the command line --drop {name}) or group its values"
                )
            categories[name] = texts
            fill[name] = max(texts, key=counts.__getitem__)  # the first among equals
        numbers = _stack([columns[name] for name, texts in categories.items() if texts is None])
        self._scaler = Standardize(self.impute, "float64").fit(numbers) if numbers.size else None
        self.categories, self.fill = categories, fill
        return self

    def transform(self, data: Any) -> np.ndarray:
        """The features of a table, a new (N, D) array of `dtype`.

        Raises
        ------
        RuntimeError
            Before `fit`.
        ValueError
            A column is absent, a number expected and another text found, a value missing (without
            `impute`) or infinite.
        """
        require_fitted(self, self.categories)
        assert self.categories is not None
        table = as_columns(data)
        columns = {}
        for name, texts in self.categories.items():
            values = pick(table, name)
            columns[name] = to_numbers(values, name) if texts is None else to_texts(values)
        self._refuse_missing(columns, fitting=False)
        rows = len(next(iter(table.values())))
        out = np.zeros((rows, len(self.feature_names)), self.dtype)
        if self._scaler is not None:
            numbers = [columns[name] for name, texts in self.categories.items() if texts is None]
            scaled = iter(self._scaler.transform(_stack(numbers)).T)
        feature = 0
        for name, texts in self.categories.items():
            if texts is None:
                out[:, feature] = next(scaled)
                feature += 1
            else:
                self._indicate(columns[name], name, texts, out[:, feature : feature + len(texts)])
                feature += len(texts)
        return out

    def _indicate(self, values: np.ndarray, name: str, texts: list[str], out: np.ndarray) -> None:
        """Switch on the indicator of each row's text in `out` (N, len(texts)), zeros before."""
        index = {text: i for i, text in enumerate(texts)}
        index[None] = index.get(self.fill[name], -1)  # type: ignore[index]  # missing, to impute
        codes = np.array([index.get(value, -1) for value in values], np.int64)
        known = codes >= 0
        out[np.flatnonzero(known), codes[known]] = 1.0
        if not known.all():
            new = sorted(set(values[~known]))
            shown = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
            warnings.warn(
                f"column {name!r}: {np.count_nonzero(~known)} rows hold values that the training "
                f"data did not have ({shown}); they count as none of the known ones",
                UserWarning,
                stacklevel=3,
            )

    def _refuse_missing(self, columns: Columns, fitting: bool) -> None:
        """Raise ValueError for missing values that cannot be filled."""
        holes = {name: np.flatnonzero(missing(values)) for name, values in columns.items()}
        holes = {name: rows for name, rows in holes.items() if len(rows)}
        for name, rows in holes.items():
            if fitting and len(rows) == len(columns[name]):
                raise ValueError(
                    f"column {name!r} is empty in every row; leave it out "
                    f"(on the command line --drop {name})"
                )
        if holes and not self.impute:
            shown = [
                f"{name!r} ({len(rows)} of {len(columns[name])} rows, first row {rows[0] + 1})"
                for name, rows in list(holes.items())[:5]
            ]
            more = f" and {len(holes) - 5} more columns" if len(holes) > 5 else ""
            way_out = (
                "fill them, or use impute=True (on the command line --impute)"
                if fitting
                else "fill them, or train the model with --impute"
            )
            raise ValueError(f"missing values in column {', '.join(shown)}{more}: {way_out}")

    @property
    def feature_names(self) -> list[str]:
        """One name per feature, in their order."""
        require_fitted(self, self.categories)
        assert self.categories is not None
        return [
            feature
            for name, texts in self.categories.items()
            for feature in ([name] if texts is None else [f"{name}={text}" for text in texts])
        ]

    @property
    def columns(self) -> list[str]:
        """The columns that a table must have."""
        require_fitted(self, self.categories)
        return list(self.categories or ())

    @property
    def text_columns(self) -> list[str]:
        """The columns that are read as text, also where all values of a file look like numbers."""
        return [name for name, texts in (self.categories or {}).items() if texts is not None]

    def get_config(self) -> dict[str, Any]:
        require_fitted(self, self.categories)
        assert self.categories is not None
        return {
            "impute": self.impute,
            "dtype": self.dtype.name,
            "max_categories": self.max_categories,
            # A list of pairs, because the order is part of the state.
            "columns": [[name, texts] for name, texts in self.categories.items()],
            "fill": self.fill,
        }

    def get_arrays(self) -> Arrays:
        return {} if self._scaler is None else self._scaler.get_arrays()

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        categories = dict(config.pop("columns"))
        fill = dict(config.pop("fill"))
        new = cls(**config)
        new.categories, new.fill = categories, fill
        if arrays:
            new._scaler = Standardize._restore({"impute": new.impute, "dtype": "float64"}, arrays)
        return new


def _stack(columns: list[np.ndarray]) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.empty((0, 0))
