"""Callbacks: stopping, files, rates, and errors that come before the time is spent."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn.callbacks import (
    Checkpoint,
    CSVLog,
    EarlyStopping,
    LambdaCallback,
    ProgressBar,
    ReduceOnPlateau,
)


@pytest.fixture
def noise():
    """Labels that have nothing to do with the rows: validation only gets worse."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((80, 6)), rng.integers(0, 3, 80)


def fit(noise, callbacks, *, epochs=30, lr=0.1, validate=True, **options):
    X, y = noise
    layers = [fnn.Dense(32), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(3)]
    model = fnn.Sequential(layers, seed=0, dtype="float64")
    options = {"optimizer": fnn.SGD(lr, momentum=0.9), "batch_size": 10, **options}
    history = model.fit(
        X[:50],
        y[:50],
        epochs=epochs,
        validation_data=(X[50:], y[50:]) if validate else None,
        callbacks=callbacks,
        verbose=False,
        **options,
    )
    return model, history


@pytest.mark.parametrize(("monitor", "best"), [("val_loss", min), ("val_accuracy", max)])
def test_early_stopping_brings_the_best_epoch_back(noise, monitor, best):
    kept = {}

    def keep(training):
        kept[training.epoch] = {k: v.copy() for k, v in training.model.state().items()}

    stopping = EarlyStopping(monitor, patience=4)
    model, history = fit(noise, [LambdaCallback(on_epoch_end=keep), stopping])
    column = history[monitor]
    assert stopping.best == best(column)
    assert stopping.best_epoch == 1 + column.index(best(column))
    assert history.epochs == stopping.stopped_epoch == stopping.best_epoch + 4 < 30
    for name, value in model.state().items():  # running statistics, too
        np.testing.assert_array_equal(value, kept[stopping.best_epoch][name])
    last = kept[history.epochs]["0.weight"]
    assert (model.parameters()["0.weight"] != last).any()


def test_early_stopping_may_leave_the_last_weights(noise):
    model, history = fit(noise, [EarlyStopping(patience=4, restore_best=False)])
    again, _ = fit(noise, [], epochs=history.epochs)
    np.testing.assert_array_equal(model.parameters()["0.weight"], again.parameters()["0.weight"])


def test_the_best_weights_come_back_after_the_last_epoch_and_after_an_error(noise):
    stopping = EarlyStopping(patience=100)
    model, history = fit(noise, [stopping], epochs=8)
    assert stopping.stopped_epoch is None and history.epochs == 8 > stopping.best_epoch
    X, y = noise
    assert model.evaluate(X[50:], y[50:])["loss"] == pytest.approx(stopping.best, rel=1e-12)

    def interrupt(training):
        if training.epoch == 6:
            raise KeyboardInterrupt

    seen = {}
    callbacks = [
        LambdaCallback(on_fit_begin=lambda training: seen.update(model=training.model)),
        EarlyStopping(patience=100),
        LambdaCallback(on_epoch_end=interrupt),
    ]
    with pytest.raises(KeyboardInterrupt):
        fit(noise, callbacks)
    loss = seen["model"].evaluate(X[50:], y[50:])["loss"]
    assert loss == pytest.approx(callbacks[1].best, rel=1e-12)


def test_an_improvement_smaller_than_min_delta_is_none(noise):
    stopping = EarlyStopping("loss", patience=3, min_delta=10.0)
    _, history = fit(noise, [stopping])
    assert stopping.best_epoch == 1 and history.epochs == 4


def test_what_cannot_be_watched_is_said_before_training(noise):
    steps = []
    count = LambdaCallback(on_epoch_end=lambda training: steps.append(training.step))
    for callback in (EarlyStopping(), ReduceOnPlateau(), Checkpoint("x", monitor="val_accuracy")):
        with pytest.raises(ValueError, match="no validation data: pass validation_data"):
            fit(noise, [count, callback], validate=False)
    assert steps == []
    with pytest.raises(ValueError, match="no 'f1' to watch .there are epoch, loss"):
        fit(noise, [EarlyStopping("f1")])
    with pytest.raises(ValueError, match="empty: its shape is"):
        model = fnn.Sequential([fnn.Dense(3)], seed=0)
        model.fit(*noise, validation_data=(np.zeros((0, 6)), np.zeros(0, int)))


def test_checkpoints_are_written_where_due_and_go_on_exactly(noise, tmp_path):
    every = Checkpoint(tmp_path / "new" / "{epoch:02d}-{loss:.2f}.safetensors", every=3)
    best = Checkpoint(tmp_path / "best.safetensors", monitor="val_loss")
    model, history = fit(noise, [every, best], epochs=7)
    assert [path.name[:3] for path in every.written] == ["03-", "06-"]
    assert f"{history['loss'][5]:.2f}" in every.written[1].name
    X, y = noise
    found = fnn.load(best.written[0]).evaluate(X[50:], y[50:])
    assert len(best.written) == 1 and found["loss"] == pytest.approx(min(history["val_loss"]))
    resumed = fnn.load(every.written[1])
    resumed.fit(X[:50], y[:50], batch_size=10, epochs=1, verbose=False)
    np.testing.assert_array_equal(resumed.parameters()["0.weight"], model.parameters()["0.weight"])


