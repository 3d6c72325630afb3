"""The mini-batch loop.

`fit` prepares the data once (those of a source: block by block) and then, epoch by epoch, takes windows
of rows in a new order (`fastnn.windows`) and hands whole stretches of steps to the step (compiled where it
can be, `PlainStep` where not). What happens per epoch in Python is little, because an epoch of a small
network takes less than a millisecond.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._kernels.machine import interruptible
from .checks import check_integer
from .history import History
from .hooks import Hooks, checked_callbacks, need_gradients
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
from .sample_weights import prepare_weights
from .sources import Source, as_source, is_batches
from .windows import Feed, InMemory, Streamed, Stretch, Window, converter

if TYPE_CHECKING:
    from .models import Sequential

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
    weighted: bool = False,
) -> Step:
    """The compiled step where the model can be compiled, the plain one where it cannot.

    `soft`: the targets of a classification are probabilities, not labels. `weighted`: rows have weights.
    """
    from .stages import NotCompilable
    from .step import compile_step

    try:
        step: Step = compile_step(
            model, loss, optimizer, rows,
            keep_gradients=keep_gradients, l2=l2, soft=soft, weighted=weighted,
        )  # fmt: skip
    except NotCompilable:
        step = PlainStep(model, loss, optimizer, rows, keep_gradients, l2)
    return step


class Training:
    """A running `fit`, as callbacks see it.

    A callback with `on_batch_end` is called after each step, unless it has a method ``next_step(training)``
    too: that is asked before the first step and after each call, and returns the step (a `step` of below)
    after which `on_batch_end` is wanted next, or `math.inf`. The steps until then need no Python between
    them; `losses` has those of the epoch so far.

    It may read `model.gradients()`: the steps of that fit leave them in memory, as they do with
    `keep_gradients=True`. An attribute `needs_gradients`, True or False, says it for any callback.

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
        In `on_batch_end` the loss of that step; in `on_epoch_end` the mean over the epoch, in which each
        step counts as much as its rows, or as their weights.
    losses : ndarray of float64
        Of each step of this epoch so far (8 bytes a step; the next epoch has another array).
    epochs, batch_size : int
    steps_per_epoch, samples : int
        0 in the first epoch on batches of which nobody knows how many there are.
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
        feed: Feed,
        evaluate: Callable[[], dict[str, float]] | None,
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
        self._losses, self._steps = np.empty(0), 0  # of this epoch
        self.epochs = epochs
        self.samples = feed.samples
        self.batch_size = feed.batch_size
        self.steps_per_epoch = feed.steps
        self.error: BaseException | None = None
        self._classifies = model.loss.kind == "classification"
        self.has_validation = evaluate is not None
        self._feed, self._evaluate = feed, evaluate
        self._rng = model.rng if shuffle else None
        self._hooks = Hooks(callbacks)
        self._progress = progress
        self._stopped = False
        self._seconds_per_step = math.inf
        self._snapshot = Snapshot(model, self.optimizer)
        self._lr = math.nan
        self._lrs = np.empty(0)

    def stop(self) -> None:
        """End the fit after the current step; the epoch gets its row in the history."""
        self._stopped = True

    @property
    def losses(self) -> np.ndarray:
        return self._losses[: self._steps]

    def sample(self, count: int) -> tuple[np.ndarray, ...]:
        """At most `count` rows of the training data and their targets, as the steps take them (copies):
        evenly spaced, of data that are read from a source in its first blocks."""
        return self._feed.sample(count)

    def run(self) -> History:
        """All epochs; whatever ends them, the callbacks hear of it and the model can be used."""
        self.model.history = self.history
        try:
            with interruptible():
                self._hooks.begin(self)
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
            self._hooks.call("on_fit_end", self)
        return self.history

    def _run_epoch(self) -> None:
        self._losses, self._steps = np.empty(self.steps_per_epoch), 0
        self._hooks.call("on_epoch_begin", self)
        self._snapshot.take()
        started = time.perf_counter()
        total = weight = correct = 0.0
        rows = 0
        with closing(self._feed.windows(self._rng)) as windows:
            for window, stretch in ((w, stretch) for w in windows for stretch in w.plan):
                _check_batch_rows(self.model, stretch.rows)
                weighted = window.weights is not None
                step = self.model.step_for(stretch.rows, window.targets, weighted)
                done = 0
                while done < stretch.steps and not self._stopped:
                    outcome = self._run_steps(step, window, stretch, done)
                    done += outcome.steps
                    rows += outcome.steps * stretch.rows
                    correct += outcome.correct
                    # added one by one: the same bits, however many steps a call has
                    if outcome.weights is None:
                        for loss in outcome.losses:
                            total += loss * stretch.rows
                        weight += outcome.steps * stretch.rows
                    else:
                        for loss, share in zip(outcome.losses, outcome.weights, strict=True):
                            total += loss * share
                            weight += share
                if self._stopped:
                    break
        if self._feed.steps != self.steps_per_epoch:
            self.samples, self.steps_per_epoch = self._feed.samples, self._feed.steps
            self._progress.learn(self.steps_per_epoch)
        seconds = time.perf_counter() - started
        if (where := not_finite(self.model)) is not None:
            self._snapshot.restore()
            raise parameter_error(where, self.epoch, self._steps, self._lr)
        if self._steps == 0:  # stopped before the first step
            return
        if not weight:
            if not self._stopped:  # only a source is not known to hold something before it is read
                raise ValueError(
                    "the weights of all rows of the source add up to nothing: at least one row has to count"
                )
            weight = 1.0  # the losses up to here have added nothing either
        self.loss = total / weight
        row = {
            "epoch": self.epoch,
            "loss": self.loss,
            "lr": self._lr,
            "seconds": seconds,
            "samples_per_second": rows / max(seconds, 1e-9),
        }
        if self._classifies:
            row["accuracy"] = correct / weight
        if self._evaluate is not None:
            row.update((f"val_{name}", value) for name, value in self._evaluate().items())
        self.history.append(**row)
        self._hooks.call("on_epoch_end", self)

    def _run_steps(self, step: Step, window: Window, stretch: Stretch, done: int) -> Outcome:
        """One call of the step: as many steps as about 0.1 s holds and no callback waits for."""
        wait = min(
            SECONDS_PER_CALL / self._seconds_per_step, self._hooks.steps_until_due(self.step)
        )
        count = min(stretch.steps - done, max(1, math.ceil(wait)))
        lrs = self._learning_rates(count)
        counted = self.optimizer.step_count
        started = time.perf_counter()
        first = stretch.first + done * stretch.rows
        outcome = step.run(
            window.X, window.targets, window.order, first, count, lrs, window.weights
        )
        self._seconds_per_step = max(1e-9, (time.perf_counter() - started) / count)
        self.optimizer.step_count = counted + outcome.steps
        self.model.mark_gradients(step.keeps_gradients)
        self.step += outcome.steps
        self._lr = float(lrs[max(0, outcome.steps - 1)])
        self.loss = outcome.last_loss
        self._note(outcome.losses)
        if outcome.failure is not None:
            self._fail(outcome, self._steps + 1)
        if self._progress.enabled:
            self._progress.update(self.epoch, self._steps, loss=outcome.last_loss)
        self._hooks.after_steps(self)
        return outcome

    def _note(self, losses: list[float]) -> None:
        done = self._steps + len(losses)
        if done > self._losses.size:  # an epoch of which nobody knows how many steps it has
            self._losses = np.concatenate([self.losses, np.empty(max(done, 64))])
        self._losses[self._steps : done] = losses
        self._steps = done

    def _learning_rates(self, count: int) -> np.ndarray:
        """`Optimizer.learning_rates`, without a new array per epoch where the rate is constant."""
        lr = self.optimizer.lr
        if callable(lr):
            return self.optimizer.learning_rates(count)
        if self._lrs.size < count or self._lrs[0] != lr:
            self._lrs = self.optimizer.learning_rates(max(count, self.steps_per_epoch))
        return self._lrs[:count]

    def _fail(self, outcome: Outcome, step: int) -> None:
        restored = self._restore_if_needed()
        raise loss_error(self.model, outcome, self.epoch, step, self._lr, restored)

    def _restore_if_needed(self) -> bool:
        if not_finite(self.model) is None:
            return False
        self._snapshot.restore()
        return True


