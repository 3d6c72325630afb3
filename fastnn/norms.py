"""The Euclidean norm of an array, quick, and for float32 numbers of any size."""

from __future__ import annotations

import math

import numpy as np

#: Squares of float32 numbers outside of this lose digits, or are infinite.
SAFE = (1e-30, 1e30)
#: So many elements are summed in the array's own dtype: few enough to lose nothing that matters.
BLOCK = 1 << 15


def norm(*arrays: np.ndarray) -> float:
    """Of all elements of one or several arrays together, as if they were one long vector.

    Squares of float32 arrays are summed in float32, in a quarter of the time that float64 takes, and once
    more in float64 where they leave its range. (`numpy.linalg.norm` hands large arrays to the threads of a
    BLAS, for which others would have to wait.)

    Examples
    --------
    >>> norm(np.array([3.0, 0.0]), np.array([[4.0]]))
    5.0
    >>> round(norm(np.full(4, 1e-30, np.float32)) / 1e-30, 6)
    2.0
    """
    return math.sqrt(sum(map(_squares, arrays)))


def _squares(array: np.ndarray) -> float:
    flat = array.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        squares = float(np.einsum("i,i", part, part))
        if part.itemsize < 8 and not SAFE[0] < squares < SAFE[1]:
            squares = float(np.einsum("i,i", part, part, dtype=np.float64))
        total += squares
    return total
