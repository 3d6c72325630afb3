"""The dense layer: the compiled side of `fastnn.reference.dense`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import activations as activation_kernels
from fastnn._kernels import dense as kernels
from fastnn._kernels.arrays import Fit
from fastnn.checks import Activation, Array, parse_activation
from fastnn.functional._twins import documented

_FORWARD = Fit("nd dh h? -> nh")
_BACKWARD = Fit("nh nd dh -> nd dh h")


@documented
def dense_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    outs = _FORWARD.outputs(x, w, b, out)
    if outs is None:
        parsed, y = contracts.dense_forward(x, w, b, activation, out)
    else:
        parsed, (y,) = parse_activation(activation), outs
    return kernels.forward(x, w, b, parsed, y)


@documented
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
) -> tuple[Array | None, Array | None, Array | None]:
    outs = None
    if activation is None and need_dx and need_dw and need_db:
        outs = _BACKWARD.outputs(dy, x, w, dx_out, dw_out, db_out)
    if outs is None:
        parsed, dx, dw, db = contracts.dense_backward(
            dy, x, w, y, activation, need_dx, need_dw, need_db, dx_out, dw_out, db_out
        )
    else:
        parsed, (dx, dw, db) = parse_activation(activation), outs
    dz = dy
    if parsed[0] is not None:
        assert y is not None  # contracts has checked it
        dz = activation_kernels.backward(parsed, dy, y, None, contracts.backward_from_output)
    if dx is not None:
        kernels.input_gradient(dx, dz, w)
    if dw is not None:
        kernels.weight_gradient(dw, x, dz)
    if db is not None:
        kernels.bias_gradient(db, dz)
    return dx, dw, db
