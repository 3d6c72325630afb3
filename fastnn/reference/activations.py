"""Activations that increase everywhere (or are flat in places): the output tells the derivative.

Each is elementwise on an array of any shape; the backward takes the upstream gradient `dy` and the
saved output `y`, so nothing else has to be kept. Arithmetic is in the array's own dtype. `out` may be
`x`, `dx_out` may be `dy` or `y` (in place).

NaN and infinity go through the formula as IEEE 754 says. Where a derivative has a kink or a flat
part, a gradient is *selected*, not multiplied: where it is 0, it is 0 even if `dy` is NaN, and a NaN
in `y` lets `dy` pass, as PyTorch's ReLU does. At a kink the derivative is that of the flatter side.
"""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Array, check_slope

#: Constants of SELU (Klambauer et al. 2017, arXiv:1706.02515, appendix): the fixed point of mean 0
#: and variance 1.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def relu(x: Array, *, out: Array | None = None) -> Array:
    """Rectified linear unit: y = max(x, 0).

    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Examples
    --------
    >>> relu(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """
    out = contracts.unary(x, out)
    out[...] = np.where(x < 0, 0, x)
    return out


def relu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = 0 where y <= 0, dy elsewhere.

    Examples
    --------
    >>> relu_backward(np.array([5.0, 5.0]), y=np.array([0.0, 3.0]))
    array([0., 5.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where(y <= 0, 0, dy)
    return dx


@np.errstate(all="ignore")
def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """Leaky ReLU: y = x where x > 0, negative_slope * x elsewhere; negative_slope > 0.

    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> leaky_relu(np.array([-2.0, 3.0]), negative_slope=0.5)
    array([-1.,  3.])
    """
    slope = check_slope(negative_slope, "negative_slope")
    out = contracts.unary(x, out)
    out[...] = np.where(x > 0, x, slope * x)
    return out


@np.errstate(all="ignore")
def leaky_relu_backward(
    dy: Array, y: Array, negative_slope: float = 0.01, *, dx_out: Array | None = None
) -> Array:
    """dx = negative_slope * dy where y <= 0, dy elsewhere.

    Examples
    --------
    >>> leaky_relu_backward(np.array([5.0, 5.0]), np.array([-1.0, 3.0]), negative_slope=0.5)
    array([2.5, 5. ])
    """
    slope = check_slope(negative_slope, "negative_slope")
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where(y <= 0, slope * dy, dy)
    return dx


@np.errstate(all="ignore")
def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """Exponential linear unit: y = x where x > 0, alpha * (exp(x) - 1) elsewhere; alpha > 0.

    Clevert, Unterthiner and Hochreiter 2016, arXiv:1511.07289, equation 15.

    Examples
    --------
    >>> elu(np.array([-np.inf, 0.0, 3.0]), alpha=2.0)
    array([-2.,  0.,  3.])
    """
    alpha = check_slope(alpha, "alpha")
    out = contracts.unary(x, out)
    out[...] = np.where(x > 0, x, alpha * np.expm1(x))
    return out


@np.errstate(all="ignore")
def elu_backward(dy: Array, y: Array, alpha: float = 1.0, *, dx_out: Array | None = None) -> Array:
    """dx = dy * (y + alpha) where y <= 0, dy elsewhere: alpha exp(x) = y + alpha.

    Examples
    --------
    >>> elu_backward(np.array([5.0, 5.0]), np.array([-0.5, 3.0]))
    array([2.5, 5. ])
    """
    alpha = check_slope(alpha, "alpha")
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where(y <= 0, dy * (y + alpha), dy)
    return dx


@np.errstate(all="ignore")
def selu(x: Array, *, out: Array | None = None) -> Array:
    """Scaled ELU: y = SELU_SCALE * elu(x, SELU_ALPHA).

    Klambauer et al. 2017, arXiv:1706.02515, equation 2.

    Examples
    --------
    >>> selu(np.array([0.0, 1.0])).round(4)
    array([0.    , 1.0507])
    """
    out = contracts.unary(x, out)
    out[...] = np.where(x > 0, SELU_SCALE * x, (SELU_SCALE * SELU_ALPHA) * np.expm1(x))
    return out


@np.errstate(all="ignore")
def selu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = dy * (y + SELU_SCALE * SELU_ALPHA) where y <= 0, SELU_SCALE * dy elsewhere.

    Examples
    --------
    >>> selu_backward(np.array([1.0]), np.array([2.0])).round(4)
    array([1.0507])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where(y <= 0, dy * (y + SELU_SCALE * SELU_ALPHA), SELU_SCALE * dy)
    return dx


def stable_sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) with one exponential that never overflows, and no small value lost."""
    e = np.exp(-np.abs(x))
    y: Array = np.where(x >= 0, 1, e) / (1 + e)
    return y


@np.errstate(all="ignore")
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """Logistic function: y = 1 / (1 + exp(-x)).

    For x < 0 it is computed as exp(x) / (1 + exp(x)), so that it neither overflows nor rounds small
    probabilities away.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    out = contracts.unary(x, out)
    out[...] = stable_sigmoid(x)
    return out


@np.errstate(all="ignore")
def sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = dy * y * (1 - y).

    Examples
    --------
    >>> sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = dy * (y * (1 - y))
    return dx


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """Hyperbolic tangent: y = tanh(x).

    Examples
    --------
    >>> tanh(np.array([-np.inf, 0.0, np.inf]))
    array([-1.,  0.,  1.])
    """
    out = contracts.unary(x, out)
    out[...] = np.tanh(x)
    return out


@np.errstate(all="ignore")
def tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = dy * (1 - y^2).

    Examples
    --------
    >>> tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = dy * (1 - y * y)
    return dx


@np.errstate(all="ignore")
def softplus(x: Array, *, out: Array | None = None) -> Array:
    """Softplus: y = log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)).

    Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2000.

    Examples
    --------
    >>> softplus(np.array([0.0, 1000.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """
    out = contracts.unary(x, out)
    out[...] = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return out


@np.errstate(all="ignore")
def softplus_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = dy * sigmoid(x) = dy * (1 - exp(-y)).

    Examples
    --------
    >>> softplus_backward(np.array([2.0]), y=np.log([2.0])).round(15)
    array([1.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = dy * -np.expm1(-y)
    return dx


def relu6(x: Array, *, out: Array | None = None) -> Array:
    """ReLU with a ceiling: y = min(max(x, 0), 6).

    Examples
    --------
    >>> relu6(np.array([-1.0, 3.0, 9.0]))
    array([0., 3., 6.])
    """
    out = contracts.unary(x, out)
    out[...] = np.clip(x, 0, 6)
    return out


def relu6_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = 0 where y <= 0 or y >= 6, dy elsewhere.

    Examples
    --------
    >>> relu6_backward(np.array([5.0, 5.0]), np.array([3.0, 6.0]))
    array([5., 0.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where((y <= 0) | (y >= 6), 0, dy)
    return dx


def hard_tanh(x: Array, *, out: Array | None = None) -> Array:
    """Piecewise linear tanh: y = min(max(x, -1), 1).

    Examples
    --------
    >>> hard_tanh(np.array([-3.0, 0.5, 3.0]))
    array([-1. ,  0.5,  1. ])
    """
    out = contracts.unary(x, out)
    out[...] = np.clip(x, -1, 1)
    return out


def hard_tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = 0 where y <= -1 or y >= 1, dy elsewhere.

    Examples
    --------
    >>> hard_tanh_backward(np.array([5.0, 5.0]), np.array([0.5, 1.0]))
    array([5., 0.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where((y <= -1) | (y >= 1), 0, dy)
    return dx


@np.errstate(all="ignore")
def hard_sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """Piecewise linear sigmoid: y = min(max(x + 3, 0), 6) / 6.

    Examples
    --------
    >>> hard_sigmoid(np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    out = contracts.unary(x, out)
    out[...] = np.clip(x + 3, 0, 6) / 6
    return out


@np.errstate(all="ignore")
def hard_sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    """dx = 0 where y <= 0 or y >= 1, dy / 6 elsewhere.

    Examples
    --------
    >>> hard_sigmoid_backward(np.array([12.0, 12.0]), np.array([0.5, 1.0]))
    array([2., 0.])
    """
    dx = contracts.unary_backward(dy, y, "y", dx_out)
    dx[...] = np.where((y <= 0) | (y >= 1), 0, dy / 6)
    return dx
