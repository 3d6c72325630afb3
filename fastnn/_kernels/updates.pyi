"""Updates of flat parameter buffers, as calls and as operations of a program."""

from fastnn._kernels.program import Program, Sink
from fastnn.checks import Array

def sgd(
    w: Array,
    dw: Array,
    v: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None: ...
def add_sgd(
    p: Program,
    w: Array,
    dw: Array,
    v: Array | None,
    decayed: int,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None: ...
def sgd_sink(
    p: Program,
    w: Array,
    v: Array | None,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> Sink: ...
def add_penalty(p: Program, w: Array, factor: float) -> None: ...
def sum_of_squares(w: Array) -> float: ...
def all_finite(x: Array) -> bool: ...
