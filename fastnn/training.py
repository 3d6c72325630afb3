"""The mini-batch loop.

`fit` prepares the data once and then, epoch by epoch, draws an order of the rows and hands whole
stretches of steps to the step (compiled where it can be, `PlainStep` where not). What happens per
epoch in Python is little, because an epoch of a small network takes less than a millisecond.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ._kernels.machine import interruptible
from .checks import check_integer
from .history import History
from .inputs import as_rows, check_finite, check_lengths
from .losses import Loss
from .optimizers import Optimizer
from .plain_step import Outcome, PlainStep, Step
from .progress import Progress
from .recovery import (
    NonFiniteError,
    Snapshot,
    check_parameters,
    loss_error,
    not_finite,
    parameter_error,
)

if TYPE_CHECKING:
    from .models import Sequential

HOOKS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_fit_end")

# The steps of one call: long enough that the call costs nothing, short enough for a living bar.
SECONDS_PER_CALL = 0.1


def make_step(
    model: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    rows: int,
    keep_gradients: bool = False,
    l2: float = 0.0,
    soft: bool = False,
) -> Step:
    """The compiled step where the model can be compiled, the plain one where it cannot.

    `soft`: the targets of a classification are probabilities, not labels.
    """
    from .stages import NotCompilable
    from .step import compile_step

    try:
        step: Step = compile_step(
            model, loss, optimizer, rows, keep_gradients=keep_gradients, l2=l2, soft=soft
        )
    except NotCompilable:
        step = PlainStep(model, loss, optimizer, rows, keep_gradients, l2)
    return step


class Stretch(NamedTuple):
    """Steps of one size that follow each other in an epoch."""

    rows: int
    first: int
    steps: int


def plan_epoch(n: int, batch_size: int, min_rows: int = 1) -> list[Stretch]:
    """Cut n rows into mini-batches.

    The last one takes what is left over. Where that is less than `min_rows` (two with batch norm),
    it joins the batch before it.

    Examples
    --------
    >>> plan_epoch(10, 4)
    [Stretch(rows=4, first=0, steps=2), Stretch(rows=2, first=8, steps=1)]
    >>> plan_epoch(9, 4, min_rows=2)
    [Stretch(rows=4, first=0, steps=1), Stretch(rows=5, first=4, steps=1)]
    """
    full, rest = divmod(n, batch_size)
    if 0 < rest < min_rows and full:
        full -= 1
        rest += batch_size
    plan = [Stretch(batch_size, 0, full), Stretch(rest, full * batch_size, 1)]
    return [stretch for stretch in plan if stretch.rows and stretch.steps]


class Training:
    """A running `fit`, as callbacks see it.

    A callback with `on_batch_end` may read `model.gradients()`: the steps of that fit leave them in
    memory, as they do with `keep_gradients=True`. An attribute `needs_gradients`, True or False, says it
    for any callback.

    Attributes
    ----------
    model : Sequential
    history : History
        The epochs that have ended.
    epoch : int
        The current epoch, from 1.
    step : int
        The steps done in this fit, over all its epochs.
    loss : float
        In `on_batch_end` the loss of that step; in `on_epoch_end` the mean over the epoch.
    epochs, batch_size, steps_per_epoch, samples : int
    optimizer : Optimizer
        Its `lr` may be changed at any time.
    has_validation : bool
        Whether the history will have `val_loss` and its likes.
    error : BaseException or None
        In `on_fit_end`: what ended the fit early, if anything did.
    """

    def __init__(
        self,
        model: Sequential,
        X: np.ndarray,
        targets: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None,
        plan: list[Stretch],
        epochs: int,
        shuffle: bool,
        callbacks: Sequence[Any],
        progress: Progress,
    ) -> None:
        assert model.optimizer is not None and model.loss is not None
        self.model = model
        self.optimizer = model.optimizer
        self.history = History()
        self.epoch = 0
        self.step = 0
        self.loss = math.nan
        self.epochs = epochs
        self.samples = len(X)
        self.batch_size = plan[0].rows
        self.steps_per_epoch = sum(stretch.steps for stretch in plan)
        self.error: BaseException | None = None
        self._classifies = model.loss.kind == "classification"
        self.has_validation = validation is not None
        self._X, self._targets, self._validation = X, targets, validation
        self._plan = plan
        self._natural = np.arange(len(X))
        self._order = self._natural.copy()
        self._shuffle = shuffle
        self._hooks = {name: _hooks(callbacks, name) for name in HOOKS}
        self._progress = progress
        self._stopped = False
        self._seconds_per_step = math.inf
        self._snapshot = Snapshot(model, self.optimizer)
        self._lr = math.nan
        self._lrs = np.empty(0)

    def stop(self) -> None:
        """End the fit after the current step; the epoch gets its row in the history."""
        self._stopped = True

    def sample(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training data and their targets, as the steps take them (copies)."""
        return self._X[rows], self._targets[rows]

    def run(self) -> History:
        """All epochs; whatever ends them, the callbacks hear of it and the model can be used."""
        self.model.history = self.history
        try:
            with interruptible():
                self._call("on_fit_begin")
                while self.epoch < self.epochs and not self._stopped:
                    self.epoch += 1
                    self._run_epoch()
        except BaseException as error:
            self.error = error
            if not isinstance(error, NonFiniteError):
                self._restore_if_needed()
            raise
        finally:
            self._progress.close()
            self._call("on_fit_end")
        return self.history

    def _run_epoch(self) -> None:
        self._call("on_epoch_begin")
        self._snapshot.take()
        started = time.perf_counter()
        if self._shuffle:
            # From the natural order each time: two fits of one epoch are one fit of two.
            np.copyto(self._order, self._natural)
            self.model.rng.shuffle(self._order)
        total, correct, rows, steps = 0.0, 0, 0, 0
        for stretch in self._plan:
            step = self.model.step_for(stretch.rows, self._targets)
            done = 0
            while done < stretch.steps and not self._stopped:
                outcome = self._run_steps(step, stretch, done, steps)
                done += outcome.steps
                steps += outcome.steps
                rows += outcome.steps * stretch.rows
                total += outcome.loss * stretch.rows
                correct += outcome.correct
        seconds = time.perf_counter() - started
        if (where := not_finite(self.model)) is not None:
            self._snapshot.restore()
            raise parameter_error(where, self.epoch, steps, self._lr)
        if steps == 0:  # stopped before the first step
            return
        self.loss = total / rows
        row = {
            "epoch": self.epoch,
            "loss": self.loss,
            "lr": self._lr,
            "seconds": seconds,
            "samples_per_second": rows / max(seconds, 1e-9),
        }
        if self._classifies:
            row["accuracy"] = correct / rows
        if self._validation is not None:
            result = self.model.evaluate_prepared(*self._validation)
            row.update((f"val_{name}", value) for name, value in result.items())
        self.history.append(**row)
        self._call("on_epoch_end")

    def _run_steps(self, step: Step, stretch: Stretch, done: int, before: int) -> Outcome:
        """One call of the step: as many steps as about 0.1 s holds, one where callbacks wait."""
        left = stretch.steps - done
        if self._hooks["on_batch_end"]:
            count = 1
        else:
            count = max(1, min(left, int(SECONDS_PER_CALL / self._seconds_per_step)))
        lrs = self._learning_rates(count)
        counted = self.optimizer.step_count
        started = time.perf_counter()
        first = stretch.first + done * stretch.rows
        outcome = step.run(self._X, self._targets, self._order, first, count, lrs)
        self._seconds_per_step = max(1e-9, (time.perf_counter() - started) / count)
        self.optimizer.step_count = counted + outcome.steps
        self.model.mark_gradients(step.keeps_gradients)
        self.step += outcome.steps
        self._lr = float(lrs[max(0, outcome.steps - 1)])
        self.loss = outcome.last_loss
        if outcome.failure is not None:
            self._fail(outcome, before + outcome.steps + 1)
        if self._progress.enabled:
            self._progress.update(self.epoch, before + outcome.steps, loss=outcome.last_loss)
        self._call("on_batch_end")
        return outcome

    def _learning_rates(self, count: int) -> np.ndarray:
        """`Optimizer.learning_rates`, without a new array per epoch where the rate is constant."""
        lr = self.optimizer.lr
        if callable(lr):
            return self.optimizer.learning_rates(count)
        if self._lrs.size < count or self._lrs[0] != lr:
            self._lrs = self.optimizer.learning_rates(self.steps_per_epoch)
        return self._lrs[:count]

    def _fail(self, outcome: Outcome, step: int) -> None:
        restored = self._restore_if_needed()
        raise loss_error(self.model, outcome, self.epoch, step, self._lr, restored)

    def _restore_if_needed(self) -> bool:
        if not_finite(self.model) is None:
            return False
        self._snapshot.restore()
        return True

    def _call(self, hook: str) -> None:
        for function in self._hooks[hook]:
            function(self)


