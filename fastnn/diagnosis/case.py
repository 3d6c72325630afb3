"""What the rules look at: everything that is known of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..losses import Loss, SoftmaxCrossEntropy
from ..recovery import NonFiniteError
from .probe import Probe


@dataclass
class Case:
    """A run, or a model, or both; a rule has nothing to say about what is missing.

    Attributes
    ----------
    history : mapping of str to sequence of float
        The columns of a `History`, perhaps without a row.
    probes : list of Probe
        Oldest first.
    error : NonFiniteError or None
        What ended the run.
    steps : int or None
        Made in the run, where known.
    silent_loss : float or None
        The loss of a model whose outputs are all 0: ln C for C classes.
    constant_loss : float or None
        The loss of the best constant answer: below the former where classes are not of one size.
    classes : int or None
        Of a softmax cross-entropy.
    """

    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    error: NonFiniteError | None = None
    steps: int | None = None
    silent_loss: float | None = None
    constant_loss: float | None = None
    classes: int | None = None

    def column(self, name: str) -> list[float]:
        """A column, or [] where it is missing or holds NaN.  A training loss of NaN counts as infinite."""
        values = [float(value) for value in self.history.get(name, ())]
        if name == "loss":
            values = [math.inf if math.isnan(value) else value for value in values]
        return [] if any(map(math.isnan, values)) else values

    @property
    def probe(self) -> Probe | None:
        """The newest."""
        return self.probes[-1] if self.probes else None

    @property
    def start(self) -> float | None:
        """The loss before the first step, or the one that it ought to have been, if either is known."""
        if self.probes and self.probes[0].fresh and self.probes[0].loss is not None:
            return self.probes[0].loss
        return self.silent_loss

    def label(self, layer: str | None) -> str:
        """ "2 (ReLU)" for "2", where a probe knows it."""
        labels: dict[str | None, str] = {}
        for probe in self.probes:
            labels |= {units.layer: units.label for units in probe.units}
            labels |= {weights.layer: weights.label for weights in probe.weights}
        return labels.get(layer, str(layer))


def know_targets(case: Case, loss: Loss, targets: np.ndarray, outputs: tuple[int, ...]) -> None:
    """Note what these targets say of the losses to be expected."""
    zeros = np.zeros((len(targets), *outputs), np.float64)
    wanted = targets.astype(np.float64) if targets.dtype.kind == "f" else targets
    case.silent_loss = case.constant_loss = float(loss.forward_backward(zeros, wanted)[0])
    if isinstance(loss, SoftmaxCrossEntropy):
        case.classes = outputs[0]
        if targets.ndim == 1:
            shares = np.bincount(targets, minlength=outputs[0]) / len(targets)
            with np.errstate(divide="ignore"):
                best = np.broadcast_to(np.maximum(np.log(shares), -30.0), zeros.shape)
            case.constant_loss = float(loss.forward_backward(np.ascontiguousarray(best), wanted)[0])
    elif loss.kind == "regression":
        mean = np.ascontiguousarray(np.broadcast_to(wanted.mean(axis=0), zeros.shape))
        case.constant_loss = min(case.silent_loss, float(loss.forward_backward(mean, wanted)[0]))
