"""Softmax and the losses, as calls and as operations of a program."""

from fastnn._kernels.program import Program
from fastnn.checks import Array

def softmax_forward(x: Array, cols: int, logarithm: bool, out: Array) -> Array: ...
def softmax_backward(dy: Array, y: Array, cols: int, logarithm: bool, dx: Array) -> Array: ...
def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    weights: Array | None,
    smoothing: float,
    scale: float,
    gradient: Array,
) -> float: ...
def soft_cross_entropy(logits: Array, targets: Array, scale: float, gradient: Array) -> float: ...
def mean_squared_error(
    pred: Array, target: Array, weights: Array | None, scale: float, gradient: Array
) -> float: ...
def add_softmax_cross_entropy(
    p: Program, name: str, logits: Array, labels: Array, smoothing: float, gradient: Array
) -> None: ...
def add_mean_squared_error(
    p: Program, name: str, pred: Array, target: Array, gradient: Array
) -> None: ...
