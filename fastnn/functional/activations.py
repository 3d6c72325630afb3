"""Activations on arrays of any shape: the compiled side of `fastnn.reference.activations`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import activations as kernels
from fastnn.checks import Array, Parsed, check_positive
from fastnn.functional._twins import documented

_RELU: Parsed = ("relu", {})
_SIGMOID: Parsed = ("sigmoid", {})
_TANH: Parsed = ("tanh", {})
_SELU: Parsed = ("selu", {})
_SOFTPLUS: Parsed = ("softplus", {})
_RELU6: Parsed = ("relu6", {})
_HARD_TANH: Parsed = ("hard_tanh", {})
_HARD_SIGMOID: Parsed = ("hard_sigmoid", {})


@documented
def relu(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_RELU, x, contracts.unary(x, out))


@documented
def relu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_RELU, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    spec = ("leaky_relu", {"negative_slope": check_positive(negative_slope, "negative_slope")})
    return kernels.forward(spec, x, contracts.unary(x, out))


@documented
def leaky_relu_backward(
    dy: Array, y: Array, negative_slope: float = 0.01, *, dx_out: Array | None = None
) -> Array:
    spec = ("leaky_relu", {"negative_slope": check_positive(negative_slope, "negative_slope")})
    return kernels.backward(spec, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    spec = ("elu", {"alpha": check_positive(alpha, "alpha")})
    return kernels.forward(spec, x, contracts.unary(x, out))


@documented
def elu_backward(dy: Array, y: Array, alpha: float = 1.0, *, dx_out: Array | None = None) -> Array:
    spec = ("elu", {"alpha": check_positive(alpha, "alpha")})
    return kernels.backward(spec, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SIGMOID, x, contracts.unary(x, out))


@documented
def sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SIGMOID, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def tanh(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_TANH, x, contracts.unary(x, out))


@documented
def tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_TANH, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def selu(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SELU, x, contracts.unary(x, out))


@documented
def selu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SELU, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def softplus(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SOFTPLUS, x, contracts.unary(x, out))


@documented
def softplus_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SOFTPLUS, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def relu6(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_RELU6, x, contracts.unary(x, out))


@documented
def relu6_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_RELU6, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def hard_tanh(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_HARD_TANH, x, contracts.unary(x, out))


@documented
def hard_tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_HARD_TANH, dy, y, contracts.unary_backward(dy, y, "y", dx_out))


@documented
def hard_sigmoid(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_HARD_SIGMOID, x, contracts.unary(x, out))


@documented
def hard_sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_HARD_SIGMOID, dy, y, contracts.unary_backward(dy, y, "y", dx_out))
