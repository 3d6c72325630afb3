"""Batch normalisation: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.

All arithmetic is in float64 and rounded once at the end. The variance is the mean of squared
deviations from the mean, never E[x^2] - E[x]^2, which cancels.
"""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import NEEDS_INPUT, Activation, Array
from fastnn.reference import _fused


@np.errstate(all="ignore")
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
    """y = activation(gamma * (x - mean) * rstd + beta) for each channel, rstd = 1 / sqrt(var + eps).

    In training mean and (biased) variance are those of the batch, and the running statistics, if
    given, are updated in place: running = (1 - momentum) * running + momentum * batch, where the
    variance is the unbiased one. In inference (`training=False`) the running statistics are used.

    All of it is right as long as x - mean is finite; where the variance is not (float64 beyond 1e154), y
    is beta. Two limits of float32 are the compiled kernels' alone: of a spread below 1e-18 the square is
    lost, which shows where eps is not larger; and gradients are right for spreads up to 1e18. A running
    variance has the dtype of x and is infinite beyond its range (spreads of 1e19 in float32).

    Parameters
    ----------
    x
        At least 2 axes; `axis` is the channel axis of C entries. Training needs at least 2 values
        for each channel.
    gamma, beta : (C,)
    running_mean, running_var : (C,), optional
        Both or neither; needed in inference.
    activation
        None, a name, or a pair of a name and its parameters.
    y_out, mean_out, rstd_out
        `y_out` may be `x`.

    Returns
    -------
    y
        As x.
    mean, rstd : (C,)
        Those used; they are what the backward needs.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]])
    >>> y, mean, rstd = batchnorm_forward(x, gamma=np.ones(1), beta=np.zeros(1), eps=0.0)
    >>> y.ravel(), mean, rstd
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    axis, parsed, y, mean_, rstd_ = contracts.batchnorm_forward(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        training,
        momentum,
        eps,
        activation,
        axis,
        y_out,
        mean_out,
        rstd_out,
    )
    others, shape = _axes(x, axis)
    wide = x.astype(np.float64)
    if training:
        mean = wide.mean(axis=others, keepdims=True)
        mean = mean + (wide - mean).mean(axis=others, keepdims=True)  # what the first rounded off
        var = np.square(wide - mean).mean(axis=others, keepdims=True)
        if running_mean is not None and running_var is not None:
            count = x.size // max(x.shape[axis], 1)
            _update(running_mean, mean.ravel(), momentum)
            _update(running_var, var.ravel() * (count / (count - 1)), momentum)
    else:
        assert running_mean is not None and running_var is not None  # contracts has checked it
        mean = running_mean.astype(np.float64).reshape(shape)
        var = running_var.astype(np.float64).reshape(shape)
    rstd = 1 / np.sqrt(var + float(eps))
    z = (wide - mean) * rstd * gamma.reshape(shape) + beta.reshape(shape)
    y[...] = _fused.apply(parsed, z)
    mean_[...] = mean.ravel()
    rstd_[...] = rstd.ravel()
    return y, mean_, rstd_


@np.errstate(all="ignore")
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
    """Gradients of `batchnorm_forward` from the saved input, mean and rstd.

    With dz = activation'(...) * dy, xhat = (x - mean) * rstd and m values per channel (in training the
    exact mean of x: the one given is rounded, and 1e4 to float32 by up to 5e-4)::

        dbeta  = sum(dz)
        dgamma = sum(dz * xhat)
        dx     = gamma * rstd * (dz - dbeta / m - xhat * dgamma / m)     in training
        dx     = gamma * rstd * dz                                       in inference

    The training form is what the paper's equations (section 3) give when put together::

        dxhat = dz * gamma
        dvar  = sum(dxhat * (x - mean)) * -1/2 * rstd^3
        dmean = -rstd * sum(dxhat)               (its second term, dvar * sum(-2 (x - mean)) / m, is 0)
        dx    = dxhat * rstd + dvar * 2 (x - mean) / m + dmean / m

    Parameters
    ----------
    dy
        As x.
    x, gamma, mean, rstd
        As given to, and returned by, the forward.
    beta, y
        With an activation give `y`, what the forward returned; or `beta` where the activation needs
        its input (silu, gelu, hard_swish), which is then recomputed, as is a missing `y`.
    training
        As in the forward: in inference mean and rstd are constants, which is another gradient.
    dx_out, dgamma_out, dbeta_out
        `dx_out` may be `dy`, `x` or `y`.

    Returns
    -------
    dx
        As x.
    dgamma, dbeta : (C,)

    Examples
    --------
    >>> x, one = np.array([[1.0], [2.0], [6.0]]), np.ones(1)
    >>> y, mean, rstd = batchnorm_forward(x, one, one)
    >>> dx, dgamma, dbeta = batchnorm_backward(np.array([[3.0], [3.0], [3.0]]), x, one, mean, rstd)
    >>> abs(dx.round(9)), dbeta  # a shift of all rows changes nothing
    (array([[0.],
           [0.],
           [0.]]), array([9.]))
    """
    axis, parsed, dx, dgamma_, dbeta_ = contracts.batchnorm_backward(
        dy, x, gamma, mean, rstd, beta, y, training, activation, axis, dx_out, dgamma_out, dbeta_out
    )
    others, shape = _axes(x, axis)
    scale, rstd = gamma.astype(np.float64).reshape(shape), rstd.astype(np.float64).reshape(shape)
    centred = x - mean.astype(np.float64).reshape(shape)
    if training:
        centred -= centred.mean(axis=others, keepdims=True)  # what rounding the mean lost
    xhat = centred * rstd
    dz = dy.astype(np.float64)
    if parsed[0] is not None:
        if y is None or parsed[0] in NEEDS_INPUT:
            assert beta is not None  # contracts has checked it
            z = xhat * scale + beta.reshape(shape)
            saved = z if parsed[0] in NEEDS_INPUT else _fused.apply(parsed, z)
        else:
            saved = y.astype(np.float64)
        dz = _fused.differentiate(parsed, dz, saved)
    dbeta = dz.sum(axis=others, keepdims=True)
    dgamma = (dz * xhat).sum(axis=others, keepdims=True)
    if training:
        count = x.size // max(x.shape[axis], 1)
        dz = dz - dbeta / count - xhat * (dgamma / count)
    dx[...] = scale * rstd * dz
    dgamma_[...] = dgamma.ravel()
    dbeta_[...] = dbeta.ravel()
    return dx, dgamma_, dbeta_


def _axes(x: Array, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to take the statistics over, and the shape of a channel vector against x."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    return others, tuple(n if i == axis else 1 for i, n in enumerate(x.shape))


def _update(running: Array, batch: Array, momentum: float) -> None:
    running[...] = (1 - momentum) * running.astype(np.float64) + momentum * batch
