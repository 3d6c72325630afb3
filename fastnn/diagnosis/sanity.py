"""Sanity checks before a long run: trials on copies of the model, which stays as it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_integer
from ..inputs import as_rows, check_lengths, evenly
from ..layers import Dropout
from ..losses import Loss, SoftmaxCrossEntropy
from ..losses import get as get_loss
from ..optimizers import SGD, Adam
from ..recovery import NonFiniteError
from .case import Case, know_targets
from .finding import Finding

if TYPE_CHECKING:
    from ..models import Sequential
    from ..training import Training

#: The λ of the trial: the lecture's "crank it up".
STRONG_L2 = 1e3
#: Rates of Adam that a trial is made with, one after the other.
RATES = (1e-2, 1e-3)
#: A regression has learned its rows by heart at this share of the best constant answer's loss.
BY_HEART = 0.05


def penalty_raises_loss(
    model: Sequential, x: Any, y: Any, loss: str | Loss | None = None
) -> list[Finding]:
    """Whether the loss rises when a strong L2 penalty is switched on, as it must.

    Parameters
    ----------
    model : Sequential
    x, y : arrays
        As `fit` takes them; a batch is enough.
    loss : str or Loss, optional
        By default the model's, or softmax cross-entropy.

    Returns
    -------
    list of Finding
        Empty where it rises; else one of the kind ``"penalty_without_effect"``.

    Raises
    ------
    TypeError, ValueError
        Data that cannot be trained on.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn import diagnosis
    >>> x, y = np.eye(4), [0, 1, 1, 0]
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=4, seed=0)
    >>> diagnosis.penalty_raises_loss(model, x, y)
    []
    >>> model = fnn.Sequential([fnn.Dense(2, "zeros")], input_dim=4, seed=0)
    >>> [finding.kind for finding in diagnosis.penalty_raises_loss(model, x, y)]
    ['penalty_without_effect']
    """
    values = []
    for l2 in (0.0, STRONG_L2):
        twin = copy.deepcopy(model)  # each time anew: the same dropout masks
        twin.compile(_loss_of(model, loss), SGD(0.0), l2=model.l2 + l2)
        try:
            values.append(twin.train_on_batch(x, y))
        except NonFiniteError:
            values.append(np.inf if l2 else np.nan)
    without, penalised = values
    if np.isnan(without) or penalised > without:  # NaN is another finding
        return []
    return [
        Finding(
            "penalty_without_effect",
            f"with l2={STRONG_L2:g} the loss is {penalised:.6g}, without it {without:.6g}: it "
            "ought to be higher",
            "no layer has weights that are penalised (add_parameter(..., decay=True) in a layer of "
            "your own), or all weights are 0; weight_decay of an optimizer is never part of the loss",
            "declare the weights with decay=True, and draw them at random",
        )
    ]


def overfit_small(
    model: Sequential,
    x: Any,
    y: Any,
    loss: str | Loss | None = None,
    rows: int = 20,
    steps: int = 300,
) -> list[Finding]:
    """Whether a copy of the model can learn a few rows by heart, as any sound one can.

    It is trained by Adam, from the model's parameters on, without dropout and penalties: once at a rate
    of 0.01 and, if that was too fast, once at 0.001.

    Parameters
    ----------
    model : Sequential
    x, y : arrays
        As `fit` takes them.
    loss : str or Loss, optional
        By default the model's, or softmax cross-entropy.
    rows : int
        Of x that are learned, evenly spaced.
    steps : int
        At each of the rates.

    Returns
    -------
    list of Finding
        Empty where all of them are answered right (a regression: where the loss is below a twentieth of
        the best constant answer's); else one of the kind ``"cannot_overfit"``.

    Raises
    ------
    TypeError, ValueError
        Data that cannot be trained on.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn import diagnosis
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((100, 2)), rng.integers(0, 2, 100)
    >>> model = fnn.Sequential([fnn.Dense(64), fnn.ReLU(), fnn.Dense(2)], input_dim=2, seed=0)
    >>> diagnosis.overfit_small(model, x, y)
    []
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=2, seed=0)  # a line between the classes
    >>> [finding.kind for finding in diagnosis.overfit_small(model, x, y)]
    ['cannot_overfit']
    """
    check_integer(rows, "rows", 1, 2**31 - 1)
    check_integer(steps, "steps", 1, 2**31 - 1)
    samples = as_rows(x, model.dtype, model.input_shape if model.built else None, "x")
    check_lengths(samples, y, ("x", "y"))
    chosen = evenly(len(samples), rows)
    few, answers = samples[chosen], np.asarray(y)[chosen]
    best = {"loss": np.inf, "accuracy": 0.0}
    goal: float | None = None
    for rate in RATES:
        twin = copy.deepcopy(model)
        for layer in twin.layers:
            if isinstance(layer, Dropout):
                layer.p = 0.0
            layer.l1, layer.l2, layer.max_norm = 0.0, 0.0, None
        trial = _Trial()
        twin.compile(_loss_of(model, loss), Adam(rate), l2=0.0)
        if not twin.built:
            twin.build(few.shape[1:])
        assert twin.loss is not None
        if twin.loss.kind == "regression":
            case = Case()
            targets = twin.loss.prepare_targets(
                answers, len(few), twin.output_shape or (), twin.dtype
            )
            know_targets(case, twin.loss, targets, twin.output_shape or ())
            goal = trial.goal = BY_HEART * (case.constant_loss or 0.0)
        try:
            twin.fit(few, answers, batch_size=None, epochs=steps, callbacks=[trial], verbose=False)
        except NonFiniteError:
            continue
        finally:
            best["loss"] = min(best["loss"], trial.loss)
            best["accuracy"] = max(best["accuracy"], trial.accuracy)
        if trial.done:
            return []
    got = (
        f"{best['accuracy']:.0%} of them right"
        if goal is None
        else f"a loss of {best['loss']:.4g} (to come below {goal:.4g})"
    )
    return [
        Finding(
            "cannot_overfit",
            f"{len(few)} rows, {steps} steps of Adam without regularisation: {got}",
            "something is broken, or much too small: a layer of your own with a wrong gradient, dead "
            "units, targets that do not belong to the rows, equal rows with different targets",
            "fastnn.gradcheck on the model, a look at rows and targets side by side, more units",
            severity="error",
        )
    ]


class _Trial:
    """Stops where everything is learned by heart."""

    def __init__(self) -> None:
        self.goal: float | None = None
        self.loss, self.accuracy, self.done = float("inf"), 0.0, False

    def on_epoch_end(self, training: Training) -> None:
        row = training.history.last
        self.loss = min(self.loss, row["loss"])
        if self.goal is None:
            self.accuracy = max(self.accuracy, row["accuracy"])
            self.done = self.accuracy == 1.0
        else:
            self.done = self.loss <= self.goal
        if self.done:
            training.stop()


def _loss_of(model: Sequential, loss: str | Loss | None) -> Loss:
    return get_loss(loss) if loss is not None else model.loss or SoftmaxCrossEntropy()