def fit(
    model: Sequential,
    X: Any,
    y: Any,
    *,
    loss: str | Loss | None,
    optimizer: str | Optimizer | None,
    batch_size: int | None,
    epochs: int,
    validation_data: tuple[Any, Any] | None,
    shuffle: bool,
    callbacks: Sequence[Any],
    verbose: bool | int | Literal["auto"],
    l2: float | None,
    keep_gradients: bool | None,
) -> History:
    """Check everything, then run; the arguments are those of `Sequential.fit`."""
    epochs = check_integer(epochs, "epochs", 1, 2**31 - 1)
    callbacks = _checked_callbacks(callbacks)
    if model.built:
        check_parameters(model)
    rows = as_rows(X, model.dtype, model.input_shape if model.built else None)
    check_lengths(rows, y)
    check_finite(rows, X, "X")
    if not model.built:
        model.build(rows.shape[1:])
    model.compile(loss, optimizer, l2=l2, keep_gradients=keep_gradients)
    assert model.loss is not None
    targets = model.loss.prepare_targets(y, len(rows), model.output_shape, model.dtype)
    plan = _plan_for(model, len(rows), batch_size)
    progress = Progress(
        epochs,
        sum(stretch.steps for stretch in plan),
        enabled="auto" if verbose == "auto" else bool(verbose),
    )
    validation = _prepare_validation(model, validation_data)
    training = Training(
        model, rows, targets, validation, plan, epochs, bool(shuffle), callbacks, progress
    )
    keeps = model.keep_gradients
    # a callback between the steps may read gradients, one between epochs says so if it does
    watched = any(
        getattr(callback, "needs_gradients", hasattr(callback, "on_batch_end"))
        for callback in callbacks
    )
    try:
        model.compile(keep_gradients=keeps or watched)
        return training.run()
    finally:
        model.compile(keep_gradients=keeps)  # the callbacks are those of this fit only


