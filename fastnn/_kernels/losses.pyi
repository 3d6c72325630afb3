"""The losses, as calls and as operations of a program."""

from collections.abc import Mapping

from fastnn._kernels.program import Program
from fastnn.checks import Array

NAMES: Mapping[str, int]

def softmax_cross_entropy(
    logits: Array,
    labels: Array | None,
    target: Array | None,
    weights: Array | None,
    class_weights: Array | None,
    smoothing: float,
    scale: float,
    gradient: Array,
) -> float: ...
def multiclass_hinge(
    scores: Array,
    labels: Array,
    weights: Array | None,
    margin: float,
    scale: float,
    gradient: Array,
) -> float: ...
def elementwise(
    name: str,
    x: Array,
    target: Array,
    weights: Array | None,
    delta: float,
    scale: float,
    gradient: Array,
) -> float: ...
def add_softmax_cross_entropy(
    p: Program,
    name: str,
    logits: Array,
    labels: Array | None,
    target: Array | None,
    class_weights: Array | None,
    smoothing: float,
    gradient: Array,
) -> None: ...
def add_multiclass_hinge(
    p: Program, name: str, scores: Array, labels: Array, margin: float, gradient: Array
) -> None: ...
def add_elementwise(
    p: Program,
    name: str,
    kind: str,
    x: Array,
    target: Array,
    delta: float,
    counted: bool,
    gradient: Array,
) -> None: ...
