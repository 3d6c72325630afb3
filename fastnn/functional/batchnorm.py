"""Batch normalisation: the compiled side of `fastnn.reference.batchnorm`."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn._kernels import batchnorm as kernels
from fastnn.checks import NEEDS_INPUT, Activation, Array
from fastnn.functional._twins import documented


@documented
def batchnorm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: Activation = None,
    axis: int = 1,
    y_out: Array | None = None,
    mean_out: Array | None = None,
    rstd_out: Array | None = None,
) -> tuple[Array, Array, Array]:
    axis, parsed, y, mean, rstd = contracts.batchnorm_forward(
        x, gamma, beta, running_mean, running_var, training, momentum, eps, activation, axis,
        y_out, mean_out, rstd_out,
    )  # fmt: skip
    flat = _columns(x, axis)
    flat_y = _columns(y, axis) if axis == x.ndim - 1 else np.empty_like(flat)
    kernels.forward(
        flat, gamma, beta, running_mean, running_var, training, momentum, eps, parsed,
        flat_y, mean, rstd,
    )  # fmt: skip
    _put_back(y, flat_y, axis)
    return y, mean, rstd


@documented
def batchnorm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    *,
    beta: Array | None = None,
    y: Array | None = None,
    training: bool = True,
    activation: Activation = None,
    axis: int = 1,
    dx_out: Array | None = None,
    dgamma_out: Array | None = None,
    dbeta_out: Array | None = None,
) -> tuple[Array, Array, Array]:
    axis, parsed, dx, dgamma, dbeta = contracts.batchnorm_backward(
        dy, x, gamma, mean, rstd, beta, y, training, activation, axis, dx_out, dgamma_out, dbeta_out
    )
    flat_x = _columns(x, axis)
    saved = None
    if parsed[0] is not None and parsed[0] not in NEEDS_INPUT:
        saved = _columns(y, axis) if y is not None else np.empty_like(flat_x)
        if y is None:  # compute the output again
            assert beta is not None  # contracts has checked it
            kernels.reapply(flat_x, gamma, beta, mean, rstd, parsed, saved)
    flat_dx = _columns(dx, axis) if axis == x.ndim - 1 else np.empty_like(flat_x)
    kernels.backward(
        _columns(dy, axis), flat_x, gamma, mean, rstd, beta, saved, training, parsed,
        flat_dx, dgamma, dbeta,
    )  # fmt: skip
    _put_back(dx, flat_dx, axis)
    return dx, dgamma, dbeta


# The kernels take matrices with one channel a column; another channel axis is brought there and back.


def _columns(x: Array, axis: int) -> Array:
    """x as (values, channels): a view where the channels come last, else a copy."""
    channels = x.shape[axis]
    rows = x.size // channels if channels else 0
    return np.ascontiguousarray(np.moveaxis(x, axis, -1)).reshape(rows, channels)


def _put_back(x: Array, flat: Array, axis: int) -> None:
    if axis != x.ndim - 1:
        shape = x.shape[:axis] + x.shape[axis + 1 :] + (x.shape[axis],)
        x[...] = np.moveaxis(flat.reshape(shape), -1, axis)
