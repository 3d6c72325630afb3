"""From the DATA and FILE of a command line to arrays and columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import datasets
from fastnn.datasets import Dataset
from fastnn.preprocessing import Preparation, TableEncoder
from fastnn.preprocessing.columns import is_numeric, pick, to_numbers

DIGITS = "digits"
TABLES = (".csv", ".parquet")
ARRAYS = (".npz",)

# The split does not follow --seed, so that runs with different seeds are tested on the same rows.
SPLIT_SEED = 0


def is_table(source: str) -> bool:
    """Whether the source is read into columns rather than an array.

    Raises
    ------
    ValueError
        It is neither `digits` nor a file of a known kind.
    """
    ending = Path(source).suffix.lower()
    if ending in TABLES:
        return True
    if source == DIGITS or ending in ARRAYS:
        return False
    raise ValueError(
        f"what is {source!r}? expected {DIGITS}, or a file that ends in "
        f"{', '.join(ARRAYS + TABLES)}"
    )


def keep_inputs(inputs: Sequence[str], outputs: Sequence[Path]) -> None:
    """Raise ValueError where a file to be written is one that is read: nothing shall be lost."""
    for path in outputs:
        for source in inputs:
            if path.exists() and Path(source).exists() and path.samefile(source):
                raise ValueError(
                    f"{path} is an input and would be overwritten; choose another --out"
                )


def load_training(
    source: str,
    *,
    target: str | None,
    drop: Sequence[str],
    test_fraction: float | None,
    task: str,
    impute: bool,
) -> Dataset:
    """The rows to train and to test on.

    What is wrong with them is found here, before the rows are split, so that the errors can name
    the rows of the file.

    Raises
    ------
    TypeError, ValueError, OSError, ImportError
        With one line for the user.
    """
    if is_table(source):
        return _load_table(source, target, drop, test_fraction, task, impute)
    for option, given in (("--target", target is not None), ("--drop", bool(drop))):
        if given:
            raise ValueError(f"{option} names columns of a table, {source} has none")
    if source == DIGITS:
        return datasets.digits(_or_usual(test_fraction), SPLIT_SEED)
    return datasets.load_npz(source, test_fraction, SPLIT_SEED, task, allow_nan=impute)


def _load_table(
    source: str,
    target: str | None,
    drop: Sequence[str],
    test_fraction: float | None,
    task: str,
    impute: bool,
) -> Dataset:
    from fastnn.tables import read_table

    columns = read_table(source, drop=drop)
    if target is None:
        raise ValueError(
            f"which column of {source} is to be predicted? give --target with one of: "
            f"{', '.join(columns)}"
        )
    y = pick(columns, target)
    inputs = {name: column for name, column in columns.items() if name != target}
    if not inputs:
        raise ValueError(f"{source} has no column beside the target {target!r}")
    TableEncoder(impute).fit(inputs)
    return datasets.divide(inputs, y, _or_usual(test_fraction), SPLIT_SEED, task, target)


def _or_usual(test_fraction: float | None) -> float:
    return 0.2 if test_fraction is None else test_fraction


def load_inputs(source: str, preprocessing: Any) -> Any:
    """The inputs to predict from, as the preprocessing of a model (or None) takes them.

    Of an `.npz`: `X`, or without one `X_test`. `digits` are the rows that training left out.

    Raises
    ------
    ValueError, OSError, ImportError
        With one line for the user.
    """
    inputs = preprocessing.inputs if isinstance(preprocessing, Preparation) else preprocessing
    encoder = inputs if isinstance(inputs, TableEncoder) else None
    if is_table(source):
        from fastnn.tables import read_table

        columns = read_table(source, text=encoder.text_columns if encoder else ())
        return columns if encoder else _as_matrix(source, columns)
    if encoder is not None:
        raise ValueError(
            f"the model was trained on a table with the columns {', '.join(encoder.columns)}; "
            f"expected a file that ends in {' or '.join(TABLES)}, got {source}"
        )
    if source == DIGITS:
        return datasets.digits(seed=SPLIT_SEED).X_test
    arrays = datasets.read_npz(source)
    for name in ("X", "X_test"):
        if name in arrays:
            return datasets.flatten(arrays[name])
    raise ValueError(f"{source} holds {', '.join(arrays) or 'no arrays'}; expected X or X_test")


def _as_matrix(source: str, columns: dict[str, np.ndarray]) -> np.ndarray:
    """A table for a model that was trained on an array: its columns in their order."""
    for name, column in columns.items():
        if not is_numeric(column, name):
            raise ValueError(
                f"{source}: the column {name!r} holds texts, but the model was trained on numbers"
            )
    return np.stack([to_numbers(column, name) for name, column in columns.items()], axis=1)