def fit(
    model: Sequential,
    X: Any,
    y: Any,
    *,
    loss: str | Loss | None,
    optimizer: str | Optimizer | None,
    batch_size: int | None,
    epochs: int,
    validation_data: Any,
    shuffle: bool,
    callbacks: Sequence[Any],
    verbose: bool | int | Literal["auto"],
    l2: float | None,
    keep_gradients: bool | None,
    sample_weight: Any,
) -> History:
    """Check everything, then run; the arguments are those of `Sequential.fit`."""
    epochs = check_integer(epochs, "epochs", 1, 2**31 - 1)
    callbacks = checked_callbacks(callbacks)
    if model.built:
        check_parameters(model)
    # Full-batch descent needs all rows of an array in memory; batches cannot give them.
    streams = batch_size is not None or is_batches(X)
    source = as_source(X, y, sample_weight=sample_weight) if streams else None
    choose = partial(model.compile, loss, optimizer, l2=l2, keep_gradients=keep_gradients)
    feed: Feed
    if source is None:
        rows = as_rows(X, model.dtype, model.input_shape if model.built else None)
        check_lengths(rows, y)
        check_finite(rows, X, "X")
        if not model.built:
            model.build(rows.shape[1:])
        choose()
        assert model.loss is not None
        targets = model.loss.prepare_targets(y, len(rows), model.output_shape, model.dtype)
        weights = prepare_weights(model.loss, sample_weight, len(rows), model.dtype)
        size = _batch_size(model, batch_size, len(rows))
        feed = InMemory(rows, targets, size, _min_rows(model), weights)
    else:
        source.check_passes(epochs)
        if not model.built:
            model.build(as_rows(source.first_block().x, model.dtype).shape[1:])
        choose()
        feed = _streamed(model, source, batch_size)
    progress = Progress(epochs, feed.steps, enabled="auto" if verbose == "auto" else bool(verbose))
    evaluate = _prepare_validation(model, validation_data, epochs)
    training = Training(model, feed, evaluate, epochs, bool(shuffle), callbacks, progress)
    keeps = model.keep_gradients
    try:
        model.compile(keep_gradients=keeps or need_gradients(callbacks))
        return training.run()
    finally:
        model.compile(keep_gradients=keeps)  # the callbacks are those of this fit only


