"""What losses and updates ask of their arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import (
    Array,
    check_array,
    check_fraction,
    check_integer,
    check_not_negative,
    check_out,
    check_overlap,
    check_positive,
    check_same,
    check_writable,
)

_INT64 = np.dtype(np.int64)

# What the weights of a loss add up to at most, by the size of a float: a half of its range, so that their
# products with losses that are large themselves do not overflow.
MOST_WEIGHT = {4: 2.0**64, 8: 2.0**512}


def regression(
    pred: Any, pred_name: str, target: Any, sample_weight: Any, dpred_out: Array | None
) -> tuple[float, Array]:
    """Check a loss that compares elements; return what their sum is divided by, and dpred."""
    check_array(pred, pred_name)
    if pred.ndim == 0 or pred.size == 0:
        raise ValueError(f"{pred_name} must have at least one element and one axis: {pred.shape}")
    check_same(target, "target", pred)
    total = float(pred.size)
    if sample_weight is not None:
        total = _weight_sum(sample_weight, pred, "sample_weight", pred.shape[0])
        total *= pred.size / pred.shape[0]
    out_name = f"d{pred_name}_out"
    if dpred_out is None:
        return total, np.empty(pred.shape, pred.dtype)
    dpred = check_out(dpred_out, pred.shape, pred.dtype, out_name)
    inputs = {pred_name: pred, "target": target}
    check_overlap(dpred, out_name, inputs, {"sample_weight": sample_weight})
    return total, dpred


def classification(
    logits: Any,
    logits_name: str,
    labels: Any,
    sample_weight: Any,
    class_weight: Any,
    dlogits_out: Array | None,
    *,
    soft: bool = False,
) -> tuple[Array, float, Array]:
    """Check a loss of class scores (N, C).

    Returns the targets (labels as int64 (N,), or with `soft` also probabilities (N, C) as they are),
    what the sum over the batch is divided by, and dlogits.
    """
    check_array(logits, logits_name, ndim=2)
    rows, classes = logits.shape
    if rows == 0 or classes == 0:
        raise ValueError(f"{logits_name} must have at least one row and one class: {logits.shape}")
    if soft and isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        check_array(labels, "labels", dtype=logits.dtype, shape=logits.shape)
        targets = labels
    else:
        targets = _class_labels(labels, rows, classes, soft)
    if sample_weight is not None:
        _weight_sum(sample_weight, logits, "sample_weight", rows)
    if class_weight is not None:
        _weight_sum(class_weight, logits, "class_weight", classes)
    total = _total_weight(targets, sample_weight, class_weight, rows)
    out_name = f"d{logits_name}_out"
    dlogits = check_out(dlogits_out, logits.shape, logits.dtype, out_name)
    if dlogits_out is not None:
        weights = {"sample_weight": sample_weight, "class_weight": class_weight}
        if targets.ndim == 1:
            check_overlap(dlogits, out_name, {logits_name: logits}, {**weights, "labels": labels})
        else:
            check_overlap(dlogits, out_name, {logits_name: logits, "labels": labels}, weights)
    return targets, total, dlogits


def _class_labels(labels: Any, rows: int, classes: int, soft: bool) -> Array:
    """Return integer labels (N,) as int64: without a copy if they are, else converted."""
    also = ", or probabilities (N, C) of the dtype of the logits" if soft else ""
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        given = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise TypeError(
            f"labels must be an array (N,) of integers{also}, got {given}: "
            "convert them with np.asarray(labels, dtype=np.int64)"
        )
    if soft and labels.shape == (rows, classes):
        raise TypeError(
            f"labels of the shape {labels.shape} of the logits are probabilities of the classes and must "
            f"be floats, got {labels.dtype}: pass labels.argmax(axis=1) if they are one-hot, else "
            "labels.astype(logits.dtype)"
        )
    if labels.shape != (rows,):
        raise ValueError(f"labels must have the shape ({rows},), got {labels.shape}")
    if labels.dtype is _INT64 and labels.flags.carray:
        whole = labels
    else:
        whole = np.array(labels, dtype=np.int64, order="C")
    # Seen as unsigned, a negative label is a huge one: one pass finds both kinds. (And a uint64 too
    # large for int64 is a negative one.)
    if np.maximum.reduce(whole.view(np.uint64)) >= classes:
        row = int(np.argmax((labels < 0) | (labels >= classes)))
        raise ValueError(
            f"labels must be in [0, {classes - 1}] for {classes} classes, "
            f"got {int(labels[row])} in row {row}"
        )
    return whole


def _weight_sum(weight: Any, like: Array, name: str, count: int) -> float:
    check_array(weight, name, dtype=like.dtype, shape=(count,))
    with np.errstate(over="ignore"):
        total = float(weight.sum(dtype=np.float64))
    if not (math.isfinite(float(weight.max())) and float(weight.min()) >= 0.0):
        raise ValueError(f"{name} must be finite and not negative")
    if total == 0.0:
        raise ValueError(f"{name} is zero everywhere: at least one weight must be greater than 0")
    _check_divisor(total, name, weight.dtype)
    return total


def _check_divisor(total: float, name: str, dtype: Any) -> None:
    """Too small a sum has no reciprocal of all digits; what is too large overflows."""
    least, most = float(np.finfo(dtype).tiny), float(MOST_WEIGHT[dtype.itemsize])
    if total < least or total > most:  # NaN: of targets, and the loss is NaN too
        advice = "up" if total < least else "down"
        raise ValueError(
            f"{name} must add up to something from {least:.3g} to {most:.3g}, got {total:.3g}: "
            f"scale it {advice}"
        )


def _total_weight(targets: Array, sample_weight: Any, class_weight: Any, rows: int) -> float:
    """Sum of the weights of the rows; a row's class weight is that of its target."""
    if sample_weight is None and class_weight is None:
        return float(rows)
    weight = np.ones(rows) if sample_weight is None else sample_weight.astype(np.float64)
    if class_weight is not None:
        wide = class_weight.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            weight = weight * (wide[targets] if targets.ndim == 1 else targets @ wide)
    with np.errstate(over="ignore"):
        total = float(weight.sum())
    if total == 0.0:
        raise ValueError("the weights of all rows are zero: nothing is left of the loss")
    given = class_weight if sample_weight is None else sample_weight
    _check_divisor(total, "the weights of all rows", given.dtype)
    return total


