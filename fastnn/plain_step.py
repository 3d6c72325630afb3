"""A training step through the layers' own forward and backward.

It takes any layer, a user's own included, and is what the compiled step (`fastnn.step`) is tested
against. Both have the same interface, so the training loop does not know which one it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from . import penalties
from .losses import Loss
from .optimizers import Optimizer
from .penalties import Pull
from .sample_weights import correct_weight, weighted_mean

if TYPE_CHECKING:
    from .models import Sequential


@dataclass(slots=True)
class Outcome:
    """What a run of steps did.

    Attributes
    ----------
    steps : int
        Updates made.
    losses : list of float
        Of each of them the mean loss of the batch (the penalties included).
    last_loss : float
        The loss of the last step, also where it was not finite.
    weights : list of float or None
        What the rows of each of them weigh together; None without weights.
    correct : float
        Rows whose highest output was their label (classification): how many, or what they weigh.
    failure : str or None
        The name of the layer where a value first became NaN or infinite ("loss" where only the
        loss did, "input" where the data were not finite, "gradient" where the norm of the gradient
        did, which clipping by it looks at); that step was not updated.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    last_loss: float = float("nan")
    weights: list[float] | None = None
    correct: float = 0.0
    failure: str | None = None


class Step(Protocol):
    """Consecutive mini-batch steps of a fixed number of rows."""

    #: Whether `model.gradients()` holds the last step's gradients after a run.
    keeps_gradients: bool

    def run(
        self,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        first: int,
        steps: int,
        lrs: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Outcome:
        """Run `steps` steps; step i trains on the rows ``order[first + i*rows :][:rows]``.

        Parameters
        ----------
        X : ndarray (n, …)
            The model's dtype, C-contiguous.
        y : ndarray (n, …)
            As the loss's `prepare_targets` returned it.
        order : ndarray of int64
        first, steps : int
        lrs : ndarray of float64 (steps,)
            The learning rate of each step.
        weights : ndarray (n,), optional
            Of the rows, the model's dtype, for a step that was made for them (`weighted`): the loss of
            a mini-batch is divided by the sum of its weights. Where that is 0, so are loss and gradient,
            and the step is made as any other.
        """
        ...


class PlainStep:
    """`Step` by the layers themselves.

    Parameters
    ----------
    model : Sequential
        Built.
    loss : Loss
    optimizer : Optimizer
    rows : int
        The size of the mini-batch.
    keep_gradients : bool
        They are always kept here.
    l2 : float
        λ of the penalty λ/(2·rows)·Σ‖W‖², which is part of the reported loss.
    soft : bool
        Whether the targets are probabilities of classes; here any targets are taken as they come.
    weighted : bool
        Whether the rows have weights; here they may.
    """

    keeps_gradients = True

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        rows: int,
        keep_gradients: bool = True,
        l2: float = 0.0,
        soft: bool = False,
        weighted: bool = False,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.rows = rows
        self.pulls = penalties.pulls(model, l2)
        self.counts_correct = loss.kind == "classification"
        self._buffers_before = model.flat.buffers.copy()

    def run(
        self,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        first: int,
        steps: int,
        lrs: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Outcome:
        outcome = Outcome(weights=None if weights is None else [])
        for i in range(steps):
            batch = order[first + i * self.rows : first + (i + 1) * self.rows]
            weight = None if weights is None else weights[batch]
            self._one(X[batch], y[batch], weight, float(lrs[i]), outcome)
            if outcome.failure is not None:
                break
        return outcome

    def _one(
        self,
        x: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        lr: float,
        outcome: Outcome,
    ) -> None:
        model, flat = self.model, self.model.flat
        np.copyto(self._buffers_before, flat.buffers)
        outputs = model.forward_all(x, training=True)
        loss, dout = weighted_mean(self.loss, outputs[-1], target, weight)
        loss += penalties.penalty(flat, self.pulls, self.rows)
        outcome.last_loss = loss
        if not np.isfinite(loss):
            flat.buffers[:] = self._buffers_before
            outcome.failure = self._where(x, outputs)
            return
        model.backward_all(dout, need_dx=False)
        pulls = [Pull(part, l1 / self.rows, l2 / self.rows) for part, l1, l2 in self.pulls]
        if not self.optimizer.update(flat, lr, pulls):
            flat.buffers[:] = self._buffers_before
            outcome.failure = "gradient"
            return
        penalties.limit_norms(model)
        outcome.steps += 1
        outcome.losses.append(loss)
        if weight is not None and outcome.weights is not None:
            outcome.weights.append(float(weight.sum(dtype=np.float64)))
        if self.counts_correct:
            outcome.correct += correct_weight(self.loss, outputs[-1], target, weight)

    def _where(self, x: np.ndarray, outputs: list[np.ndarray]) -> str:
        if not np.isfinite(x).all():
            return "input"
        for layer, output in zip(self.model.layers, outputs, strict=True):
            if not np.isfinite(output).all():
                return layer.name
        return "loss"
