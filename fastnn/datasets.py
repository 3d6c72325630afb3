"""Data to train on: the digits of scikit-learn, `.npz` files, and fair splits."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastnn.preprocessing.arrays import check_finite
from fastnn.preprocessing.target import TargetEncoder

Inputs = TypeVar("Inputs", np.ndarray, Mapping[str, np.ndarray])


@dataclass
class Dataset:
    """Rows to learn from and rows to test on.

    Attributes
    ----------
    X_train, X_test : (N, D) array, or dict of (N,) columns
        The inputs as they came, not yet scaled. Without a test split `X_test` is None.
    y_train, y_test : (N,) or (N, K) array
        The targets as they came.
    """

    X_train: Any
    y_train: np.ndarray
    X_test: Any = None
    y_test: np.ndarray | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows the two splits have."""
        return len(self.y_train), 0 if self.y_test is None else len(self.y_test)


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits that come with scikit-learn: 8×8 pixels, values 0 to 16.

    Parameters
    ----------
    test_fraction, seed
        As in `split`; the split keeps the shares of the ten digits.

    Raises
    ------
    ImportError
        scikit-learn is not installed (the `demo` extra).

    Examples
    --------
    >>> data = digits()
    >>> data.X_train.shape, data.rows
    ((1438, 64), (1438, 359))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'fastnn[demo]'"
        ) from None
    X, y = load_digits(return_X_y=True)
    return divide(X.astype(np.uint8), y, test_fraction, seed)


def load_npz(
    path: str | os.PathLike[str],
    test_fraction: float | None = None,
    seed: int = 0,
    task: str = "auto",
    allow_nan: bool = False,
) -> Dataset:
    """Read an `.npz` with `X`, `y`, or with `X_train`, `y_train` and `X_test`, `y_test`.

    Inputs of more than two axes (images) are flattened to (N, D).

    Parameters
    ----------
    path : path
    test_fraction : float, optional
        As in `split`, by default 0.2; for a file that does not bring its own split.
    seed, task
        As in `divide`.
    allow_nan : bool
        Let NaN in the inputs pass, as missing values that a preprocessor will fill.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not an `.npz` or damaged, holds other names, object arrays, arrays of unequal length,
        or inputs that are not finite; a test fraction is given and a split is there already.
    TypeError
        The inputs are not real numbers.
    """
    arrays = read_npz(path)
    if "X_train" in arrays and "y_train" in arrays:
        train = _pair(arrays, "X_train", "y_train", path, allow_nan)
        if ("X_test" in arrays) != ("y_test" in arrays):
            raise ValueError(f"{path} holds only one of X_test and y_test, expected both or none")
        if "X_test" in arrays:
            if test_fraction is not None:
                raise ValueError(f"{path} brings its own test rows, no fraction can be chosen")
            test = _pair(arrays, "X_test", "y_test", path, allow_nan)
            if train[0].shape[1] != test[0].shape[1]:
                raise ValueError(
                    f"{path}: the rows of X_train have {train[0].shape[1]} numbers, those of "
                    f"X_test {test[0].shape[1]}; expected the same"
                )
            return Dataset(*train, *test)
    elif "X" in arrays and "y" in arrays:
        train = _pair(arrays, "X", "y", path, allow_nan)
    else:
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'no arrays'}; expected X and y, or X_train, "
            "y_train, X_test and y_test"
        )
    return divide(*train, 0.2 if test_fraction is None else test_fraction, seed, task)


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; pickled objects are never loaded.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not an `.npz`, is damaged, or holds object arrays.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        # NumPy takes what it does not know for a pickle and says so; that helps nobody here.
        reason = "" if "pickle" in str(error) else f" ({error})"
        if "Object arrays" in str(error):
            reason = " (it holds Python objects, which could run code: store plain arrays)"
        raise ValueError(f"{path} cannot be read as an .npz of arrays{reason}") from None


def flatten(X: np.ndarray) -> np.ndarray:
    """(N, …) to (N, D): every row, an image for example, end to end."""
    return X.reshape(len(X), -1) if X.ndim > 2 else X


def divide(
    X: Inputs,
    y: np.ndarray,
    test_fraction: float = 0.2,
    seed: int = 0,
    task: str = "auto",
    name: str = "y",
) -> Dataset:
    """Split rows into a `Dataset`, a classification so that both splits have the same shares.

    Parameters
    ----------
    X : (N, D) array, or mapping of (N,) columns
    y : (N, …) array
    test_fraction, seed
        As in `split`.
    task : {"auto", "classification", "regression"}
    name : str
        Both as in `fastnn.preprocessing.TargetEncoder`.

    Raises
    ------
    ValueError
        As in `split` and `TargetEncoder.fit`.
    """
    target = TargetEncoder(task, name).fit(y)
    train, test = split(target.transform(y), test_fraction, seed, target.task == "classification")
    if not len(test):
        return Dataset(X, y)
    return Dataset(_rows(X, train), y[train], _rows(X, test), y[test])


def split(
    y: np.ndarray, test_fraction: float, seed: int = 0, stratify: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Choose test rows at random, the same ones for the same arguments.

    Parameters
    ----------
    y : (N, …) array
        The targets; their number, and with `stratify` their values count.
    test_fraction : float
        The share of the rows to test on, at least 0 and below 1.
    seed : int
    stratify : bool
        Give every class of `y` the same share in both splits, to the nearest row. A class of a
        single row stays in the training rows.

    Returns
    -------
    train, test : int64 arrays
        Row numbers, ascending.

    Raises
    ------
    ValueError
        The fraction is out of range, or leaves no row for one of the splits.

    Examples
    --------
    >>> import numpy as np
    >>> train, test = split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25)
    >>> len(train), len(test)
    (6, 2)
    """
    if not 0 <= test_fraction < 1:
        raise ValueError(f"the test fraction is {test_fraction}, expected at least 0 and below 1")
    rng = np.random.default_rng(seed)
    rows = len(y)
    order = rng.permutation(rows)
    classes = np.unique(y, return_inverse=True)[1].ravel() if stratify else np.zeros(rows, int)
    chosen = []
    for label in range(int(classes.max(initial=-1)) + 1):
        members = order[classes[order] == label]
        count = min(round(test_fraction * len(members)), len(members) - 1)
        chosen.append(members[:count])
    test = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    train = np.setdiff1d(np.arange(rows), test, assume_unique=True)
    if not len(train) or (test_fraction > 0 and not len(test)):
        raise ValueError(
            f"{rows} rows are too few to keep the fraction {test_fraction} of them for a test"
        )
    return train, test


def _rows(X: Any, rows: np.ndarray) -> Any:
    if isinstance(X, Mapping):
        return {name: column[rows] for name, column in X.items()}
    return X[rows]


def _pair(
    arrays: Mapping[str, np.ndarray], x_name: str, y_name: str, path: Any, allow_nan: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of as many rows, the inputs checked."""
    X, y = arrays[x_name], arrays[y_name]
    if X.ndim < 2 or y.ndim < 1:
        raise ValueError(
            f"{path}: {x_name} has the shape {X.shape} and {y_name} {y.shape}, expected "
            "(rows, …) with at least two axes and (rows,)"
        )
    if len(X) != len(y):
        raise ValueError(
            f"{path}: {x_name} has {len(X)} rows and {y_name} {len(y)}, expected as many"
        )
    X = flatten(X)
    check_finite(X, f"{path}: {x_name}", allow_nan)
    return X, y