def update(w: Any, dw: Any, **state: Any) -> None:
    """Check the arrays of an update: w and the state are changed, dw is read; all are one shape."""
    check_array(w, "w")
    check_same(dw, "dw", w)
    changed = {"w": w, **state}
    seen: dict[str, Any] = {"dw": dw}
    for name, array in changed.items():
        check_writable(array, name, dtype=w.dtype, shape=w.shape)
        check_overlap(array, name, {}, seen)
        seen[name] = array


def sgd_update(
    w: Any, dw: Any, v: Any, lr: Any, momentum: Any, nesterov: bool, weight_decay: Any
) -> tuple[float, float, float]:
    """Check `sgd_update`; return lr, momentum and weight_decay as floats."""
    momentum = check_fraction(momentum, "momentum")
    if momentum == 0.0:
        if nesterov:
            raise ValueError("nesterov=True needs a momentum greater than 0")
        update(w, dw)
    else:
        _check_state(v, "v", f"momentum = {momentum}")
        update(w, dw, v=v)
    return check_not_negative(lr, "lr"), momentum, check_not_negative(weight_decay, "weight_decay")


def adagrad_update(
    w: Any, dw: Any, h: Any, lr: Any, eps: Any, weight_decay: Any
) -> tuple[float, float, float]:
    """Check `adagrad_update`; return lr, eps and weight_decay as floats."""
    update(w, dw, h=h)
    return (
        check_not_negative(lr, "lr"),
        check_not_negative(eps, "eps"),
        check_not_negative(weight_decay, "weight_decay"),
    )


def rmsprop_update(
    w: Any, dw: Any, h: Any, v: Any, lr: Any, rho: Any, eps: Any, momentum: Any, weight_decay: Any
) -> tuple[float, float, float, float, float]:
    """Check `rmsprop_update`; return lr, rho, eps, momentum and weight_decay as floats."""
    momentum = check_fraction(momentum, "momentum")
    if momentum == 0.0:
        update(w, dw, h=h)
    else:
        _check_state(v, "v", f"momentum = {momentum}")
        update(w, dw, h=h, v=v)
    return (
        check_not_negative(lr, "lr"),
        check_fraction(rho, "rho"),
        check_not_negative(eps, "eps"),
        momentum,
        check_not_negative(weight_decay, "weight_decay"),
    )


def adam_update(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
) -> tuple[int, float, float, float, float, float]:
    """Check `adam_update` or `adamw_update`; return the numbers, converted, in this order."""
    update(w, dw, m=m, v=v)
    return (
        check_integer(step, "step", 1, 2**63 - 1),
        check_not_negative(lr, "lr"),
        check_fraction(beta1, "beta1"),
        check_fraction(beta2, "beta2"),
        check_not_negative(eps, "eps"),
        check_not_negative(weight_decay, "weight_decay"),
    )


def clip(dw: Any, limit: Any, limit_name: str) -> float:
    """Check an operation that clips a gradient in place; return the limit as a float."""
    check_array(dw, "dw")
    check_writable(dw, "dw", dtype=dw.dtype, shape=dw.shape)
    return check_positive(limit, limit_name)


def max_norm(w: Any, limit: Any) -> float:
    """Check `max_norm`; return the limit as a float."""
    check_array(w, "w", ndim=2)
    check_writable(w, "w", dtype=w.dtype, shape=w.shape)
    return check_positive(limit, "limit")


def _check_state(array: Any, name: str, reason: str) -> None:
    if array is None:
        raise ValueError(f"{reason} needs the state {name}: pass zeros of the shape of w at first")
