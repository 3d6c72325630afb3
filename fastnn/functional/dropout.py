"""Dropout: the compiled side of `fastnn.reference.dropout`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import dropout as kernels
from fastnn.checks import Array
from fastnn.functional._twins import documented


@documented
def dropout(x: Array, p: float, seed: int, offset: int = 0, *, out: Array | None = None) -> Array:
    p, seed, offset, out = contracts.dropout(x, "x", p, seed, offset, out, "out")
    return kernels.dropout(x, p, seed, offset, out)


@documented
def dropout_backward(
    dy: Array, p: float, seed: int, offset: int = 0, *, dx_out: Array | None = None
) -> Array:
    p, seed, offset, dx = contracts.dropout(dy, "dy", p, seed, offset, dx_out, "dx_out")
    return kernels.dropout(dy, p, seed, offset, dx)
