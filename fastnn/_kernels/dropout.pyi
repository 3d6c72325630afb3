"""Dropout, as a call and as an operation of a program."""

from fastnn._kernels.program import Program
from fastnn.checks import Array

def dropout(
    x: Array, p: float, seed: int, offset: int = 0, *, out: Array | None = None
) -> Array: ...
def dropout_backward(
    dy: Array, p: float, seed: int, offset: int = 0, *, dx_out: Array | None = None
) -> Array: ...
def add_dropout(
    p: Program,
    name: str,
    x: Array,
    probability: float,
    seed: int,
    passes: Array,
    out: Array,
) -> None: ...
