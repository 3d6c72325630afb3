"""Activations of the form x * gate(x), from the saved input: the side of `fastnn.reference.gated`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import activations as kernels
from fastnn.checks import Array, Parsed, check_approximate
from fastnn.functional._twins import documented

_SILU: Parsed = ("silu", {})
_HARD_SWISH: Parsed = ("hard_swish", {})


@documented
def silu(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_SILU, x, out, contracts.unary)


@documented
def silu_backward(dy: Array, x: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_SILU, dy, x, dx_out, contracts.backward_from_input)


@documented
def hard_swish(x: Array, *, out: Array | None = None) -> Array:
    return kernels.forward(_HARD_SWISH, x, out, contracts.unary)


@documented
def hard_swish_backward(dy: Array, x: Array, *, dx_out: Array | None = None) -> Array:
    return kernels.backward(_HARD_SWISH, dy, x, dx_out, contracts.backward_from_input)


@documented
def gelu(x: Array, approximate: str = "none", *, out: Array | None = None) -> Array:
    spec = ("gelu", {"approximate": check_approximate(approximate)})
    return kernels.forward(spec, x, out, contracts.unary)


@documented
def gelu_backward(
    dy: Array, x: Array, approximate: str = "none", *, dx_out: Array | None = None
) -> Array:
    spec = ("gelu", {"approximate": check_approximate(approximate)})
    return kernels.backward(spec, dy, x, dx_out, contracts.backward_from_input)
