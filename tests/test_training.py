from __future__ import annotations

import math
import os
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fnn
from fastnn import training
from fastnn.history import History
from fastnn.plain_step import PlainStep
from fastnn.windows import plan_epoch

CE, MSE = "softmax_cross_entropy", "mean_squared_error"


@pytest.fixture(params=["plain", "default"])
def route(request, monkeypatch):
    """Both steps: through the layers, and the one that `make_step` chooses."""
    if request.param == "plain":
        monkeypatch.setattr(training, "make_step", PlainStep)


class Spy(fnn.Layer):
    """Hands everything on, and notes which rows (their first number) each training batch held."""

    def __init__(self):
        self.batches = []

    def forward(self, x, training=True):
        if training:
            self.batches.append(x[:, 0].astype(int).tolist())
        return x

    def backward(self, dy):
        return dy


def numbered(n, columns=3):
    """Rows whose first number is their index."""
    X = np.random.default_rng(0).standard_normal((n, columns))
    X[:, 0] = np.arange(n)
    return X


def spied(n, normalised=False, **options):
    spy = Spy()
    layers = [spy, fnn.Dense(2, initializer="zeros")]
    model = fnn.Sequential([*layers, fnn.BatchNorm()] if normalised else layers, seed=0)
    options = {"optimizer": fnn.SGD(1e-6), "epochs": 1, **options}
    history = model.fit(numbered(n), np.zeros(n, int), CE, **options)
    return spy.batches, history, model


