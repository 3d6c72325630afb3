"""Elementwise activations, as calls and as operations of a program."""

from collections.abc import Callable, Mapping

from fastnn._kernels.program import Program
from fastnn.checks import Array, Parsed

NAMES: Mapping[str, int]
PARAMETERS: Mapping[str, tuple[str, ...]]

def forward(
    activation: Parsed,
    x: Array,
    out: Array | None,
    contract: Callable[[Array, Array | None], Array],
) -> Array: ...
def backward(
    activation: Parsed,
    dy: Array,
    saved: Array,
    dx: Array | None,
    contract: Callable[[Array, Array, Array | None], Array],
) -> Array: ...
def add_forward(p: Program, name: str, activation: Parsed, x: Array, out: Array) -> None: ...
def add_backward(
    p: Program, name: str, activation: Parsed, dy: Array, saved: Array, dx: Array
) -> None: ...
