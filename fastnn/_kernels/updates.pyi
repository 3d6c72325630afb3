"""Updates of flat parameter buffers, as calls and as operations of a program."""

from collections.abc import Sequence

from fastnn._kernels.program import Program, Sink
from fastnn.checks import Array

class Rule:
    def __init__(
        self,
        name: str,
        momentum: float = 0.0,
        rho: float = 0.0,
        eps: float = 0.0,
        decoupled: bool = False,
    ) -> None: ...
    def apply(
        self,
        w: Array,
        dw: Array,
        state: Sequence[Array],
        lr: float,
        step: int = 1,
        weight_decay: float = 0.0,
        l2: float = 0.0,
    ) -> None: ...

def sgd_update(
    w: Array,
    dw: Array,
    v: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None: ...
def adagrad_update(
    w: Array, dw: Array, h: Array, *, lr: float, eps: float = 1e-10, weight_decay: float = 0.0
) -> None: ...
def rmsprop_update(
    w: Array,
    dw: Array,
    h: Array,
    v: Array | None = None,
    *,
    lr: float,
    rho: float = 0.99,
    eps: float = 1e-08,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None: ...
def adam_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-08,
    weight_decay: float = 0.0,
) -> None: ...
def adamw_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-08,
    weight_decay: float = 0.01,
) -> None: ...
def clip_by_value(dw: Array, limit: float) -> None: ...
def clip_by_global_norm(dw: Array, max_norm: float) -> float: ...
def add_update(
    p: Program,
    rule: Rule,
    w: Array,
    dw: Array,
    state: Sequence[Array],
    decayed: int,
    weight_decay: float,
    l2: float,
    clip_value: float | None = None,
    l1: float = 0.0,
) -> None: ...
def sink(
    p: Program,
    rule: Rule,
    w: Array,
    state: Sequence[Array],
    weight_decay: float,
    l2: float,
    clip_value: float | None = None,
    l1: float = 0.0,
) -> Sink: ...
def add_clip_by_norm(p: Program, dw: Array, max_norm: float) -> None: ...
def add_penalty(
    p: Program, w: Array, factor: float, magnitudes: bool = False, more: bool = False
) -> None: ...
def max_norm(w: Array, limit: float) -> None: ...
def add_max_norm(p: Program, w: Array, limit: float) -> None: ...
def sum_of_squares(w: Array) -> float: ...
def all_finite(x: Array) -> bool: ...
