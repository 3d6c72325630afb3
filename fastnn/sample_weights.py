"""Losses under weights of the rows: what takes them, and the means, sums and counts that they change."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

from .inputs import as_weights, check_some_weight
from .losses import Loss, method


def prepare_weights(
    loss: Loss,
    sample_weight: Any,
    n_rows: int,
    dtype: np.dtype[Any],
    name: str = "sample_weight",
    first: int = 0,
    may_vanish: bool = False,
) -> np.ndarray | None:
    """Weights of rows as steps and `weighted_mean` take them, or None.

    Raises
    ------
    TypeError
        The loss, a user's own, knows nothing of weights; or as `inputs.as_weights`.
    ValueError
        As `inputs.as_weights`; or all of them are 0, unless they may be.
    """
    if sample_weight is None:
        return None
    for function in ("forward_backward", "total_weight"):
        parameters = signature(method(loss, function)).parameters.values()
        if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(
                f"{loss!r} takes no weights of the rows: give its {function} a parameter "
                "sample_weight=None (fastnn.losses.Loss), or leave sample_weight out"
            )
    counts = _class_of(loss, "count_correct")
    if counts is not Loss and not issubclass(_class_of(loss, "are_correct"), counts):
        raise TypeError(
            f"{loss!r} counts the rows that are right in a way of its own, of which weights know nothing: "
            "let it override are_correct instead of count_correct (fastnn.losses.Loss)"
        )
    weights = as_weights(sample_weight, n_rows, dtype, name, first)
    if not may_vanish:
        check_some_weight(weights, name)
    return weights


def _class_of(loss: Loss, name: str) -> type:
    """The class that a method of a loss is from."""
    return next((of for of in type(loss).__mro__ if name in vars(of)), Loss)


def weighted_mean(
    loss: Loss, out: np.ndarray, target: np.ndarray, weights: np.ndarray | None
) -> tuple[float, np.ndarray]:
    """Loss and gradient of a batch; those of rows that weigh nothing together are 0."""
    if weights is None:
        return loss.forward_backward(out, target)
    total = min(_sum(weights), total_weight(loss, target, weights))
    if total < np.finfo(out.dtype).tiny:
        return 0.0, np.zeros_like(out)
    return loss.forward_backward(out, target, sample_weight=weights)


def total_weight(loss: Loss, target: np.ndarray, weights: np.ndarray | None) -> float:
    """What the loss of these rows was divided by, whatever class the loss is of."""
    of = method(loss, "total_weight")
    return float(of(target) if weights is None else of(target, sample_weight=weights))


def correct_weight(
    loss: Loss, out: np.ndarray, target: np.ndarray, weights: np.ndarray | None
) -> float:
    """The rows that are decided as their target says: how many, or what they weigh together."""
    if weights is None:
        return float(method(loss, "count_correct")(out, target))
    return _sum(weights[method(loss, "are_correct")(out, target)])


def _sum(weights: np.ndarray) -> float:
    return float(weights.sum(dtype=np.float64))
