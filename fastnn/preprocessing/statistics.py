"""Statistics of columns over any number of rows, in one pass, without cancellation.

A block of rows gives its means and its sums of squared distances from them (M2); blocks are merged by
Chan, Golub and LeVeque (1979), equation 2.1:

    mean = mean_a + d n_b / n        M2 = M2_a + M2_b + d² n_a n_b / n        d = mean_b − mean_a

all in float64, and for float64 data relative to their first row. So a mean of 1e4 with a spread of 1 in
float32, or of 1e9 in float64, costs nothing, and equal numbers have the M2 0 exactly: every distance in a
column of them is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.preprocessing.arrays import check_finite, training_blocks

# The kernel reads memory once and keeps to its own pieces of it: blocks for it to cut for the threads.
BLOCK_ELEMENTS = 1 << 21

# The kernel takes the squares of 128 rows of float32 in float32; outside of these bounds of their mean
# they may have left its range, and are taken again in float64.
SQUARES = 1e-30, 1e30

TOO_LARGE = "some numbers are too large to be scaled: bring them into a smaller range first"


class ColumnStatistics:
    """Count, mean and M2 of each column; with `extremes` also the smallest and the largest value.

    Parameters
    ----------
    impute : bool
        Pass over NaN.
    extremes : bool
    dtype : numpy.dtype
        Of what the statistics are for. float32: data that float32 can hold are summed as that, 128 rows
        at a time, and those sums as float64; the relative error of a standard deviation is that of
        rounding it to float32 (1e-7; 1e-5 where an outlier is the first row). float64: all sums are.
    """

    def __init__(
        self,
        impute: bool = False,
        extremes: bool = False,
        dtype: np.dtype | type = np.float64,
    ) -> None:
        self.impute, self.extremes, self.dtype = impute, extremes, dtype
        self.count: Any = 0
        self.mean: Any = 0.0
        self.m2: Any = 0.0
        self.low: Any = np.inf
        self.high: Any = -np.inf
        self._origin: Any = None

    def fit(self, data: Any) -> ColumnStatistics:
        """See all rows of an array or of batches.

        Raises
        ------
        TypeError, ValueError
            No real numbers, NaN without `impute`, an infinity, a column of nothing but NaN, or
            squares too large for float64.
        """
        for first, block in training_blocks(data, BLOCK_ELEMENTS):
            count, mean, m2 = self._of(block, first)
            if self.extremes:
                # those which pass over NaN are slower
                least, most = (np.fmin, np.fmax) if self.impute else (np.minimum, np.maximum)
                self.low = least(self.low, least.reduce(block, axis=0))
                self.high = most(self.high, most.reduce(block, axis=0))
            total = self.count + count
            with np.errstate(over="ignore", invalid="ignore"):
                share = count / np.maximum(total, 1)
                known = np.asarray(self.count) > 0
                distance = np.where(known, mean - self.mean, 0.0)
                self.mean = np.where(known, self.mean + distance * share, mean)
                self.m2 = self.m2 + m2 + distance**2 * (self.count * share)
            self.count = total
        if not np.all(self.count):
            column = int(np.argmin(self.count))
            raise ValueError(f"column {column} has no value at all: leave it out")
        self.mean = self.mean + self._origin
        if not (np.isfinite(self.mean).all() and np.isfinite(self.m2).all()):
            raise ValueError(TOO_LARGE)
        return self

    def _of(self, block: np.ndarray, first: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """Count, mean (from the origin) and M2 of one block."""
        rows = as_float(block, self.dtype)
        if rows.dtype == np.float64:
            if self._origin is None:
                self._origin = np.nan_to_num(rows[0])
            with np.errstate(over="ignore"):
                rows = rows - self._origin
        elif self._origin is None:
            self._origin = 0.0
        mean, m2 = column_moments(rows)
        if np.isfinite(mean).all():
            return len(rows), mean, m2
        check_finite(block, allow_nan=self.impute, first=first)
        missing = np.isnan(rows)
        if not missing.any():  # all are finite, only their sum is not
            raise ValueError(TOO_LARGE)
        count = len(rows) - missing.sum(axis=0)
        origin = np.fmin.reduce(rows, axis=0).astype(np.float64)
        origin[count == 0] = 0.0
        distances = np.where(missing, 0.0, rows - origin)
        offset = distances.sum(axis=0) / np.maximum(count, 1)
        distances = np.where(missing, 0.0, distances - offset)
        return count, origin + offset, np.einsum("nd,nd->d", distances, distances)

    def by_channel(self, channel: np.ndarray) -> ColumnStatistics:
        """The same for groups of columns; `channel` (D,) has the number of each column's group."""
        channels = int(channel.max()) + 1
        merged = ColumnStatistics(self.impute, self.extremes)
        count = np.broadcast_to(self.count, channel.shape)
        merged.count = np.bincount(channel, count)
        # Around one of the means, so that equal ones give their value exactly.
        origin = np.zeros(channels)
        origin[channel] = self.mean
        offset = np.bincount(channel, count * (self.mean - origin[channel])) / merged.count
        merged.mean = origin + offset
        distance = self.mean - merged.mean[channel]
        merged.m2 = np.bincount(channel, self.m2 + count * distance**2)
        if self.extremes:
            merged.low, merged.high = np.full(channels, np.inf), np.full(channels, -np.inf)
            np.minimum.at(merged.low, channel, self.low)
            np.maximum.at(merged.high, channel, self.high)
        return merged


def as_float(block: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """In C order; float32 where that is `dtype` and holds all values of the block's type, else float64."""
    return np.ascontiguousarray(block, np.result_type(block.dtype, dtype))


def column_moments(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and M2 of each column of a block (n, D) of float32 or float64, in float64."""
    from fastnn._kernels import batchnorm as kernels  # here: see the package's __init__

    mean, m2 = np.empty(block.shape[1]), np.empty(block.shape[1])
    kernels.moments(block, mean, m2)
    if block.dtype == np.float32:
        low, high = SQUARES
        again = ~((m2 > low * len(block)) & (m2 < high * len(block)))
        if again.any():
            mean[again], m2[again] = column_moments(block[:, again].astype(np.float64, order="C"))
    return mean, m2