def train_on_batch(model: Sequential, x: Any, y: Any) -> float:
    """One step on one batch; see `Sequential.train_on_batch`."""
    loss, optimizer = model.configured()
    rows = as_rows(x, model.dtype, model.input_shape if model.built else None, "x")
    if not model.built:
        model.build(rows.shape[1:])
    check_lengths(rows, y, ("x", "y"))
    _check_batch_rows(model, len(rows))
    targets = loss.prepare_targets(y, len(rows), model.output_shape, model.dtype)
    step = model.step_for(len(rows), targets)
    lrs = optimizer.learning_rates(1)
    counted = optimizer.step_count
    outcome = step.run(rows, targets, np.arange(len(rows)), 0, 1, lrs)
    optimizer.step_count = counted + outcome.steps
    model.mark_gradients(step.keeps_gradients)
    if outcome.failure is not None:
        check_finite(rows, x, "x")
        raise loss_error(model, outcome, 0, 0, float(lrs[0]), restored=False)
    return outcome.last_loss


def _plan_for(model: Sequential, n: int, batch_size: int | None) -> list[Stretch]:
    size = n if batch_size is None else check_integer(batch_size, "batch_size", 1, 2**31 - 1)
    size = min(size, n)
    _check_batch_rows(model, size)
    return plan_epoch(n, size, max(layer.min_rows for layer in model.layers))


def _check_batch_rows(model: Sequential, rows: int) -> None:
    for layer in model.layers:
        if rows < layer.min_rows:
            raise ValueError(
                f"layer {layer.label} cannot train on a batch of {rows} row{'s'[: rows != 1]}: "
                f"it takes statistics over the batch, give it at least {layer.min_rows} rows"
            )


def _prepare_validation(model: Sequential, data: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError("validation_data is expected as a pair (X, y), or None")
    names = ("validation_data[0]", "validation_data[1]")
    rows = as_rows(data[0], model.dtype, model.input_shape, names[0])
    check_lengths(rows, data[1], names)
    check_finite(rows, data[0], names[0])
    assert model.loss is not None
    targets = model.loss.prepare_targets(
        data[1], len(rows), model.output_shape, model.dtype, names[1]
    )
    return rows, targets


def _checked_callbacks(callbacks: Any) -> list[Any]:
    checked = [callbacks] if _is_callback(callbacks) else list(callbacks or ())
    for callback in checked:
        if not _is_callback(callback):
            raise TypeError(
                f"the callback {callback!r} has none of the methods {', '.join(HOOKS)}"
                + (": make an object of this class" if isinstance(callback, type) else "")
            )
    return checked


def _is_callback(candidate: Any) -> bool:
    return not isinstance(candidate, type) and any(hasattr(candidate, name) for name in HOOKS)


def _hooks(callbacks: Sequence[Any], name: str) -> list[Callable[[Training], object]]:
    return [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]
