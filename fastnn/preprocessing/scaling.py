"""Preprocessors that move and scale each column by itself, y = (x - mean) * factor + offset.

The statistics are taken in float64 (`fastnn.preprocessing.statistics`). What rounding the mean to
float32 loses is put back by the offset, so a column with a mean of 1e4 and a spread of 1 is exact to
the last digit of its z-scores.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from fastnn.checks import check_integer
from fastnn.preprocessing.arrays import blocks, check_finite, float_dtype, matrix
from fastnn.preprocessing.base import Arrays, Preprocessor, require_fitted
from fastnn.preprocessing.statistics import TOO_LARGE, ColumnStatistics
from fastnn.sources import Source, as_source, is_batches

# A block is read from memory, scaled, and looked at for NaN while it is in the core's cache, the result
# beside it. Of 50,000 x 3,072 float32 in and out, blocks of a quarter of a megabyte took 1.27 times as long
# as a copy, of 1 MB 1.5 times; stored past the caches 1.5 times, and 1.9 with the look.
BLOCK_ELEMENTS = 1 << 16

_PLAIN: Any = (None, {})  # no activation


class Coefficients(NamedTuple):
    """y = (x - mean) * factor + offset, float64; one of each per column, or per channel."""

    mean: np.ndarray
    factor: np.ndarray
    offset: float = 0.0


class ColumnScaler(Preprocessor):
    """The base of `Center`, `Standardize` and `MinMax`.

    Parameters
    ----------
    impute : bool
        Take NaN for a missing value and put the column's mean in its place. Without it NaN is
        refused. Infinities are always refused.
    dtype : {"float32", "float64"}
        Of the result.
    channels : int, optional
        One statistic for each of so many channels of an image, instead of one for each column.
    channel_order : {"last", "first"}
        Where the channels stand in a row: (height, width, channels) or (channels, height, width).
    """

    _extremes = False  # whether the smallest and largest values are needed
    _state: tuple[str, ...]  # the names of the fitted attributes

    def __init__(
        self,
        impute: bool = False,
        dtype: str = "float32",
        channels: int | None = None,
        channel_order: Literal["last", "first"] = "last",
    ) -> None:
        self.impute = bool(impute)
        self.dtype = float_dtype(dtype)
        self.channels = None if channels is None else check_integer(channels, "channels", 1, 2**31)
        if channel_order not in ("last", "first"):
            raise ValueError(f"channel_order is {channel_order!r}, expected 'last' or 'first'")
        self.channel_order: Literal["last", "first"] = channel_order
        self.columns: int | None = None
        self.mean: np.ndarray | None = None

    @abstractmethod
    def _learn(self, statistics: ColumnStatistics) -> None:
        """Keep what the coefficients need, of each column or channel."""

    @abstractmethod
    def _coefficients(self) -> Coefficients:
        """From what `_learn` has kept."""

    def fit(self, data: Any) -> Self:
        """Learn from the training rows.

        Parameters
        ----------
        data : (N, D) array of numbers, N >= 1; (N, …) images; or batches
            A memory-mapped array is read block by block; so are batches (`fastnn.sources`), once.

        Raises
        ------
        TypeError
            The array does not hold real numbers.
        ValueError
            It is empty, or holds an infinity, or NaN without `impute`, or with `impute` a column of
            nothing but NaN; the channels of the images are not `channels`, or not where
            `channel_order` says; columns cannot be divided into them; the numbers are too large.
        """
        self._check_channels(data)
        statistics = ColumnStatistics(self.impute, self._extremes, self.dtype).fit(data)
        columns = statistics.mean.size
        if self.channels is not None:
            statistics = statistics.by_channel(self._channel_of(columns))
        before = {name: getattr(self, name) for name in ("columns", *self._state)}
        self.columns = columns
        self._learn(statistics)
        with np.errstate(over="ignore", invalid="ignore"):
            coefficients = self._coefficients()
        if not all(np.isfinite(values).all() for values in coefficients):
            self.__dict__.update(before)
            raise ValueError(TOO_LARGE)
        return self

    def _check_channels(self, data: Any) -> None:
        """Where images have an axis of channels: whether it is where it is said to be."""
        shape = getattr(data, "shape", ())
        if self.channels is None or len(shape) < 4:
            return
        axis = -1 if self.channel_order == "last" else 1
        if shape[axis] != self.channels:
            raise ValueError(
                f"images of the shape {tuple(shape[1:])} have {shape[axis]} channels in the order "
                f"{self.channel_order!r}, expected {self.channels}: channel_order is 'last' for "
                "(height, width, channels) and 'first' for (channels, height, width)"
            )

    def _channel_of(self, columns: int) -> np.ndarray:
        assert self.channels is not None
        if columns % self.channels:
            raise ValueError(f"{columns} columns cannot be {self.channels} channels of equal size")
        if self.channel_order == "last":
            return np.arange(columns) % self.channels
        return np.arange(columns) // (columns // self.channels)

    def transform(self, data: Any, out: np.ndarray | None = None) -> Any:
        """The scaled rows.

        Parameters
        ----------
        data : array, as in `fit`; or batches
        out : array of `dtype` and the shape of `data`, optional
            Where the result goes, a memory-mapped array for example; `data` itself where it has that
            dtype. A new array without it.

        Returns
        -------
        ndarray
            `out`, of the shape of `data`. Of batches: a `fastnn.sources.Source` that scales each
            batch when it is read. Where an error ends it, `out` holds the rows before that.

        Raises
        ------
        RuntimeError
            Before `fit`.
        TypeError, ValueError
            As in `fit`; also where the number of columns is another one, or `out` does not fit.
        """
        require_fitted(self, self.mean)
        if is_batches(data):
            return transformed_batches(self, data, out)
        assert self.columns is not None
        x = matrix(data)
        check_columns(x, self.columns)
        self._check_channels(x)
        out = result_array(out, x.shape, self.dtype)
        scale = Scale(self._per_column(), x.dtype, self.dtype)
        for rows in blocks(x, BLOCK_ELEMENTS):
            block, into = x[rows].reshape(-1, self.columns), out[rows].reshape(-1, self.columns)
            missing = np.isnan(block) if self.impute and x.dtype.kind == "f" else None
            # One look at the result finds bad input and overflow alike.
            if not scale(block, into):
                if missing is not None:
                    into[missing] = self._filled(missing)
                if not np.isfinite(into).all():
                    check_finite(block, allow_nan=self.impute, first=rows.start)
                    raise ValueError(TOO_LARGE)
        return out

    def _per_column(self) -> Coefficients:
        mean, factor, offset = self._coefficients()
        if self.channels is not None:
            assert self.columns is not None
            channel = self._channel_of(self.columns)
            mean, factor = mean[channel], factor[channel]
        return Coefficients(mean, factor, offset)

    def _filled(self, missing: np.ndarray) -> Any:
        """What missing values become: the scaled mean."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"impute": self.impute, "dtype": self.dtype.name}
        if self.channels is not None:
            config |= {"channels": self.channels, "channel_order": self.channel_order}
        return config

    def get_arrays(self) -> Arrays:
        require_fitted(self, self.mean)
        arrays = {name: np.atleast_1d(getattr(self, name)) for name in self._state}
        if self.channels is not None:
            arrays["columns"] = np.array([self.columns])
        return arrays

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = cls(**config)
        for name in cls._state:
            setattr(new, name, arrays[name])
        assert new.mean is not None
        new.columns = int(arrays["columns"][0]) if "columns" in arrays else len(new.mean)
        return new


