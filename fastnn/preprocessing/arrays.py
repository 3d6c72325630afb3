"""Preprocessing of arrays: each column moved and scaled, y = (x - mean) * factor.

The statistics are taken in float64, in two passes (the mean first, then the squares of the
distances from it: no cancellation), over blocks of rows that stay in the cache; so memory-mapped
arrays larger than memory pass through as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from fastnn.preprocessing.base import Arrays, Preprocessor, require_fitted

# Elements per block: 1 MB of float64, about what a core's own cache holds.
BLOCK_ELEMENTS = 1 << 17


class _Affine(Preprocessor):
    """(x - mean) * factor; the subclasses say what the factor is."""

    def __init__(self, impute: bool = False, dtype: str = "float32") -> None:
        self.impute = bool(impute)
        self.dtype = float_dtype(dtype)
        self.mean: np.ndarray | None = None

    @abstractmethod
    def _fit_scale(self, x: np.ndarray) -> None:
        """Learn what the factor needs; the mean is known."""

    @abstractmethod
    def _factor(self) -> np.ndarray:
        """A number per column, float64."""

    def fit(self, data: Any) -> Self:
        """Learn from the rows of `data`.

        Parameters
        ----------
        data : (N, D) array of numbers, N >= 1

        Raises
        ------
        TypeError
            The array does not hold real numbers.
        ValueError
            It is empty, has another number of axes, or holds an infinity, or NaN without
            `impute`, or with `impute` a column of nothing but NaN.
        """
        x = matrix(data)
        total = np.zeros(x.shape[1])
        count = np.zeros(x.shape[1], np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            for rows in _blocks(x):
                block = x[rows].astype(np.float64)
                if self.impute and (missing := np.isnan(block)).any():
                    block[missing] = 0.0
                    count -= missing.sum(axis=0)
                count += len(block)
                total += block.sum(axis=0)
            if (count == 0).any():
                column = int(np.argmin(count))
                raise ValueError(f"column {column} has no value at all: leave it out")
            mean = total / count
            if not np.isfinite(mean).all():
                check_finite(x, allow_nan=self.impute)
                raise ValueError(_TOO_LARGE)
            self.mean = mean
            self._fit_scale(x)
            if not np.isfinite(self._factor()).all():
                self.mean = None
                raise ValueError(_TOO_LARGE)
        return self

    def transform(self, data: Any) -> np.ndarray:
        """The scaled rows, a new (N, D) array of `dtype`.

        Raises
        ------
        RuntimeError
            Before `fit`.
        TypeError, ValueError
            As in `fit`; also where the number of columns is another one.
        """
        require_fitted(self, self.mean)
        assert self.mean is not None
        x = matrix(data)
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"got {x.shape[1]} columns, expected the {len(self.mean)} of the training data"
            )
        out = np.empty(x.shape, self.dtype)
        # Bytes and float32 are scaled in float32 (twice as fast); where a float32 cannot hold the
        # difference of two inputs, in float64.
        work = np.result_type(x.dtype, self.dtype)
        mean, factor = self.mean.astype(work), self._factor().astype(work)
        for rows in _blocks(x):
            with np.errstate(over="ignore", invalid="ignore"):
                moved = np.subtract(x[rows], mean, dtype=work)
                np.multiply(moved, factor, out=out[rows], casting="same_kind")
            # One look at the result finds bad input and overflow alike.
            if not np.isfinite(out[rows]).all():
                if self.impute:  # the mean, which was just moved to zero
                    out[rows][np.isnan(x[rows])] = 0.0
                if not np.isfinite(out[rows]).all():
                    check_finite(x, allow_nan=self.impute)
                    raise ValueError(_TOO_LARGE)
        return out

    def get_config(self) -> dict[str, Any]:
        return {"impute": self.impute, "dtype": self.dtype.name}


class Standardize(_Affine):
    """Z-scores: every column with mean 0 and standard deviation 1 over the training rows.

    A column that is constant in the training rows says nothing there and becomes 0, in training
    and ever after, whatever value it takes later: the network has never seen it vary.

    Parameters
    ----------
    impute : bool
        Take NaN for a missing value and put the column's mean in its place (so it becomes 0).
        Without it NaN is refused. Infinities are always refused.
    dtype : {"float32", "float64"}
        Of the result.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = Standardize().fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.transform(np.array([[1.0, 7.0], [4.0, 9.0]]))
    array([[-1.,  0.],
           [ 2.,  0.]], dtype=float32)
    """

    kind = "standardize"

    def __init__(self, impute: bool = False, dtype: str = "float32") -> None:
        super().__init__(impute, dtype)
        self.std: np.ndarray | None = None

    def _fit_scale(self, x: np.ndarray) -> None:
        assert self.mean is not None
        squares = np.zeros_like(self.mean)
        count = np.zeros(len(self.mean), np.int64)
        low, high = np.full_like(self.mean, np.inf), np.full_like(self.mean, -np.inf)
        for rows in _blocks(x):
            block = x[rows].astype(np.float64)
            low = np.fmin(low, np.fmin.reduce(block, axis=0))
            high = np.fmax(high, np.fmax.reduce(block, axis=0))
            block -= self.mean
            if self.impute:
                present = ~np.isnan(block)
                count += present.sum(axis=0)
                block[~present] = 0.0
            else:
                count += len(block)
            squares += np.einsum("nd,nd->d", block, block)
        std = np.sqrt(squares / count)
        # By the range, not by std == 0: the mean of equal numbers is rounded, so that their
        # standard deviation may come out as 1e-17, and the z-scores as noise.
        std[low == high] = 0.0
        self.std = std

    def _factor(self) -> np.ndarray:
        assert self.std is not None
        constant = self.std == 0.0
        return np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, self.std))

    def get_arrays(self) -> Arrays:
        require_fitted(self, self.mean)
        assert self.mean is not None and self.std is not None
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = cls(**config)
        new.mean, new.std = arrays["mean"], arrays["std"]
        return new


class Center(_Affine):
    """The mean row taken off, and all columns divided by one number: the choice for images.

    The pixels of an image share their unit, and a pixel that hardly varies should not be blown up
    to the spread of the others: so each column is centred, but none is scaled by itself. The
    common divisor is the range of all training values (255 for byte images), 1 if they are equal.

    Parameters
    ----------
    impute, dtype
        As in `Standardize`.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = Center().fit(np.array([[0, 100], [200, 100]], np.uint8))
    >>> scaler.transform(np.array([[100, 200]], np.uint8))
    array([[0. , 0.5]], dtype=float32)
    """

    kind = "center"

    def __init__(self, impute: bool = False, dtype: str = "float32") -> None:
        super().__init__(impute, dtype)
        self.scale: float | None = None

    def _fit_scale(self, x: np.ndarray) -> None:
        # fmin and fmax pass over the NaN that `fit` has allowed.
        low = min(float(np.fmin.reduce(x[rows], axis=None)) for rows in _blocks(x))
        high = max(float(np.fmax.reduce(x[rows], axis=None)) for rows in _blocks(x))
        self.scale = high - low or 1.0

    def _factor(self) -> np.ndarray:
        assert self.mean is not None and self.scale is not None
        return np.full_like(self.mean, 1.0 / self.scale if np.isfinite(self.scale) else np.nan)

    def get_arrays(self) -> Arrays:
        require_fitted(self, self.mean)
        assert self.mean is not None and self.scale is not None
        return {"mean": self.mean, "scale": np.array([self.scale])}

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = cls(**config)
        new.mean, new.scale = arrays["mean"], float(arrays["scale"][0])
        return new


def float_dtype(name: Any) -> np.dtype:
    """np.float32 or np.float64 from a name or dtype; ValueError for anything else."""
    dtype = np.dtype(name)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype.name}, expected float32 or float64")
    return dtype


def matrix(data: Any, name: str = "the data") -> np.ndarray:
    """`data` as a non-empty (N, D) array of real numbers; an array is not copied."""
    x = np.asarray(data)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: the type is {x.dtype}, expected real numbers")
    if x.ndim != 2:
        raise ValueError(f"{name}: the shape is {x.shape}, expected (rows, columns)")
    if not x.size:
        raise ValueError(f"{name}: empty, of {x.shape[0]} rows and {x.shape[1]} columns")
    return x


def _blocks(x: np.ndarray) -> Iterator[slice]:
    rows = max(1, BLOCK_ELEMENTS // x.shape[1])
    return (slice(start, start + rows) for start in range(0, len(x), rows))


_TOO_LARGE = "some numbers are too large to be scaled: bring them into a smaller range first"


def check_finite(data: Any, name: str = "the data", allow_nan: bool = False) -> np.ndarray:
    """`matrix(data)`, without an infinity and, unless allowed, without NaN.

    Raises
    ------
    TypeError
        No real numbers.
    ValueError
        Names the row and the column, both from 0, of the first bad value.
    """
    x = matrix(data, name)
    if x.dtype.kind != "f":
        return x
    for rows in _blocks(x):
        block = x[rows]
        bad = np.isinf(block) if allow_nan else ~np.isfinite(block)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            where = f"row {rows.start + row}, column {column} (counted from 0)"
            if np.isnan(block[row, column]):
                raise ValueError(
                    f"{name}: NaN in {where}; remove such rows, or use impute=True (on the command "
                    "line --impute) to put the column's mean in place of missing values"
                )
            raise ValueError(f"{name}: infinity in {where}; every value must be finite")
    return x
