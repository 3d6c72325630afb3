"""Softmax, log-softmax and maxout: the compiled side of `fastnn.reference.softmax`."""

from __future__ import annotations

import math

import numpy as np

from fastnn import contracts
from fastnn._kernels import maxout as maxout_kernels
from fastnn._kernels import softmax as kernels
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


# The kernels take the columns of a matrix; another axis is brought there, and back.


def _forward(x: Array, axis: int, logarithm: bool, given: Array | None) -> Array:
    outs = _FORWARD.outputs(x, given)
    if outs is None or x.ndim == 0:
        axis, out = contracts.softmax(x, axis, given)
    else:
        axis, (out,) = check_axis(axis, x.ndim), outs
    if axis == x.ndim - 1:
        kernels.forward(_rows(x), logarithm, _rows(out))
        return out
    moved = _last(x, axis)
    kernels.forward(_rows(moved), logarithm, _rows(moved))
    out[...] = np.moveaxis(moved, -1, axis)
    return out


def _backward(dy: Array, y: Array, axis: int, logarithm: bool, given: Array | None) -> Array:
    outs = _BACKWARD.outputs(dy, y, given)
    if outs is None or dy.ndim == 0:
        axis, dx = contracts.softmax_backward(dy, y, axis, given)
    else:
        axis, (dx,) = check_axis(axis, dy.ndim), outs
    if axis == dy.ndim - 1:
        kernels.backward(_rows(dy), _rows(y), logarithm, _rows(dx))
        return dx
    moved = _last(dy, axis)
    kernels.backward(_rows(moved), _rows(_last(y, axis)), logarithm, _rows(moved))
    dx[...] = np.moveaxis(moved, -1, axis)
    return dx


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _last(x: Array, axis: int) -> Array:
    return np.array(np.moveaxis(x, axis, -1), order="C")  # always a copy: it is written to


@documented
def maxout(
    x: Array, pieces: int, *, y_out: Array | None = None, which_out: Array | None = None
) -> tuple[Array, Array]:
    pieces, y, which = contracts.maxout(x, pieces, y_out, which_out)
    maxout_kernels.forward(x, pieces, y, which)
    return y, which


@documented
def maxout_backward(dy: Array, which: Array, pieces: int, *, dx_out: Array | None = None) -> Array:
    pieces, dx = contracts.maxout_backward(dy, which, pieces, dx_out)
    maxout_kernels.backward(dy, which, pieces, dx)
    return dx
