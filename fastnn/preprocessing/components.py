"""Preprocessors that mix columns: principal components, whitening, and ZCA.

All of them come from the eigenvectors of the covariance matrix, C = Σ (x − mean)(x − mean)ᵀ / N, which is
summed in float64 over blocks of rows in one pass, so that rows too many for memory pass through as well.
It has D² numbers: for images of 3,072 values 75 MB, and about 2·N·D² operations.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np

from fastnn.preprocessing.arrays import blocks, check_finite, float_dtype, matrix, training_blocks
from fastnn.preprocessing.base import Arrays, Preprocessor, require_fitted
from fastnn.preprocessing.scaling import (
    Coefficients,
    Scale,
    check_columns,
    result_array,
    transformed_batches,
)
from fastnn.preprocessing.statistics import TOO_LARGE, column_moments
from fastnn.sources import is_batches

# Rows of a block are the long side of a matrix product: enough of them for its speed.
BLOCK_ELEMENTS, BLOCK_ROWS = 1 << 20, 1024


class Covariance:
    """Count, mean and covariance matrix of the rows of an array or of batches.

    Blocks are merged as `fastnn.preprocessing.statistics` does it, the squares being outer products.

    Raises
    ------
    TypeError, ValueError
        No real numbers, NaN, an infinity, fewer than two rows, or products too large for float64.
    """

    def __init__(self, data: Any) -> None:
        self.count = 0
        width = _width(data)
        elements = BLOCK_ELEMENTS if width is None else max(BLOCK_ELEMENTS, BLOCK_ROWS * width)
        with np.errstate(over="ignore", invalid="ignore"):
            for first, block in training_blocks(data, elements):
                self._see(block, first)
        if self.count < 2:
            raise ValueError("a single row has no covariance: components need at least 2 rows")
        if not np.isfinite(self._products).all():
            raise ValueError(TOO_LARGE)

    def _see(self, block: np.ndarray, first: int) -> None:
        rows = np.ascontiguousarray(block, np.float64)
        mean, m2 = column_moments(rows)
        if not np.isfinite(m2).all():
            check_finite(block, first=first)
            raise ValueError(TOO_LARGE)
        from fastnn import functional  # here: see the package's __init__

        distances = rows - mean
        if not self.count:
            self.mean, self._products = np.zeros_like(mean), np.zeros((mean.size, mean.size))
            self._squares = np.zeros_like(self._products)
        # dw = xᵀ dy of a dense layer whose input and gradient are both the distances
        functional.dense_backward(
            distances, distances, self._products, need_dx=False, need_db=False,
            dw_out=self._squares,
        )  # fmt: skip
        total = self.count + len(rows)
        shift = mean - self.mean if self.count else mean
        self._products += self._squares
        if self.count:
            self._products += np.outer(shift, shift * (self.count * len(rows) / total))
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances, falling, and directions as rows; only those that rounding has not made."""
        values, vectors = np.linalg.eigh(self._products / self.count)
        values, vectors = values[::-1], vectors.T[::-1]
        smallest = values[0] * max(self.count, values.size) * np.finfo(np.float64).eps
        kept = min(int(np.count_nonzero(values > smallest)), self.count - 1)
        if not kept or values[0] <= 0.0:
            raise ValueError("all rows are equal: there is no direction in which they vary")
        vectors = vectors[:kept]
        # The sign of an eigenvector is free: its largest entry is made positive, on any machine.
        largest = np.abs(vectors).argmax(axis=1)
        vectors = vectors * np.sign(vectors[np.arange(kept), largest])[:, None]
        return values[:kept].copy(), vectors


def _width(data: Any) -> int | None:
    shape = getattr(data, "shape", ())
    return int(np.prod(shape[1:])) if len(shape) > 1 else None


