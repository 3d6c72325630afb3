"""Losses: each returns the loss (a float) and its gradient, in one call.

Sums are taken in float64. With weights a loss is divided by their sum, so that weights of 1 change
nothing; a row of weight 0 adds nothing and its gradient is 0, also where it holds NaN. A batch without
rows has no mean and is refused. The gradient may be written over the scores or predictions (in place).
"""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Array, check_fraction, check_positive
from fastnn.reference.activations import stable_sigmoid


@np.errstate(all="ignore")
def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    label_smoothing: float = 0.0,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]:
    """Cross-entropy of softmax(logits) with the labels, averaged over the batch.

    With p = softmax(logits), the target distribution t (one-hot for labels), q = (1 - smoothing) t +
    smoothing / C, weights s of the samples and c of the classes (1 where not given)::

        loss       = -sum_n s_n sum_j c_j q_nj log p_nj / Z
        dlogits_nk = s_n (p_nk sum_j c_j q_nj - c_k q_nk) / Z

    Z is N without weights, and sum_n s_n sum_j c_j t_nj with them: for labels the sum of the weights
    of the samples times those of their classes, as in PyTorch. (With soft targets and class weights
    PyTorch divides by N; here a one-hot target means the same as its label.) Label smoothing: Szegedy
    et al. 2016, arXiv:1512.00567, section 7.

    Parameters
    ----------
    logits : (N, C)
    labels
        (N,) integers in [0, C); or (N, C) target probabilities of the logits' dtype, one-hot or
        soft. They are taken as they are, also where a row does not sum to 1.
    sample_weight : (N,), optional
        Not negative, of the logits' dtype.
    class_weight : (C,), optional
        Likewise.
    label_smoothing : float
        In [0, 1].

    Returns
    -------
    loss : float
    dlogits : (N, C)

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> round(loss, 6), dlogits
    (0.693147, array([[ 0.5, -0.5]]))
    """
    smoothing = check_fraction(label_smoothing, "label_smoothing", closed=True)
    targets, total, dlogits = contracts.classification(
        logits, "logits", labels, sample_weight, class_weight, dlogits_out, soft=True
    )
    classes = logits.shape[1]
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    if targets.ndim == 1:
        t = np.zeros_like(z)
        t[np.arange(len(targets)), targets] = 1
    else:
        t = targets.astype(np.float64)
    q = (1 - smoothing) * t + smoothing / classes
    weighted = q if class_weight is None else q * class_weight
    # A class of probability 0 and target 0 adds 0, not 0 * -inf.
    each = -np.where((weighted == 0) & np.isinf(log_p), 0, weighted * log_p)
    slope = np.exp(log_p) * weighted.sum(axis=1, keepdims=True) - weighted
    return _average(each, slope, sample_weight, total, dlogits)


@np.errstate(all="ignore")
def binary_cross_entropy(
    logits: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dlogits_out: Array | None = None,
) -> tuple[float, Array]:
    """Cross-entropy of sigmoid(logits) with targets in [0, 1], averaged over all elements.

    For a logit x and a target t: -t log s - (1 - t) log(1 - s) with s = sigmoid(x), computed as
    |x| (1 - t) + log1p(exp(-|x|)) where x > 0, |x| t + ... elsewhere. Its gradient is s - t,
    computed as (1 - t) s - t (1 - s), so that a small one keeps its digits.

    Parameters
    ----------
    logits : (N, ...)
    target
        As logits; hard (0 or 1) or soft.
    sample_weight : (N,), optional
        Not negative, of the logits' dtype.

    Returns
    -------
    loss : float
    dlogits
        As logits.

    Examples
    --------
    >>> loss, dlogits = binary_cross_entropy(np.array([[0.0]]), np.array([[1.0]]))
    >>> round(loss, 6), dlogits
    (0.693147, array([[-0.5]]))
    """
    total, dlogits = contracts.regression(logits, "logits", target, sample_weight, dlogits_out)
    x, t = logits.astype(np.float64), target.astype(np.float64)
    each = np.abs(x) * np.where(x > 0, 1 - t, t) + np.log1p(np.exp(-np.abs(x)))
    slope = (1 - t) * stable_sigmoid(x) - t * stable_sigmoid(-x)
    return _average(each, slope, sample_weight, total, dlogits)


