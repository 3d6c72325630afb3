"""Batch normalisation: the compiled side of `fastnn.reference.batchnorm`."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    rows = _rows(x, axis)
    kernels.forward(
        rows(x), gamma, beta, running_mean, running_var, training, momentum, eps, parsed,
        rows(y), mean, rstd,
    )  # fmt: skip
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
    rows = _rows(x, axis)
    flat = rows(x)
    saved = None
    if parsed[0] is not None and parsed[0] not in NEEDS_INPUT:
        if y is not None:
            saved = rows(y)
        else:  # compute the output again
            assert beta is not None  # contracts has checked it
            saved = np.empty_like(flat)
            kernels.reapply(flat, gamma, beta, mean, rstd, parsed, saved)
    kernels.backward(
        rows(dy), flat, gamma, mean, rstd, beta, saved, training, parsed,
        rows(dx), dgamma, dbeta,
    )  # fmt: skip
    return dx, dgamma, dbeta


def _rows(x: Array, axis: int) -> Callable[[Array], Array]:
    """What brings arrays into the shape that the kernels take: axes before the channels, all others."""
    if x.ndim == 2 and axis == 1:
        return lambda array: array
    shape = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    return lambda array: array.reshape(shape)
