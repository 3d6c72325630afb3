"""The losses of `fastnn.losses` as operations of a compiled step.

By exact class: a user's subclass may compute something else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._kernels import losses as kernels
from fastnn._kernels.program import Program
from fastnn.losses import (
    BinaryCrossEntropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MulticlassHinge,
    SoftmaxCrossEntropy,
)

ELEMENTWISE = (BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber)


def batch_targets(
    loss: Loss, rows: int, width: int, dtype: np.dtype[Any], soft: bool = False
) -> np.ndarray | None:
    """Room for the targets of a mini-batch; None where the loss has no compiled operations.

    `soft`: softmax cross-entropy takes probabilities of the classes, not labels.
    """
    if type(loss) in ELEMENTWISE or (type(loss) is SoftmaxCrossEntropy and soft):
        return np.zeros((rows, width), dtype)
    if type(loss) in (SoftmaxCrossEntropy, MulticlassHinge):
        return np.zeros(rows, np.int64)
    return None


def add_loss(
    p: Program,
    loss: Loss,
    out: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    dout: np.ndarray,
) -> None:
    """The mean loss of a mini-batch, its gradient, and the rows that are right.

    `weights`: of the rows, or None for ones.
    """
    if isinstance(loss, SoftmaxCrossEntropy):
        labels, shares = (targets, None) if targets.ndim == 1 else (None, targets)
        kernels.add_softmax_cross_entropy(
            p,
            "loss",
            out,
            labels,
            shares,
            weights,
            loss.weights(out.dtype),
            loss.label_smoothing,
            dout,
        )
    elif isinstance(loss, MulticlassHinge):
        kernels.add_multiclass_hinge(p, "loss", out, targets, weights, loss.margin, dout)
    else:
        delta = loss.delta if isinstance(loss, Huber) else 0.0
        counted = loss.kind == "classification"
        kernels.add_elementwise(p, "loss", loss.name, out, targets, weights, delta, counted, dout)