def test_a_checkpoint_that_cannot_be_written_is_refused_at_once(noise, tmp_path):
    with pytest.raises(ValueError, match="cannot be filled in.*fields may be epoch, loss"):
        Checkpoint("{accuracy_of_tests}.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        fit(noise, [Checkpoint(tmp_path / "file" / "model")])


def test_the_csv_log_is_the_history_as_it_grows(noise, tmp_path):
    path = tmp_path / "log.csv"
    lines = []

    def look(training):
        lines.append(len(path.read_text().splitlines()))
        if training.epoch == 3:
            training.history.append(epoch=3.5, extra=1.0)  # what another callback may do

    log = CSVLog(path)
    _, history = fit(noise, [log, LambdaCallback(on_epoch_end=look)], epochs=5)
    assert lines == [2, 3, 4, 5, 6]
    read = fnn.History.from_csv(path)
    assert read["epoch"] == [1, 2, 3, 4, 5] and read["loss"][-1] == history["loss"][-1]
    assert math.isnan(read["extra"][0])
    fit(noise, [CSVLog(path, append=True)], epochs=2)
    assert fnn.History.from_csv(path)["epoch"] == [1, 2, 3, 4, 5, 6, 7]
    fit(noise, [CSVLog(path)], epochs=2)
    assert fnn.History.from_csv(path)["epoch"] == [1, 2]
    path.write_text("something else\n1\n")
    with pytest.raises(ValueError, match="is not a training history"):
        fit(noise, [CSVLog(path, append=True)])


def test_the_rate_falls_on_a_plateau_and_not_below_its_floor(noise):
    reduce = ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=10.0, min_lr=0.02)
    model, history = fit(noise, [reduce], epochs=12)
    assert reduce.reductions == [3, 5, 7]
    assert model.optimizer.lr == 0.02 and history["lr"][:4] == [0.1, 0.1, 0.1, 0.05]
    cooled = ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=10.0, cooldown=3)
    fit(noise, [cooled], epochs=12)
    assert cooled.reductions == [3, 8]
    never = ReduceOnPlateau("loss", patience=2, mode="max", min_delta=0.0)
    fit(noise, [never], epochs=4)
    assert never.reductions == [3]


def test_a_schedule_is_lowered_as_a_whole(noise):
    reduce = ReduceOnPlateau("loss", factor=0.1, patience=2, min_delta=10.0)
    schedule = fnn.schedules.Cosine(0.1, steps=5 * 6)
    _, history = fit(noise, [reduce], epochs=4, optimizer=fnn.SGD(schedule))
    assert history["lr"] == pytest.approx(
        [schedule(4), schedule(9), schedule(14), schedule(19) / 10]
    )


def test_a_callback_of_functions_has_only_what_it_was_given(noise):
    seen = []
    callback = LambdaCallback(
        on_fit_begin=lambda training: seen.append("begin"),
        on_fit_end=lambda training: seen.append(training.epoch),
    )
    fit(noise, [callback], epochs=2)
    assert seen == ["begin", 2]
    assert not hasattr(callback, "on_batch_end") and not hasattr(callback, "needs_gradients")
    reader = LambdaCallback(on_epoch_end=lambda t: t.model.gradients(), needs_gradients=True)
    fit(noise, [reader], epochs=1)
    with pytest.raises(TypeError, match="no function is given"):
        LambdaCallback()
    with pytest.raises(TypeError, match="on_epoch_end is 3"):
        LambdaCallback(on_epoch_end=3)


def test_a_function_after_every_so_many_steps(noise):
    seen = []
    callback = LambdaCallback(on_batch_end=lambda training: seen.append(training.step), every=3)
    for _ in range(2):  # the second fit counts anew
        fit(noise, [callback], epochs=4)  # of 5 steps
        assert seen == [3, 6, 9, 12, 15, 18]
        seen.clear()
    with pytest.raises(TypeError, match="every says how often on_batch_end"):
        LambdaCallback(on_epoch_end=print, every=5)


def test_the_progress_bar_shows_epochs_and_is_closed_after_an_error(noise):
    shown = io.StringIO()
    bar = ProgressBar(file=shown, desc="noise")
    fit(noise, [bar], epochs=3)
    assert "noise" in shown.getvalue() and "3/3" in shown.getvalue()
    assert "val_loss=" in shown.getvalue()

    def fail(training):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        fit(noise, [bar, LambdaCallback(on_epoch_end=fail)])
    assert bar._bar is None


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EarlyStopping(patience=0), "patience"),
        (lambda: EarlyStopping(mode="up"), "mode"),
        (lambda: EarlyStopping(monitor=3), "monitor"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta"),
        (lambda: Checkpoint("x", every=0), "every"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown"),
        (lambda: ReduceOnPlateau(min_lr=-1), "min_lr"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()
