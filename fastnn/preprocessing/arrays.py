"""What preprocessors of arrays take: real numbers in rows, as an array or in batches, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.sources import as_source

# Elements per block of `check_finite`: half a megabyte of float32, within a core's own cache.
BLOCK_ELEMENTS = 1 << 17


def float_dtype(name: Any) -> np.dtype:
    """np.float32 or np.float64 from a name or dtype; ValueError for anything else."""
    dtype = np.dtype(name)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype.name}, expected float32 or float64")
    return dtype


def matrix(data: Any, name: str = "the data") -> np.ndarray:
    """`data` as a non-empty (N, …) array of real numbers, a row for each sample; an array is not copied."""
    x = np.asarray(data)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: the type is {x.dtype}, expected real numbers")
    if x.ndim < 2:
        raise ValueError(f"{name}: the shape is {x.shape}, expected (rows, columns)")
    if not x.size:
        raise ValueError(f"{name}: empty, of the shape {x.shape}")
    return x


def blocks(x: np.ndarray, elements: int) -> Iterator[slice]:
    """Slices of rows with about so many elements each."""
    rows = max(1, elements * len(x) // x.size)
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def training_blocks(data: Any, elements: int) -> Iterator[tuple[int, np.ndarray]]:
    """All rows of an array or of batches (`fastnn.sources`), in order: (first row, block (n, D)).

    Raises
    ------
    TypeError, ValueError
        As `matrix`; also where batches differ in their number of columns, or there are none.
    """
    source = as_source(data)
    arrays = (
        [(0, data)]
        if source is None
        else ((block.first, block.x) for block in source.counted_blocks())
    )
    columns = None
    for first, array in arrays:
        x = matrix(array)
        width = x[0].size
        if columns not in (None, width):
            raise ValueError(
                f"the rows from {first} on have {width} numbers, those before them {columns}"
            )
        columns = width
        for rows in blocks(x, elements):
            yield first + rows.start, x[rows].reshape(-1, width)
    if columns is None:
        raise ValueError("the data: empty, there is no batch")


def check_finite(
    data: Any, name: str = "the data", allow_nan: bool = False, first: int = 0
) -> np.ndarray:
    """`matrix(data)`, without an infinity and, unless allowed, without NaN.

    Raises
    ------
    TypeError
        No real numbers.
    ValueError
        Names the row (`first` is the number of the first) and the column, both from 0, of the first
        bad value.
    """
    x = matrix(data, name)
    if x.dtype.kind != "f":
        return x
    for rows in blocks(x, BLOCK_ELEMENTS):
        block = x[rows].reshape(-1, x[0].size)
        bad = np.isinf(block) if allow_nan else ~np.isfinite(block)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            where = f"row {first + rows.start + row}, column {column} (counted from 0)"
            if np.isnan(block[row, column]):
                raise ValueError(
                    f"{name}: NaN in {where}; remove such rows, or use impute=True (on the command "
                    "line --impute) to put the column's mean in place of missing values"
                )
            raise ValueError(f"{name}: infinity in {where}; every value must be finite")
    return x
