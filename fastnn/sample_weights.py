"""Weights of the rows: what a person gives, and the means, sums and counts of a loss that they change."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

from .contracts.training import MOST_WEIGHT
from .inputs import as_floats, check_finite
from .losses import Loss, method


def as_weights(
    weights: Any, n_rows: int, dtype: np.dtype[Any], name: str = "sample_weight", first: int = 0
) -> np.ndarray:
    """`as_floats` for the weights of `n_rows` rows, the first of which has the number `first`.

    A copy: what was checked must stay what the kernels read, whatever happens to the caller's array.

    Raises
    ------
    TypeError
        As `as_floats`.
    ValueError
        Not one weight for each row, one that is negative or not finite, or a sum beyond what the
        losses take (`fastnn.contracts.training`).
    """
    checked = np.array(as_floats(weights, dtype, name))
    if checked.shape != (n_rows,):
        column = checked.shape == (n_rows, 1)
        raise ValueError(
            f"{name} has the shape {checked.shape}, expected one weight for each row ({n_rows},)"
            + (f": pass {name}.ravel()" if column else "")
        )
    check_finite(checked, weights, name, first)
    if n_rows and checked.min() < 0:
        row = int((checked < 0).argmax())
        raise ValueError(
            f"{name} holds {checked[row]:g} at row {first + row}, expected weights from 0 up: "
            "leave such rows out, or weigh them 0"
        )
    most = MOST_WEIGHT[checked.itemsize]
    with np.errstate(over="ignore"):
        total = float(checked.sum(dtype=np.float64))
    if total > most:
        raise ValueError(
            f"{name} adds up to {total:.3g}, expected at most {most:.3g} in {dtype}: divide it by its "
            "largest, only the proportions count"
        )
    return checked


def check_some_weight(weights: np.ndarray, name: str = "sample_weight") -> None:
    """Raise ValueError where weights add up to nothing: there is no mean to speak of."""
    if float(weights.sum(dtype=np.float64)) < np.finfo(weights.dtype).tiny:
        raise no_row_counts(weights.dtype, name)


def no_row_counts(dtype: np.dtype[Any], name: str = "sample_weight") -> ValueError:
    """The error about weights that leave nothing of a loss."""
    return ValueError(
        f"{name} is zero everywhere, as {dtype} has it: at least one row has to count"
    )


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
        The loss, a user's own, knows nothing of weights; or as `as_weights`.
    ValueError
        As `as_weights`; or all of them are 0, unless they may be.
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