class Center(ColumnScaler):
    """The mean row taken off (the mean image), or the mean of each channel.

    The choice for images: their pixels share one unit, and one that hardly varies should not be blown
    up to the spread of the others, so each is centred and none is scaled by itself.

    Parameters
    ----------
    impute, dtype, channels, channel_order
        As in `ColumnScaler`.
    scale : float or "range"
        One number that all values are divided by, which only changes their unit: 1 for none, 255
        for bytes, "range" for the range of all training values (1 if they are equal).

    Attributes
    ----------
    mean : (D,) or (channels,) float64 array
        Of the training rows.
    scale : float
        After `fit` always a number.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0, 100], [200, 100]], np.uint8)
    >>> Center().fit(x).transform(np.array([[100, 200]], np.uint8))
    array([[  0., 100.]], dtype=float32)
    >>> Center(scale="range").fit(x).transform(np.array([[100, 200]], np.uint8))
    array([[0. , 0.5]], dtype=float32)
    """

    kind = "center"
    _state = ("mean", "scale")

    def __init__(
        self,
        impute: bool = False,
        dtype: str = "float32",
        channels: int | None = None,
        channel_order: Literal["last", "first"] = "last",
        scale: float | Literal["range"] = 1.0,
    ) -> None:
        super().__init__(impute, dtype, channels, channel_order)
        self._extremes = scale == "range"
        if scale != "range" and not (np.isreal(scale) and np.isfinite(scale) and scale > 0):
            raise ValueError(f"scale is {scale!r}, expected a number above 0, or 'range'")
        self.scale: Any = scale

    def _learn(self, statistics: ColumnStatistics) -> None:
        self.mean = statistics.mean
        if self._extremes:
            self.scale = float(np.max(statistics.high) - np.min(statistics.low)) or 1.0

    def _coefficients(self) -> Coefficients:
        assert self.mean is not None
        factor = 1.0 / self.scale if np.isfinite(self.scale) else np.nan
        return Coefficients(self.mean, np.full_like(self.mean, factor))

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = super()._restore(config, arrays)
        new.scale = float(arrays["scale"][0])
        return new


