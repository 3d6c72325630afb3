"""Losses: the compiled side of `fastnn.reference.losses`."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn._kernels import losses as kernels
from fastnn.checks import Array, check_fraction
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
    if targets.ndim == 1 and (class_weight is None or smoothing == 0.0):
        weight = sample_weight
        if class_weight is not None:
            weight = class_weight[targets]
            weight = weight if sample_weight is None else weight * sample_weight
        loss = kernels.softmax_cross_entropy(
            logits, targets, weight, smoothing, 1.0 / total, dlogits
        )
        return loss, dlogits
    spread = _spread(targets, logits, smoothing, sample_weight, class_weight)
    return kernels.soft_cross_entropy(logits, spread, 1.0 / total, dlogits), dlogits


def _spread(
    targets: Array,
    logits: Array,
    smoothing: float,
    sample_weight: Array | None,
    class_weight: Array | None,
) -> Array:
    """The targets as weights (N, C) of the logarithms, with everything that scales them."""
    classes = logits.shape[1]
    spread = (1.0 - smoothing) * (np.eye(classes)[targets] if targets.ndim == 1 else targets)
    spread = spread + smoothing / classes
    if class_weight is not None:
        spread *= class_weight
    if sample_weight is not None:
        spread *= sample_weight[:, None]
    return np.ascontiguousarray(spread, dtype=logits.dtype)


@documented
def mean_squared_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    shape = (len(pred), -1)
    loss = kernels.mean_squared_error(
        pred.reshape(shape), target.reshape(shape), sample_weight, 1.0 / total, dpred.reshape(shape)
    )
    return loss, dpred
