"""Memory for the buffers of a model and of its training: on cache lines, and large ones on huge pages.

The processor keeps the addresses of a few thousand pages at hand. A step over 20 MB goes past 5,000 pages
of 4 KiB, and looks up each again and again; of 2 MiB they are ten. That makes steps of networks with layers
of 500 units 1.02 to 1.05 times as fast (Zen 4, in a virtual machine, where a lookup takes longest). Linux
gives such pages to who asks for them; elsewhere nothing changes. `fnn_alloc` in `_kernels/process.h` does the
same.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64
HUGE_PAGE = 1 << 21


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """A 1-D array of zeros that starts on a 64-byte boundary.

    Examples
    --------
    >>> aligned_zeros(5, np.dtype("float32")).ctypes.data % 64
    0
    """
    nbytes = size * dtype.itemsize
    raw = _huge_pages(nbytes) if nbytes >= HUGE_PAGE // 2 else None
    if raw is None:
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        raw = raw[-raw.ctypes.data % ALIGNMENT :]
    return raw[:nbytes].view(dtype)


def _huge_pages(nbytes: int) -> np.ndarray | None:
    """At least so many zeros, which begin with a huge page; None where the system has no such memory."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    # what is left past the last whole page becomes one where it is half of one: no more than that is lost
    whole = (nbytes + HUGE_PAGE // 2) // HUGE_PAGE * HUGE_PAGE
    try:
        piece = mmap.mmap(-1, max(nbytes, whole) + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    raw = np.frombuffer(piece, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without huge pages
        piece.madvise(mmap.MADV_HUGEPAGE, start, whole)
    return raw[start:]


def aligned_matrices(rows: int, widths: Sequence[int], dtype: np.dtype[Any]) -> list[np.ndarray]:
    """Matrices of so many columns each in one piece of memory.

    Their rows start on cache lines, an odd number of them apart. A power of two apart, they would fall into
    the same few sets of the caches, and a tile of the matrix product reads fourteen of them side by side.
    """
    line = ALIGNMENT // dtype.itemsize
    padded = [(-(-width // line) | 1) * line for width in widths]
    ends = np.cumsum([rows * width for width in padded]).tolist()
    pieces = np.split(aligned_zeros(ends[-1], dtype), ends[:-1])
    return [
        piece.reshape(rows, row)[:, :width]
        for piece, row, width in zip(pieces, padded, widths, strict=True)
    ]
