"""The dense layer, as calls and as operations of a program."""

from fastnn._kernels.program import Program, Sink
from fastnn.checks import Activation, Array, Parsed

def forward(x: Array, w: Array, b: Array | None, activation: Parsed, y: Array) -> Array: ...
def input_gradient(dx: Array, dy: Array, w: Array) -> Array: ...
def weight_gradient(dw: Array, x: Array, dy: Array) -> Array: ...
def bias_gradient(db: Array, dy: Array) -> Array: ...
def dense_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array: ...
def dense_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    y: Array | None = None,
    activation: Activation = None,
    need_dx: bool = True,
    need_dw: bool = True,
    need_db: bool = True,
    dx_out: Array | None = None,
    dw_out: Array | None = None,
    db_out: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]: ...
def add_forward(
    p: Program,
    name: str,
    x: Array,
    w: Array,
    b: Array | None,
    activation: Parsed,
    y: Array,
) -> None: ...
def add_input_gradient(
    p: Program,
    name: str,
    dx: Array,
    dy: Array,
    w: Array,
    activation: Parsed,
    saved: Array | None,
    db: Array | None = None,
) -> None: ...
def add_weight_gradient(
    p: Program,
    name: str,
    dw: Array | None,
    x: Array,
    dy: Array,
    sink: Sink | None = None,
    at: int = 0,
) -> None: ...
def update_is_better_fused(rows: int, inputs: int, units: int, itemsize: int) -> bool: ...
def add_bias_gradient(p: Program, name: str, db: Array, dy: Array) -> None: ...