@np.errstate(all="ignore")
def mean_squared_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    """Mean of (pred - target)^2 over all elements.

    Parameters
    ----------
    pred : (N, ...)
    target
        As pred.
    sample_weight : (N,), optional
        Not negative, of the dtype of pred.

    Returns
    -------
    loss : float
    dpred
        As pred: 2 (pred - target) / count.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    (2.0, array([[0., 2.]]))
    """
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    d = pred.astype(np.float64) - target
    return _average(d * d, 2 * d, sample_weight, total, dpred)


@np.errstate(all="ignore")
def mean_absolute_error(
    pred: Array,
    target: Array,
    *,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    """Mean of |pred - target| over all elements; the gradient where they are equal is 0.

    Parameters and returns as `mean_squared_error`.

    Examples
    --------
    >>> mean_absolute_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    (1.0, array([[0. , 0.5]]))
    """
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    d = pred.astype(np.float64) - target
    return _average(np.abs(d), np.sign(d), sample_weight, total, dpred)


@np.errstate(all="ignore")
def huber(
    pred: Array,
    target: Array,
    *,
    delta: float = 1.0,
    sample_weight: Array | None = None,
    dpred_out: Array | None = None,
) -> tuple[float, Array]:
    """Mean of d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond, with d = pred - target.

    Huber, "Robust estimation of a location parameter", 1964. Parameters and returns as
    `mean_squared_error`; delta > 0.

    Examples
    --------
    >>> huber(np.array([[1.0, 4.0]]), np.array([[1.0, 1.0]]))
    (1.25, array([[0. , 0.5]]))
    """
    delta = check_positive(delta, "delta")
    total, dpred = contracts.regression(pred, "pred", target, sample_weight, dpred_out)
    d = pred.astype(np.float64) - target
    each = np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))
    return _average(each, np.clip(d, -delta, delta), sample_weight, total, dpred)


@np.errstate(all="ignore")
def multiclass_hinge(
    scores: Array,
    labels: Array,
    *,
    margin: float = 1.0,
    sample_weight: Array | None = None,
    dscores_out: Array | None = None,
) -> tuple[float, Array]:
    """The multi-class SVM loss: sum over j != label of max(0, s_j - s_label + margin), batch mean.

    Weston and Watkins, "Support vector machines for multi-class pattern recognition", 1999. The sum
    is not divided by the number of classes (PyTorch's `multi_margin_loss` divides).

    Parameters
    ----------
    scores : (N, C)
    labels : (N,) integers in [0, C)
    margin : float
        Greater than 0.
    sample_weight : (N,), optional
        Not negative, of the scores' dtype.

    Returns
    -------
    loss : float
    dscores : (N, C)

    Examples
    --------
    >>> multiclass_hinge(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    (0.5, array([[-1.,  1.,  0.]]))
    """
    margin = check_positive(margin, "margin")
    targets, total, dscores = contracts.classification(
        scores, "scores", labels, sample_weight, None, dscores_out
    )
    rows = np.arange(len(targets))
    s = scores.astype(np.float64)
    violation = s - s[rows, targets][:, None] + margin
    violation[rows, targets] = 0
    each = np.where(violation <= 0, 0, violation)
    slope = np.where(violation <= 0, 0.0, 1.0)
    slope[rows, targets] = -slope.sum(axis=1)
    return _average(each, slope, sample_weight, total, dscores)


def _average(
    each: Array, slope: Array, sample_weight: Array | None, total: float, gradient: Array
) -> tuple[float, Array]:
    """The weighted mean of the elements' losses, and its gradient written to `gradient`."""
    if sample_weight is not None:
        weight = sample_weight.astype(np.float64).reshape(-1, *[1] * (each.ndim - 1))
        each, slope = (np.where(weight == 0, 0, value * weight) for value in (each, slope))
    gradient[...] = slope / total
    return float(each.sum()) / total, gradient