def train_on_batch(model: Sequential, x: Any, y: Any, sample_weight: Any = None) -> float:
    """One step on one batch; see `Sequential.train_on_batch`."""
    loss, optimizer = model.configured()
    rows = as_rows(x, model.dtype, model.input_shape if model.built else None, "x")
    if not model.built:
        model.build(rows.shape[1:])
    check_lengths(rows, y, ("x", "y"))
    _check_batch_rows(model, len(rows))
    targets = loss.prepare_targets(y, len(rows), model.output_shape, model.dtype)
    weights = None
    if sample_weight is not None:
        weights = prepare_weights(loss, sample_weight, len(rows), model.dtype, may_vanish=True)
    step = model.step_for(len(rows), targets, weights is not None)
    lrs = optimizer.learning_rates(1)
    counted = optimizer.step_count
    outcome = step.run(rows, targets, np.arange(len(rows)), 0, 1, lrs, weights)
    optimizer.step_count = counted + outcome.steps
    model.mark_gradients(step.keeps_gradients)
    if outcome.failure is not None:
        check_finite(rows, x, "x")
        raise loss_error(model, outcome, 0, 0, float(lrs[0]), restored=False)
    return outcome.last_loss


def _streamed(model: Sequential, source: Source, batch_size: int | None) -> Streamed:
    """A source as the feed of a built and compiled model."""
    if batch_size is None:
        raise ValueError(
            "batch_size=None is full-batch descent, which needs all rows in memory: give a batch_size, "
            "or pass arrays"
        )
    assert model.loss is not None and model.input_shape is not None
    size = _batch_size(model, batch_size, source.rows)
    convert = converter(model.dtype, model.input_shape, model.loss, model.output_shape)
    itemsize = model.dtype.itemsize
    return Streamed(source, convert, model.input_shape, itemsize, size, _min_rows(model))


def _batch_size(model: Sequential, batch_size: int | None, rows: int | None) -> int:
    """The rows of a mini-batch: no more than there are, no fewer than a layer needs."""
    size = rows if batch_size is None else check_integer(batch_size, "batch_size", 1, 2**31 - 1)
    assert size is not None
    size = size if rows is None else min(size, rows)
    _check_batch_rows(model, size)
    return size


def _min_rows(model: Sequential) -> int:
    return max(layer.min_rows for layer in model.layers)


def _check_batch_rows(model: Sequential, rows: int) -> None:
    for layer in model.layers:
        if rows < layer.min_rows:
            raise ValueError(
                f"layer {layer.label} cannot train on a batch of {rows} row{'s'[: rows != 1]}: "
                f"it takes statistics over the batch, give it at least {layer.min_rows} rows"
            )


def _prepare_validation(
    model: Sequential, data: Any, epochs: int
) -> Callable[[], dict[str, float]] | None:
    """What evaluates the model on the validation data, which are checked here (a source as it is read)."""
    if data is None:
        return None
    X, y, sample_weight = data, None, None
    if not is_batches(data):
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise TypeError(
                "validation_data is expected as a pair (X, y), as (X, y, sample_weight), as batches, or None"
            )
        X, y, sample_weight = data if len(data) == 3 else (*data, None)
    names = ("validation_data[0]", "validation_data[1]")
    if (source := as_source(X, y, "validation_data", sample_weight)) is not None:
        source.check_passes(epochs)
        return partial(model.evaluate_source, source)
    rows = as_rows(X, model.dtype, model.input_shape, names[0])
    check_lengths(rows, y, names)
    check_finite(rows, X, names[0])
    assert model.loss is not None
    targets = model.loss.prepare_targets(y, len(rows), model.output_shape, model.dtype, names[1])
    weights = prepare_weights(
        model.loss, sample_weight, len(rows), model.dtype, "validation_data[2]"
    )
    return partial(model.evaluate_prepared, rows, targets, weights)
