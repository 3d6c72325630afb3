"""The losses, as calls and as operations of a program."""

from collections.abc import Mapping

from fastnn._kernels.program import Program
from fastnn.checks import Array

NAMES: Mapping[str, int]

def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    label_smoothing: float = 0.0,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]: ...
def multiclass_hinge(
    scores: Array,
    labels: Array,
    *,
    margin: float = 1.0,
    sample_weight: Array | None = None,
    dscores_out: Array | None = None,
) -> tuple[float, Array]: ...
def binary_cross_entropy(
    logits: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]: ...
def mean_squared_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]: ...
def mean_absolute_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]: ...
def huber(
    pred: Array,
    target: Array,
    *,
    delta: float = 1.0,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]: ...
def add_softmax_cross_entropy(
    p: Program,
    name: str,
    logits: Array,
    labels: Array | None,
    target: Array | None,
    weights: Array | None,
    class_weights: Array | None,
    smoothing: float,
    gradient: Array,
) -> None: ...
def add_multiclass_hinge(
    p: Program,
    name: str,
    scores: Array,
    labels: Array,
    weights: Array | None,
    margin: float,
    gradient: Array,
) -> None: ...
def add_elementwise(
    p: Program,
    name: str,
    kind: str,
    x: Array,
    target: Array,
    weights: Array | None,
    delta: float,
    counted: bool,
    gradient: Array,
) -> None: ...