class Rotation(Preprocessor):
    """The base of `PCA` and `ZCA`: y = (x - mean) @ matrix.

    Attributes
    ----------
    mean : (D,) float64 array
    directions : (K, D) float64 array
        Of unit length, at right angles to each other, falling in variance.
    variance : (K,) float64 array
        Of the training rows along the directions, with the divisor N.
    """

    def __init__(self, epsilon: float, dtype: str) -> None:
        self.dtype = float_dtype(dtype)
        self.epsilon = float(epsilon)
        if not (np.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon is {epsilon}, expected a number of at least 0")
        self.mean: np.ndarray | None = None
        self.directions: np.ndarray = np.empty((0, 0))
        self.variance: np.ndarray = np.empty(0)

    def _choose(self, variance: np.ndarray, covariance: Covariance) -> int:
        """How many of the directions to keep."""
        return len(variance)

    @abstractmethod
    def _matrix(self) -> np.ndarray:
        """What the centred rows are multiplied by, (D, outputs), float64."""

    def _whitening(self) -> np.ndarray:
        """A factor for each direction."""
        return 1.0 / np.sqrt(self.variance + self.epsilon * self.variance[0])

    def fit(self, data: Any) -> Self:
        """Learn from the training rows.

        Parameters
        ----------
        data : (N, D) array of numbers, N >= 2; (N, …) images; or batches
            Read block by block, once.

        Raises
        ------
        TypeError
            The array does not hold real numbers.
        ValueError
            It is empty, has one row or only equal ones, holds NaN or an infinity; more components
            are asked for than the rows have directions.
        """
        covariance = Covariance(data)
        variance, directions = covariance.eigen()
        kept = self._choose(variance, covariance)
        self.mean = covariance.mean
        self.variance, self.directions = variance[:kept], directions[:kept]
        return self

    def transform(self, data: Any, out: np.ndarray | None = None) -> Any:
        """The rotated rows, (N, outputs); `data`, `out`, result and errors as in `Standardize`."""
        from fastnn import functional  # here: see the package's __init__

        require_fitted(self, self.mean)
        assert self.mean is not None
        if is_batches(data):
            return transformed_batches(self, data, out)
        x = matrix(data)
        check_columns(x, self.mean.size)
        work = np.result_type(x.dtype, self.dtype)
        center = Scale(Coefficients(self.mean, np.ones_like(self.mean)), x.dtype, self.dtype)
        weights = np.ascontiguousarray(self._matrix(), work)
        out = result_array(out, (len(x), weights.shape[1]), self.dtype)
        for rows in blocks(x, BLOCK_ELEMENTS):
            block = x[rows].reshape(-1, x[0].size)
            centred = np.empty(block.shape, work)
            finite = center(block, centred)
            if finite:
                with np.errstate(over="ignore"):
                    out[rows] = functional.dense_forward(centred, weights)
            if not finite or not np.isfinite(out[rows]).all():
                check_finite(block, first=rows.start)
                raise ValueError(TOO_LARGE)
        return out

    def get_config(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon, "dtype": self.dtype.name}

    def get_arrays(self) -> Arrays:
        require_fitted(self, self.mean)
        assert self.mean is not None
        return {"mean": self.mean, "directions": self.directions, "variance": self.variance}

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = cls(**config)
        new.mean, new.variance = arrays["mean"], arrays["variance"]
        new.directions = arrays["directions"]
        return new


class PCA(Rotation):
    """Principal components: the directions of the largest variance become the columns.

    Parameters
    ----------
    components : int or float, optional
        How many; or, below 1, as many as it takes for this share of the whole variance; by default
        all in which the training rows vary, which are at most N - 1 and at most D.
    whiten : bool
        Divide each column by its standard deviation, √(variance + epsilon·largest variance): the
        columns of the training rows are then uncorrelated with variances of (nearly) 1.
    epsilon : float
        Keeps directions of hardly any variance, mostly noise, from being blown up; 0 for the exact
        inverse.
    dtype : {"float32", "float64"}
        Of the result.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> pca = PCA().fit(x)
    >>> pca.variance, pca.transform(x)[:, 0]
    (array([6.25]), array([-3.354102, -1.118034,  1.118034,  3.354102], dtype=float32))
    >>> PCA(whiten=True, epsilon=0).fit(x).transform(x).std(axis=0)
    array([1.], dtype=float32)
    """

    kind = "pca"

    def __init__(
        self,
        components: int | float | None = None,
        whiten: bool = False,
        epsilon: float = 1e-5,
        dtype: str = "float32",
    ) -> None:
        super().__init__(epsilon, dtype)
        share = isinstance(components, float) and 0 < components < 1
        whole = isinstance(components, int | np.integer) and components >= 1
        if (components is not None and not share and not whole) or isinstance(components, bool):
            raise ValueError(
                f"components is {components!r}, expected a number of at least 1, a share of the "
                "variance between 0 and 1, or None"
            )
        self.components = components
        self.whiten = bool(whiten)

    def _choose(self, variance: np.ndarray, covariance: Covariance) -> int:
        if self.components is None:
            return len(variance)
        if self.components < 1:
            shares = np.cumsum(variance) / variance.sum()
            return min(int(np.searchsorted(shares, self.components)) + 1, len(variance))
        if self.components > len(variance):
            raise ValueError(
                f"{self.components} components are asked for, but {covariance.count} rows of "
                f"{covariance.mean.size} columns vary in {len(variance)} directions only: ask for at "
                "most so many, or give more rows"
            )
        return int(self.components)

    def _matrix(self) -> np.ndarray:
        scaled = self.directions * self._whitening()[:, None] if self.whiten else self.directions
        return scaled.T

    def get_config(self) -> dict[str, Any]:
        components = self.components if self.components is None else float(self.components)
        if components is not None and components >= 1:
            components = int(components)
        return {**super().get_config(), "components": components, "whiten": self.whiten}


class ZCA(Rotation):
    """Whitening that stays as close to the data as it can: whitened images still look like images.

    The rows are rotated to their principal components, divided by √(variance + epsilon·largest
    variance), and rotated back. A direction in which the training rows do not vary is dropped: its
    part of any row becomes 0.

    Source: Bell and Sejnowski (1997), The "independent components" of natural scenes are edge filters.

    Parameters
    ----------
    epsilon, dtype
        As in `PCA`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((500, 2)) @ np.array([[2.0, 1.0], [0.0, 0.1]])
    >>> np.cov(ZCA(epsilon=0, dtype="float64").fit(x).transform(x).T, bias=True).round(9) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """

    kind = "zca"

    def __init__(self, epsilon: float = 1e-5, dtype: str = "float32") -> None:
        super().__init__(epsilon, dtype)

    def _matrix(self) -> np.ndarray:
        return (self.directions.T * self._whitening()) @ self.directions
