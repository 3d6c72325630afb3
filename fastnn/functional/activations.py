"""Activations on arrays of any shape: the compiled side of `fastnn.reference.activations`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import activations as kernels
from fastnn.checks import Array
from fastnn.functional._twins import documented

_RELU = ("relu", {})


@documented
def relu(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_RELU, x, contracts.unary(x, out))


@documented
def relu_backward(dy: Array, y: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_RELU, dy, y, contracts.unary_backward(dy, y, "y", dx_out))