def blobs(n=120, seed=0):
    """Four classes that can be told apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    centres = 6 * np.random.default_rng(99).standard_normal((4, 5))
    return centres[y] + rng.standard_normal((n, 5)), y


def mlp(dtype="float64", seed=0):
    return fnn.Sequential(
        [fnn.Dense(8), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(4)], dtype=dtype, seed=seed
    )


# --- which rows, in which order ------------------------------------------------------------------


@given(n=st.integers(1, 300), batch=st.integers(1, 300), least=st.integers(1, 3))
def test_a_plan_covers_every_row_once(n, batch, least):
    plan = plan_epoch(n, batch, least)
    covered = [
        row
        for rows, first, steps in plan
        for i in range(steps)
        for row in range(first + i * rows, first + (i + 1) * rows)
    ]
    assert covered == list(range(n))
    if n >= least and batch >= least:
        assert min(stretch.rows for stretch in plan) >= least
    assert all(stretch.rows < batch + least for stretch in plan)


def test_each_epoch_sees_every_row_once_in_a_new_order():
    batches, _, _ = spied(50, batch_size=8, epochs=3)
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 8, 2] * 3
    epochs = [sum(batches[i : i + 7], []) for i in (0, 7, 14)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0] != list(range(50))


def test_without_shuffling_the_rows_come_in_order():
    batches, _, _ = spied(10, batch_size=4, shuffle=False)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_single_row_left_over_joins_the_batch_before_it_under_batch_norm():
    batches, _, _ = spied(13, normalised=True, batch_size=4, shuffle=False)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12]]
    batches, _, _ = spied(13, batch_size=4, shuffle=False)
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]


@pytest.mark.parametrize("batch_size", [None, 13, 1000])
def test_the_whole_set_in_one_batch(batch_size):
    batches, _, _ = spied(13, batch_size=batch_size, shuffle=False, epochs=2)
    assert batches == [list(range(13))] * 2


def test_two_fits_of_one_epoch_are_one_fit_of_two(route):
    X, y = blobs()
    once, twice = mlp(), mlp()
    once.fit(X, y, CE, fnn.SGD(0.05, 0.9), batch_size=16, epochs=2)
    for _ in range(2):
        twice.fit(X, y, CE, twice.optimizer or fnn.SGD(0.05, 0.9), batch_size=16, epochs=1)
    np.testing.assert_array_equal(once.flat.state, twice.flat.state)
    np.testing.assert_array_equal(
        once.optimizer.state["velocity"], twice.optimizer.state["velocity"]
    )


def test_another_optimizer_starts_afresh():
    X, y = blobs()
    model = mlp()
    model.fit(X, y, CE, fnn.SGD(0.05, 0.9), epochs=2)
    velocity = model.optimizer.state["velocity"]
    assert velocity.any() and model.optimizer.step_count == 2
    model.fit(X, y, epochs=1)
    assert model.optimizer.state["velocity"] is velocity and model.optimizer.step_count == 3
    model.fit(X, y, optimizer=fnn.SGD(0.0, 0.9), epochs=1)
    assert model.optimizer.state["velocity"] is not velocity and model.optimizer.step_count == 1


def test_an_optimizer_serves_one_model():
    X, y = blobs()
    optimizer = fnn.SGD(0.1, 0.9)
    mlp().fit(X, y, CE, optimizer, epochs=1)
    with pytest.raises(ValueError, match=r"serves another model.*optimizer.copy\(\)"):
        mlp().fit(X, y, CE, optimizer, epochs=1)
    mlp().fit(X, y, CE, optimizer.copy(), epochs=1)


# --- what is learned and recorded ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_learns_and_records(route, dtype):
    model = mlp(dtype)
    X, y = blobs()
    history = model.fit(
        X, y, CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=8, validation_data=blobs(60, seed=5)
    )
    assert isinstance(history, History) and history is model.history
    assert history["epoch"] == list(range(1, 9))
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert history["accuracy"][-1] > 0.97 and history["val_accuracy"][-1] > 0.9
    assert history["lr"] == [0.1] * 8
    expected = model.evaluate(*blobs(60, seed=5))
    assert history["val_loss"][-1] == pytest.approx(expected["loss"], rel=1e-6)
    for seconds, rate in zip(history["seconds"], history["samples_per_second"], strict=True):
        assert rate == pytest.approx(120 / seconds)


def test_without_validation_its_columns_are_empty():
    history = mlp().fit(*blobs(), epochs=2)
    assert np.isnan(history["val_loss"]).all() and np.isnan(history["val_accuracy"]).all()


def test_the_loss_of_an_epoch_weighs_each_row_alike(route):
    # With a rate of 0 the model stands still: the epoch's loss is that of the whole set.
    X, y = blobs(50)
    model = fnn.Sequential([fnn.Dense(4)], seed=0, dtype="float64")
    history = model.fit(X, y, CE, fnn.SGD(0.0), batch_size=16, epochs=1)
    result = model.evaluate(X, y)
    assert history["loss"][0] == pytest.approx(result["loss"], rel=1e-12)
    assert history["accuracy"][0] == pytest.approx(result["accuracy"])


def test_the_l2_penalty_is_part_of_the_loss_and_weight_decay_is_not(route):
    X, y = blobs(32)

    def first_loss(l2=0.0, weight_decay=0.0):
        model = fnn.Sequential([fnn.Dense(4, bias_init=1.0)], seed=0, dtype="float64")
        before = [a.copy() for a in (*model_of(model, X),)]
        optimizer = fnn.SGD(0.1, weight_decay=weight_decay)
        history = model.fit(X, y, CE, optimizer, batch_size=32, epochs=1, l2=l2)
        return history["loss"][0], before, model.parameters()

    plain, (w, _), after = first_loss()
    penalised, _, after_l2 = first_loss(l2=0.5)
    decayed, _, after_decay = first_loss(weight_decay=0.5 / 32)
    assert penalised - plain == pytest.approx(0.5 / 64 * (w**2).sum(), rel=1e-10)
    assert decayed == plain
    step = -0.1 * 0.5 / 32 * w
    for other in (after_l2, after_decay):
        np.testing.assert_allclose(other["0.weight"] - after["0.weight"], step, rtol=1e-8)
        np.testing.assert_allclose(other["0.bias"], after["0.bias"], rtol=1e-12)


def model_of(model, X):
    model.forward(X)
    return model.parameters().values()


def test_a_schedule_is_asked_for_every_step(route):
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.1 / (1 + step)

    history = mlp().fit(*blobs(), CE, fnn.SGD(schedule), batch_size=50, epochs=2)
    assert asked == [0, 1, 2, 3, 4, 5]
    assert history["lr"] == [0.1 / 3, 0.1 / 6]


@pytest.mark.parametrize("rate", [math.nan, -0.1, math.inf])
def test_a_bad_rate_from_a_schedule_is_named(rate):
    optimizer = fnn.SGD(lambda step: rate if step == 1 else 0.1)
    with pytest.raises(ValueError, match="at step 1, expected a finite learning rate"):
        mlp().fit(*blobs(), CE, optimizer, batch_size=10, epochs=1)


def test_data_that_fit_are_not_copied():
    seen = []

    class Look(Spy):
        def on_fit_begin(self, training):
            seen.append(training._feed.X)

    X, y = blobs()
    X = X.astype(np.float32)
    X.flags.writeable = False
    mlp("float32").fit(X, y, CE, epochs=1, callbacks=[Look()])
    assert np.shares_memory(seen[0], X)


def test_it_is_quiet_when_nobody_watches(capfd):
    model = mlp()
    model.fit(*blobs(), epochs=2)
    assert capfd.readouterr() == ("", "")
    model.fit(*blobs(), epochs=2, verbose=True)
    out, err = capfd.readouterr()
    assert out == "" and "epoch" in err


# --- callbacks -----------------------------------------------------------------------------------


class Recorder:
    def __init__(self):
        self.calls = []

    def on_fit_begin(self, training):
        self.calls.append("fit")

    def on_epoch_begin(self, training):
        self.calls.append(f"epoch {training.epoch}")

    def on_batch_end(self, training):
        assert math.isfinite(training.loss)
        self.calls.append(f"step {training.step}")

    def on_epoch_end(self, training):
        assert training.history.last["loss"] == training.loss
        self.calls.append(f"end {training.history.last['epoch']}")

    def on_fit_end(self, training):
        self.error = training.error
        self.calls.append("done")


def test_callbacks_are_called_in_turn(route):
    recorder = Recorder()
    model = mlp()
    model.fit(*blobs(), CE, fnn.SGD(0.1), batch_size=50, epochs=2, callbacks=[recorder])
    first = ["epoch 1", "step 1", "step 2", "step 3", "end 1"]
    second = ["epoch 2", "step 4", "step 5", "step 6", "end 2"]
    assert recorder.calls == ["fit", *first, *second, "done"]
    assert recorder.error is None


def test_watching_batches_changes_no_bit(route):
    X, y = blobs()
    watched, alone = mlp(), mlp()
    for model, callbacks in ((watched, [Recorder()]), (alone, [])):
        model.fit(X, y, CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=3, callbacks=callbacks)
    np.testing.assert_array_equal(watched.flat.state, alone.flat.state)


def test_stop_in_an_epoch_keeps_what_was_done():
    class Stop:
        def on_batch_end(self, training):
            if training.step == 5:
                training.stop()

    batches, history, model = spied(30, batch_size=10, epochs=9, callbacks=[Stop()])
    assert len(batches) == 5 and history["epoch"] == [1, 2]
    assert model.optimizer.step_count == 5


def test_stop_after_an_epoch():
    class Stop:
        def on_epoch_end(self, training):
            if training.epoch == 3:
                training.stop()

    history = mlp().fit(*blobs(), epochs=9, callbacks=[Stop()])
    assert history.epochs == 3


def test_a_callback_may_change_the_rate(route):
    class Halve:
        def on_epoch_end(self, training):
            training.optimizer.lr /= 2

    history = mlp().fit(*blobs(), CE, fnn.SGD(0.4), epochs=3, callbacks=[Halve()])
    assert history["lr"] == [0.4, 0.2, 0.1]


def test_a_callback_that_reads_gradients_finds_them(route):
    class Norms:
        needs_gradients = True
        norms = ()

        def on_batch_end(self, training):
            gradients = training.model.gradients().values()
            self.norms += (sum((g**2).sum() for g in gradients),)

    callback = Norms()
    mlp().fit(*blobs(), CE, fnn.SGD(0.1), batch_size=40, epochs=1, callbacks=[callback])
    assert len(callback.norms) == 3 and min(callback.norms) > 0


class NowAndThen:
    """Wants to be called after the given steps only."""

    def __init__(self, *steps):
        self.wanted, self.asked, self.called, self.losses = steps, [], [], []

    def next_step(self, training):
        self.asked.append(training.step)
        return min((step for step in self.wanted if step > training.step), default=math.inf)

    def on_batch_end(self, training):
        self.called.append(training.step)
        assert training.loss == training.losses[-1]
        self.losses += [(training.epoch, list(training.losses))]


def test_a_callback_says_after_which_step_it_is_called_next(route, monkeypatch):
    calls = []
    original = training.Training._run_steps

    def run_steps(self, *arguments):
        outcome = original(self, *arguments)
        calls.append(outcome.steps)
        return outcome

    monkeypatch.setattr(training.Training, "_run_steps", run_steps)
    monkeypatch.setattr(training, "SECONDS_PER_CALL", 1e9)
    X, y = blobs(96)
    one, other, every = NowAndThen(3, 8), NowAndThen(3, 11, 16), Recorder()
    plan = dict(loss=CE, optimizer="sgd", batch_size=16, epochs=3)  # six steps an epoch
    mlp().fit(X, y, callbacks=[one, other], **plan)
    assert calls == [1, 2, 3, 2, 3, 1, 4, 2]  # the first to see how long a step takes
    assert (one.called, other.called) == ([3, 8], [3, 11, 16])
    assert (one.asked, other.asked) == ([0, 3, 8], [0, 3, 11, 16])
    calls.clear()
    again = NowAndThen(3, 11, 16)
    mlp().fit(X, y, callbacks=[again, every], **plan)  # which is called after each step
    assert calls == [1] * 18 and len(every.calls) == 2 + 6 + 18
    assert again.losses == other.losses  # those of the steps in between, too
    assert [(epoch, len(losses)) for epoch, losses in again.losses] == [(1, 3), (2, 5), (3, 4)]


@pytest.mark.parametrize("answer", [0, math.nan, None, "soon"])
def test_a_step_that_is_past_or_none_is_refused(answer):
    class Wrong(Recorder):
        def next_step(self, training):
            return answer

    with pytest.raises(ValueError, match=r"next_step of .*Wrong.* after step 0: a later step"):
        mlp().fit(*blobs(), callbacks=[Wrong()])
    Wrong.next_step = 7
    with pytest.raises(TypeError, match=r"next_step of .* is 7, expected a method"):
        mlp().fit(*blobs(), callbacks=[Wrong()])


def test_the_losses_of_a_run_do_not_depend_on_how_its_steps_are_called(route, monkeypatch):
    histories = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(training, "SECONDS_PER_CALL", seconds)
        histories.append(mlp().fit(*blobs(), batch_size=7, epochs=3, optimizer=fnn.SGD(0.3)))
    assert histories[0]["loss"] == histories[1]["loss"]
    assert histories[0]["accuracy"] == histories[1]["accuracy"]


def test_an_error_in_a_callback_ends_the_fit_in_order():
    class Broken(Recorder):
        def on_epoch_end(self, training):
            raise KeyError("broken")

    callback, model = Broken(), mlp()
    with pytest.raises(KeyError, match="broken"):
        model.fit(*blobs(), epochs=3, callbacks=callback)
    assert isinstance(callback.error, KeyError) and callback.calls[-1] == "done"
    assert model.history.epochs == 1


@pytest.mark.parametrize("callback", [print, "csv", Recorder, object()])
def test_what_is_not_a_callback_is_refused(callback):
    with pytest.raises(TypeError, match="none of the methods on_fit_begin"):
        mlp().fit(*blobs(), callbacks=[callback])


# --- bad input -----------------------------------------------------------------------------------

X, y = blobs(20)


def broken(row, column, value):
    bad = X.copy()
    bad[row, column] = value
    return bad


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (dict(X=broken(17, 3, np.nan)), ValueError, "X holds nan at row 17, column 3"),
        (dict(X=broken(0, 0, -np.inf)), ValueError, "X holds -inf at row 0, column 0"),
        (dict(X=broken(9, 1, 1e300)), ValueError, "X holds 1e.300 at row 9, column 1, more than"),
        (dict(X=X[:0]), ValueError, r"X is empty: its shape is \(0, 5\)"),
        (dict(X=X[:, :0]), ValueError, "X is empty"),
        (dict(X=X[:19]), ValueError, "X has 19 rows but y has 20"),
        (dict(X=X.astype(complex)), TypeError, "X is complex"),
        (dict(X=X.astype(str)), TypeError, "X holds text"),
        (dict(X=X[0]), ValueError, r"X has the shape \(5,\)"),
        (dict(y=y[:, None]), ValueError, r"y has the shape \(20, 1\).*y.ravel\(\)"),
        (dict(y=np.eye(5)[y]), ValueError, r"one label per row \(20,\).*argmax\(axis=1\)"),
        (dict(y=2 * np.eye(4)[y]), ValueError, r"y holds \[.*2.*\] in row 0.*sum to 1"),
        (dict(y=np.eye(4)[y] - [0, 0, 0, 1e-9]), ValueError, "expected probabilities"),
        (dict(y=y.astype(float)), TypeError, r"y has the dtype float64.*y.astype\(np.int64\)"),
        (dict(y=y + 0.5), TypeError, "y has the dtype float64.*mean_squared_error"),
        (dict(y=np.where(y == 0, np.nan, y)), ValueError, "y holds nan in row"),
        (dict(y=np.array(list("abcd"))[y]), TypeError, "y has the dtype <U1.*np.unique"),
        (dict(y=np.r_[y[:19], 4]), ValueError, "label 4 in row 19, but the model has 4 outputs"),
        (dict(y=np.r_[y[:3], -1, y[4:]]), ValueError, "label -1 in row 3.*0 to 3"),
        (dict(y=np.uint64(y) + 2**63), ValueError, "label 9223372036854775"),
        (dict(y=None), TypeError, "y is None, expected one target for each row"),
        (dict(X=np.ma.masked_less(X, 0)), ValueError, "X has masked values: fill them"),
        (dict(y=y[:19]), ValueError, "X has 20 rows but y has 19"),
        (dict(loss=MSE, y=X[:, :3]), ValueError, r"y has the shape \(20, 3\).*\(20, 4\)"),
        (dict(loss=MSE, y=y), ValueError, r"y has the shape \(20,\).*\(20, 4\)"),
        (dict(loss=MSE, y=broken(4, 1, np.inf)[:, :4]), ValueError, "y holds inf at row 4, column"),
        (dict(loss=MSE, y=X[:, :4] * 1j), TypeError, "y is complex"),
        (dict(loss="hinge"), ValueError, "unknown loss 'hinge'"),
        (dict(loss=print), TypeError, "expected one of softmax_cross_entropy"),
        (dict(optimizer="adamax"), ValueError, "unknown optimizer 'adamax'"),
        (dict(optimizer=0.1), TypeError, "expected an object such as fastnn.SGD"),
        (dict(batch_size=0), ValueError, "batch_size"),
        (dict(batch_size=2.5), TypeError, "batch_size"),
        (dict(batch_size=1), ValueError, r"layer 1 \(BatchNorm\) cannot train on a batch of 1 row"),
        (dict(X=X[:1], y=y[:1]), ValueError, r"layer 1 \(BatchNorm\) cannot train on a batch of 1"),
        (dict(epochs=0), ValueError, "epochs"),
        (dict(l2=-1.0), ValueError, "l2"),
        (dict(validation_data=X), TypeError, r"a pair \(X, y\)"),
        (dict(validation_data=(X[:, :4], y)), ValueError, r"validation_data\[0\] has 4 values"),
        (dict(validation_data=(X, y[:5])), ValueError, r"validation_data\[1\] has 5"),
        (dict(validation_data=(X, y + 9)), ValueError, r"validation_data\[1\] holds the label"),
        (
            dict(validation_data=(broken(2, 2, np.nan), y)),
            ValueError,
            r"validation_data\[0\] holds nan at row 2, column 2",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_named_and_nothing_is_touched(given, error, match):
    model = mlp("float32")
    model.build(5)
    before = model.flat.state.copy()
    arguments = {"X": X, "y": y, "loss": CE, "epochs": 1, **given}
    with pytest.raises(error, match=match):
        model.fit(**arguments)
    np.testing.assert_array_equal(model.flat.state, before)
    assert model.fit(X, y, CE, epochs=1).epochs == 1  # and it can be used as before


def test_train_on_batch_refuses_as_fit_does(route):
    model = mlp()
    model.compile(CE, fnn.SGD(0.1))
    for x, labels, match in (
        (broken(3, 2, np.nan), y, "x holds nan at row 3, column 2"),
        (X, y[:5], "x has 20 rows but y has 5"),
        (X[:1], y[:1], "cannot train on a batch of 1 row"),
        (X, y + 4, "holds the label"),
    ):
        with pytest.raises(ValueError, match=match):
            model.train_on_batch(x, labels)
        assert np.isfinite(model.flat.state).all() and model.optimizer.step_count == 0
    assert math.isfinite(model.train_on_batch(X, y))


def test_a_model_that_holds_nan_is_not_trained():
    model = mlp()
    model.build(5)
    model.parameters()["3.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"weight of layer 3 \(Dense\) holds NaN"):
        model.fit(X, y, CE, epochs=1)


# --- numbers that stop being finite --------------------------------------------------------------


def deep(**options):
    return fnn.Sequential(
        [fnn.Dense(8), fnn.ReLU(), fnn.Dense(8), fnn.ReLU(), fnn.Dense(1)], seed=0, **options
    )


def test_a_loss_that_is_not_finite_stops_before_the_update(route):
    model = deep()
    model.build(5)
    model.parameters()["2.weight"][:] = 1e38  # finite, but its product is not
    before = model.flat.state.copy()
    recorder = Recorder()
    with pytest.raises(
        fnn.NonFiniteError, match=r"layer 2 \(Dense\).*learning rate was 0.1"
    ) as info:
        model.fit(
            X * 1e3, X[:, :1], MSE, fnn.SGD(0.1, 0.9), batch_size=10, epochs=2, callbacks=[recorder]
        )
    error = info.value
    assert (error.layer, error.epoch, error.step, error.restored) == ("2", 1, 1, False)
    np.testing.assert_array_equal(model.flat.state, before)
    assert not model.optimizer.state["velocity"].any() and model.optimizer.step_count == 0
    assert recorder.error is error and recorder.calls[-1] == "done"


def test_steps_before_the_failing_one_are_kept(route):
    class Blow:
        """Makes the first layer overflow after two steps."""

        def on_batch_end(self, training):
            if training.step == 2:
                self.state = training.model.flat.state.copy()
                training.model.parameters()["0.weight"][:] = 3e38
                self.blown = training.model.flat.state.copy()

    blow, model = Blow(), deep()
    with pytest.raises(fnn.NonFiniteError, match=r"epoch 1, step 3.*layer 0 \(Dense\)"):
        model.fit(X * 9, X[:, :1], MSE, fnn.SGD(1e-4), batch_size=4, epochs=1, callbacks=[blow])
    np.testing.assert_array_equal(model.flat.state, blow.blown)
    assert model.optimizer.step_count == 2


def test_a_loss_that_overflows_by_itself_is_named(route):
    model = fnn.Sequential([fnn.Dense(1)], seed=0)
    with pytest.raises(fnn.NonFiniteError, match="the loss became inf.*in the loss itself"):
        model.fit(X, np.full(20, 1e30), MSE, fnn.SGD(0.1), epochs=1)


def test_parameters_that_overflow_come_back_from_the_start_of_the_epoch(route):
    """The loss is finite, the update is not: only the end of the epoch can tell."""
    kept = {}

    class Keep:
        def on_epoch_begin(self, training):
            if training.epoch == 2:
                kept["state"] = training.model.flat.state.copy()
                kept["velocity"] = training.optimizer.state["velocity"].copy()
                training.optimizer.lr = 3e38

    model = fnn.Sequential([fnn.Dense(6), fnn.BatchNorm(), fnn.Dense(1)], seed=0)
    Y = 50 * X[:, :1]
    with pytest.raises(fnn.NonFiniteError, match="became NaN or infinite in epoch 2") as info:
        model.fit(X, Y, MSE, fnn.SGD(1e-3, 0.9), batch_size=20, epochs=5, callbacks=[Keep()])
    assert info.value.restored and info.value.epoch == 2
    np.testing.assert_array_equal(model.flat.state, kept["state"])
    np.testing.assert_array_equal(model.optimizer.state["velocity"], kept["velocity"])
    assert model.optimizer.step_count == 1 and model.history.epochs == 1
    assert np.isfinite(model.predict(X)).all()


def test_parameters_that_overflow_and_break_the_next_loss_come_back_too(route):
    model = fnn.Sequential([fnn.Dense(1)], seed=0)
    model.build(5)
    before = model.flat.state.copy()
    with pytest.raises(fnn.NonFiniteError, match="those of the epoch's start are back") as info:
        model.fit(X, 50 * X[:, :1], MSE, fnn.SGD(3e38), batch_size=10, epochs=5)
    assert info.value.restored and info.value.step == 2
    np.testing.assert_array_equal(model.flat.state, before)


def test_running_statistics_that_overflow_come_back(route):
    model = fnn.Sequential([fnn.BatchNorm(), fnn.Dense(1)], seed=0)
    model.build(5)
    before = model.flat.state.copy()
    with pytest.raises(fnn.NonFiniteError):
        model.fit(X * 1e25, X[:, :1], MSE, fnn.SGD(0.1), batch_size=20, epochs=1)
    np.testing.assert_array_equal(model.flat.state, before)


def test_train_on_batch_stops_before_the_update_too(route):
    model = deep()
    model.build(5)
    model.parameters()["2.weight"][:] = 1e38
    model.compile(MSE, fnn.SGD(0.1))
    before = model.flat.state.copy()
    with pytest.raises(fnn.NonFiniteError, match=r"layer 2 \(Dense\)"):
        model.train_on_batch(X * 1e3, X[:, :1])
    np.testing.assert_array_equal(model.flat.state, before)


# --- interruption --------------------------------------------------------------------------------


def test_an_interrupt_leaves_a_usable_model(route):
    class Interrupt(Recorder):
        def on_batch_end(self, training):
            if training.step == 4:
                raise KeyboardInterrupt

    callback, model = Interrupt(), mlp()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*blobs(), CE, fnn.SGD(0.1), batch_size=50, epochs=9, callbacks=[callback])
    assert isinstance(callback.error, KeyboardInterrupt)
    assert model.history.epochs == 1 and model.optimizer.step_count == 4
    assert np.isfinite(model.flat.state).all()
    assert model.fit(*blobs(), epochs=1).epochs == 1


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_control_c_ends_a_running_fit(route):
    model = mlp()
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(*blobs(2000), CE, fnn.SGD(0.01), batch_size=20, epochs=10**6)
    finally:
        timer.cancel()
    assert time.perf_counter() - sent[0] < 0.2
    assert np.isfinite(model.flat.state).all()
    assert 0 <= model.evaluate(*blobs())["accuracy"] <= 1
