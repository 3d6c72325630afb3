"""Softmax and log-softmax: the compiled side of `fastnn.reference.softmax`."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn._kernels import losses as kernels
from fastnn._kernels.arrays import Fit
from fastnn.checks import Array, check_axis
from fastnn.functional._twins import documented

_FORWARD = Fit("* -> *=")
_BACKWARD = Fit("* * -> *=")


@documented
def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    return _forward(x, axis, False, out)


@documented
def softmax_backward(dy: Array, y: Array, axis: int = -1, *, dx_out: Array | None = None) -> Array:
    return _backward(dy, y, axis, False, dx_out)


@documented
def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    return _forward(x, axis, True, out)


@documented
def log_softmax_backward(
    dy: Array, y: Array, axis: int = -1, *, dx_out: Array | None = None
) -> Array:
    return _backward(dy, y, axis, True, dx_out)


# The kernels take the last axis; another axis is brought there, and back.


def _forward(x: Array, axis: int, logarithm: bool, given: Array | None) -> Array:
    outs = _FORWARD.outputs(x, given)
    if outs is None or x.ndim == 0:
        axis, out = contracts.softmax(x, axis, given)
    else:
        axis, (out,) = check_axis(axis, x.ndim), outs
    if axis == x.ndim - 1:
        return kernels.softmax_forward(x, x.shape[-1], logarithm, out)
    moved = _last(x, axis)
    kernels.softmax_forward(moved, moved.shape[-1], logarithm, moved)
    out[...] = np.moveaxis(moved, -1, axis)
    return out


def _backward(dy: Array, y: Array, axis: int, logarithm: bool, given: Array | None) -> Array:
    outs = _BACKWARD.outputs(dy, y, given)
    if outs is None or dy.ndim == 0:
        axis, dx = contracts.softmax_backward(dy, y, axis, given)
    else:
        axis, (dx,) = check_axis(axis, dy.ndim), outs
    if axis == dy.ndim - 1:
        return kernels.softmax_backward(dy, y, dy.shape[-1], logarithm, dx)
    moved = _last(dy, axis)
    kernels.softmax_backward(moved, _last(y, axis), moved.shape[-1], logarithm, moved)
    dx[...] = np.moveaxis(moved, -1, axis)
    return dx


def _last(x: Array, axis: int) -> Array:
    return np.array(np.moveaxis(x, axis, -1), order="C")  # always a copy: it is written to