class Standardize(ColumnScaler):
    """Z-scores: every column with mean 0 and standard deviation 1 over the training rows.

    A column that is constant in the training rows says nothing there and becomes 0, in training
    and ever after, whatever value it takes later: the network has never seen it vary.

    Parameters
    ----------
    impute, dtype, channels, channel_order
        As in `ColumnScaler`.

    Attributes
    ----------
    mean, std : (D,) or (channels,) float64 arrays
        Of the training rows, the standard deviation with the divisor N.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = Standardize().fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.transform(np.array([[1.0, 7.0], [4.0, 9.0]]))
    array([[-1.,  0.],
           [ 2.,  0.]], dtype=float32)
    """

    kind = "standardize"
    _state = ("mean", "std")

    def __init__(
        self,
        impute: bool = False,
        dtype: str = "float32",
        channels: int | None = None,
        channel_order: Literal["last", "first"] = "last",
    ) -> None:
        super().__init__(impute, dtype, channels, channel_order)
        self.std: np.ndarray | None = None

    def _learn(self, statistics: ColumnStatistics) -> None:
        self.mean, self.std = statistics.mean, np.sqrt(statistics.m2 / statistics.count)

    def _coefficients(self) -> Coefficients:
        assert self.mean is not None and self.std is not None
        return Coefficients(self.mean, _inverse(self.std))


class MinMax(ColumnScaler):
    """Every column from `low` to `high` over the training rows.

    Later rows may go beyond. A column that is constant in the training rows becomes `low`, then and
    ever after.

    Parameters
    ----------
    impute, dtype, channels, channel_order
        As in `ColumnScaler`.
    low, high : float
        With low < high.

    Attributes
    ----------
    mean, minimum, maximum : (D,) or (channels,) float64 arrays
        Of the training rows.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = MinMax().fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.transform(np.array([[2.0, 7.0], [4.0, 9.0]]))
    array([[0.5, 0. ],
           [1.5, 0. ]], dtype=float32)
    """

    kind = "minmax"
    _extremes = True
    _state = ("mean", "minimum", "maximum")

    def __init__(
        self,
        impute: bool = False,
        dtype: str = "float32",
        channels: int | None = None,
        channel_order: Literal["last", "first"] = "last",
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(impute, dtype, channels, channel_order)
        self.low, self.high = float(low), float(high)
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"low is {low} and high {high}, expected two numbers with low < high")
        self.minimum: np.ndarray | None = None
        self.maximum: np.ndarray | None = None

    def _learn(self, statistics: ColumnStatistics) -> None:
        self.mean = statistics.mean
        self.minimum = statistics.low.astype(np.float64)
        self.maximum = statistics.high.astype(np.float64)

    def _coefficients(self) -> Coefficients:
        assert self.minimum is not None and self.maximum is not None
        factor = (self.high - self.low) * _inverse(self.maximum - self.minimum)
        return Coefficients(self.minimum, factor, self.low)

    def _filled(self, missing: np.ndarray) -> Any:
        low, factor, offset = self._per_column()
        assert self.mean is not None
        mean = self.mean if self.channels is None else self.mean[self._channel_of(len(low))]
        return np.broadcast_to((mean - low) * factor + offset, missing.shape)[missing]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}


class Scale:
    """y = (x - mean) * factor + offset of blocks (n, D), through the kernel of batch norm.

    Bytes and float32 are scaled in float32; where a float32 cannot hold the difference of two inputs,
    in float64.
    """

    def __init__(self, coefficients: Coefficients, given: np.dtype, wanted: np.dtype) -> None:
        self.work = np.result_type(given, wanted)
        mean, factor, offset = coefficients
        with np.errstate(over="ignore"):
            self.mean, self.factor = mean.astype(self.work), factor.astype(self.work)
            lost = (mean - self.mean) * factor
            self.shift = (offset - np.where(np.isfinite(lost), lost, 0.0)).astype(self.work)
        self.ones = np.ones_like(self.mean)

    def __call__(self, x: np.ndarray, out: np.ndarray) -> bool:
        """Scale x into out; whether all of it is finite."""
        from fastnn._kernels import batchnorm, updates  # here: see the package's __init__

        block = np.ascontiguousarray(x, self.work)
        y = out if out.dtype == self.work and out.flags.carray else np.empty_like(block)
        batchnorm.reapply(block, self.factor, self.shift, self.mean, self.ones, _PLAIN, y)
        if y is not out:
            with np.errstate(over="ignore"):
                out[...] = y
            return bool(np.isfinite(out).all())
        return updates.all_finite(y)


def _inverse(spread: np.ndarray) -> np.ndarray:
    """1 / spread, and 0 where nothing spreads."""
    constant = spread == 0.0
    return np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))


def transformed_batches(preprocessor: Preprocessor, data: Any, out: Any) -> Source:
    """Batches whose inputs are transformed when they are read."""
    if out is not None:
        raise TypeError("batches are transformed when they are read: leave out away")
    source = as_source(data)
    assert source is not None
    return source.transformed(preprocessor)


def check_columns(x: np.ndarray, columns: int | None) -> None:
    """Raise ValueError unless a row has so many numbers."""
    if x[0].size != columns:
        raise ValueError(f"got {x[0].size} columns, expected the {columns} of the training data")


def result_array(out: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array, or `out` where it fits."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else repr(out)[:40]
        raise ValueError(f"out is {given}, expected an array of {dtype} {shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be writable and in C order")
    return out
