"""Losses: the compiled side of `fastnn.reference.losses`."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn._kernels import losses as kernels
from fastnn.checks import Array, check_fraction, check_positive
from fastnn.functional._twins import documented


@documented
def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    label_smoothing: float = 0.0,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]:
    smoothing = check_fraction(label_smoothing, "label_smoothing", closed=True)
    targets, total, dlogits = contracts.classification(
        logits, "logits", labels, sample_weight, class_weight, dlogits_out, soft=True
    )
    whole, soft = (targets, None) if targets.ndim == 1 else (None, targets)
    if soft is not None and dlogits_out is not None and np.may_share_memory(soft, dlogits):
        soft = soft.copy()  # they are read twice, the second time after exp went into dlogits
    loss = kernels.softmax_cross_entropy(
        logits, whole, soft, sample_weight, class_weight, smoothing, 1.0 / total, dlogits
    )
    return loss, dlogits


@documented
def multiclass_hinge(
    scores: Array,
    labels: Array,
    *,
    margin: float = 1.0,
    sample_weight: Array | None = None,
    dscores_out: Array | None = None,
) -> tuple[float, Array]:
    margin = check_positive(margin, "margin")
    targets, total, dscores = contracts.classification(
        scores, "scores", labels, sample_weight, None, dscores_out
    )
    loss = kernels.multiclass_hinge(scores, targets, sample_weight, margin, 1.0 / total, dscores)
    return loss, dscores


@documented
def binary_cross_entropy(
    logits: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]:
    total, dlogits = contracts.regression(logits, "logits", target, sample_weight, dlogits_out)
    return _elementwise("binary_cross_entropy", logits, target, sample_weight, total, dlogits)


@documented
def mean_squared_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    return _elementwise("mean_squared_error", pred, target, sample_weight, total, dpred)


@documented
def mean_absolute_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    return _elementwise("mean_absolute_error", pred, target, sample_weight, total, dpred)


@documented
def huber(
    pred: Array,
    target: Array,
    *,
    delta: float = 1.0,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    delta = check_positive(delta, "delta")
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    return _elementwise("huber", pred, target, sample_weight, total, dpred, delta)


def _elementwise(
    name: str,
    x: Array,
    target: Array,
    weight: Array | None,
    total: float,
    gradient: Array,
    delta: float = 0.0,
) -> tuple[float, Array]:
    if x.ndim != 2:  # the kernel takes matrices; without weights it does not matter which
        shape = (len(x), -1) if weight is not None else (x.size, 1)
        flat = gradient.reshape(shape)
        x, target = x.reshape(shape), target.reshape(shape)
    else:
        flat = gradient
    loss = kernels.elementwise(name, x, target, weight, delta, 1.0 / total, flat)
    return loss, gradient
