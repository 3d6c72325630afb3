"""Run every case with each array against a page that may not be touched.

A script of its own (`python guard_pages.py ISA`), since the first read or write beyond an array ends
the process. Arrays lie once directly before a forbidden page and once directly behind one.
`test_guard_pages.py` runs it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import sys
from itertools import product
from typing import Any

import numpy as np
from cases import CASES, DTYPES, Case, arrays, copies

from fastnn import functional
from fastnn._kernels import machine

PAGE = mmap.PAGESIZE
SIDES = 1, 5, 10, 17, 33, 40, 66, 100  # of products, all three of which no case of the list has
MANY_INPUTS = (97, 337, 17), (641, 345, 36), (600, 341, 520)  # blocks that pack their own part of x
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def fenced(like: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of an array with a forbidden page directly behind (or before) it."""
    inside = max(-(-like.nbytes // PAGE), 1) * PAGE
    block = mmap.mmap(-1, inside + 2 * PAGE)
    memory = np.frombuffer(block, np.uint8)
    for start in (0, PAGE + inside):
        if _libc.mprotect(memory.ctypes.data + start, PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")
    first = PAGE + (inside - like.nbytes if at_end else 0)
    array = memory[first : first + like.nbytes].view(like.dtype).reshape(like.shape)
    array[...] = like
    return array


def run(case: Case, shape: tuple[int, ...], dtype: Any, at_end: bool) -> None:
    a = case.example(shape, dtype)
    results = case.call(functional, copies(a))
    outs = [fenced(r, at_end) for r in results if isinstance(r, np.ndarray)]
    for name, array in arrays(a):
        a[name] = fenced(array, at_end)
    case.call(functional, a, **dict(zip(case.outs, outs, strict=True)))


def run_dense(shape: tuple[int, int, int], dtype: Any, at_end: bool) -> None:
    n, d, h = shape
    x, w, b, dy, y, dx, dw, db = (
        fenced(np.ones(side, dtype), at_end)
        for side in ((n, d), (d, h), h, (n, h), (n, h), (n, d), (d, h), h)
    )
    functional.dense_forward(x, w, b, out=y)
    functional.dense_backward(dy, x, w, dx_out=dx, dw_out=dw, db_out=db)
    assert (y == d + 1).all() and (dx == h).all() and (dw == n).all() and (db == n).all()


def main(isa: str) -> None:
    faulthandler.enable()
    machine.use_isa(isa)
    machine.set_num_threads(1)
    for case in CASES:
        if not hasattr(functional, case.name):
            continue
        for shape in case.shapes:
            if np.prod(shape) > 20_000:
                continue
            for dtype in DTYPES:
                for at_end in (True, False):
                    print(case, shape, dtype.__name__, "end" if at_end else "start", flush=True)
                    run(case, shape, dtype, at_end)
    for shape in [*product(SIDES, repeat=3), *MANY_INPUTS]:
        for dtype in DTYPES:
            for at_end in (True, False):
                print("dense", shape, dtype.__name__, "end" if at_end else "start", flush=True)
                run_dense(shape, dtype, at_end)


if __name__ == "__main__":
    main(sys.argv[1])
