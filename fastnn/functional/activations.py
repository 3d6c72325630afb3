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
    return kernels.forward(_RELU, x, out, contracts.unary)


@documented
def relu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_RELU, dy, y, dx_out, contracts.backward_from_output)


@documented
def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    spec = ("leaky_relu", {"negative_slope": check_positive(negative_slope, "negative_slope")})
    return kernels.forward(spec, x, out, contracts.unary)


@documented
def leaky_relu_backward(
    dy: Array, y: Array, negative_slope: float = 0.01, *, dx_out: Array | None = None
) -> Array:
    spec = ("leaky_relu", {"negative_slope": check_positive(negative_slope, "negative_slope")})
    return kernels.backward(spec, dy, y, dx_out, contracts.backward_from_output)


@documented
def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    spec = ("elu", {"alpha": check_positive(alpha, "alpha")})
    return kernels.forward(spec, x, out, contracts.unary)


@documented
def elu_backward(dy: Array, y: Array, alpha: float = 1.0, *, dx_out: Array | None = None) -> Array:
    spec = ("elu", {"alpha": check_positive(alpha, "alpha")})
    return kernels.backward(spec, dy, y, dx_out, contracts.backward_from_output)


@documented
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SIGMOID, x, out, contracts.unary)


@documented
def sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SIGMOID, dy, y, dx_out, contracts.backward_from_output)


@documented
def tanh(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_TANH, x, out, contracts.unary)


@documented
def tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_TANH, dy, y, dx_out, contracts.backward_from_output)


@documented
def selu(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SELU, x, out, contracts.unary)


@documented
def selu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SELU, dy, y, dx_out, contracts.backward_from_output)


@documented
def softplus(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SOFTPLUS, x, out, contracts.unary)


@documented
def softplus_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SOFTPLUS, dy, y, dx_out, contracts.backward_from_output)


@documented
def relu6(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_RELU6, x, out, contracts.unary)


@documented
def relu6_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_RELU6, dy, y, dx_out, contracts.backward_from_output)


@documented
def hard_tanh(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_HARD_TANH, x, out, contracts.unary)


@documented
def hard_tanh_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_HARD_TANH, dy, y, dx_out, contracts.backward_from_output)


@documented
def hard_sigmoid(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_HARD_SIGMOID, x, out, contracts.unary)


@documented
def hard_sigmoid_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_HARD_SIGMOID, dy, y, dx_out, contracts.backward_from_output)
