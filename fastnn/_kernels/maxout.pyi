"""Maxout, as calls and as operations of a program."""

from fastnn._kernels.program import Program
from fastnn.checks import Array

def maxout(
    x: Array, pieces: int, *, y_out: Array | None = None, which_out: Array | None = None
) -> tuple[Array, Array]: ...
def maxout_backward(
    dy: Array, which: Array, pieces: int, *, dx_out: Array | None = None
) -> Array: ...
def add_forward(p: Program, name: str, x: Array, pieces: int, y: Array, which: Array) -> None: ...
def add_backward(
    p: Program, name: str, dy: Array, which: Array, pieces: int, dx: Array
) -> None: ...
