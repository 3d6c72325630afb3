"""The doctor: each rule has a run that shows it and runs that must not."""

from __future__ import annotations

import contextlib
import copy
import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import diagnosis
from fastnn.diagnosis.probe import take
from fastnn.initializers import Normal

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

D, R, T, S, B = fnn.Dense, fnn.ReLU, fnn.Tanh, fnn.Sigmoid, fnn.BatchNorm


@pytest.fixture(scope="module")
def digits():
    data = fnn.datasets.digits()
    return (
        (np.asarray(data.X_train, np.float32) - 8) / 8,
        data.y_train,
        (np.asarray(data.X_test, np.float32) - 8) / 8,
        data.y_test,
    )


def watched(digits, layers, optimizer, *, epochs=6, columns=slice(None), rows=None, scale=1.0,
            noise=0.0, **options):  # fmt: skip
    """(findings of the callback, model, history) of a run."""
    X, y, Xt, yt = digits
    X, Xt = (np.ascontiguousarray(part[:, columns]) * np.float32(scale) for part in (X, Xt))
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(y)) < noise, rng.integers(0, 10, len(y)), y)
    doctor = fnn.Doctor(every=1, show=None)
    model = fnn.Sequential(layers, seed=0)
    history = None
    with contextlib.suppress(fnn.NonFiniteError):
        history = model.fit(
            X[:rows], y[:rows], optimizer=optimizer, batch_size=64, epochs=epochs,
            validation_data=(Xt, yt), callbacks=[doctor], verbose=False, **options,
        )  # fmt: skip
    return doctor.findings, model, history


def deep(activation, initializer, count=6):
    hidden = [layer for _ in range(count) for layer in (D(64, initializer), activation())]
    return [*hidden, D(10, "xavier")]


SICK = {
    "first_loss": lambda d: watched(d, [D(64), R(), D(10)], fnn.SGD(1e-4), scale=50, epochs=1),
    "loss_not_falling": lambda d: watched(d, [D(64), R(), D(10)], fnn.SGD(1e-7)),
    "exploding_loss": lambda d: watched(
        d, [D(64), R(), D(64), R(), D(10)], fnn.SGD(1.0, momentum=0.9), epochs=2
    ),
    "rising_loss": lambda d: watched(
        d, [D(64), R(), D(10)], fnn.Adam(lambda s: 0.002 * 1.02**s), epochs=14
    ),
    "not_finite": lambda d: watched(d, [D(64), R(), D(10)], fnn.SGD(1e25), epochs=1),
    "plateau": lambda d: watched(d, [D(10)], fnn.SGD(0.05, momentum=0.9), noise=0.5, epochs=16),
    "bad_start": lambda d: watched(
        d, [D(32, "normal"), S(), D(32, "normal"), S(), D(10)], fnn.SGD(0.1, 0.9), epochs=30
    ),
    "overfitting": lambda d: watched(
        d, [D(128), R(), D(10)], fnn.SGD(0.05, 0.9), noise=0.5, rows=200, epochs=30
    ),
    "no_gap": lambda d: watched(d, [D(10)], fnn.SGD(0.05, 0.9), columns=slice(20, 28), epochs=12),
    "update_ratio": lambda d: watched(d, [D(64), R(), D(10)], fnn.SGD(2.0), epochs=1),
    "dead_units": lambda d: watched(
        d, [D(64, bias_init=-50.0), R(), D(10)], fnn.SGD(0.05), epochs=1
    ),
    "saturated_units": lambda d: watched(d, deep(T, Normal(1.0), 2), fnn.SGD(1e-4), epochs=1),
    "vanishing_gradients": lambda d: watched(d, deep(T, "normal"), fnn.SGD(0.01), epochs=1),
    "exploding_gradients": lambda d: watched(d, deep(R, Normal(1.0)), fnn.SGD(1e-9), epochs=1),
}
WELL = {
    "batch norm": lambda d: watched(
        d, [D(64), B(), R(), D(64), B(), R(), D(10, "xavier")], fnn.SGD(0.05, 0.9), epochs=12
    ),
    "relu": lambda d: watched(d, [D(64), R(), D(10)], fnn.SGD(0.02, 0.9), epochs=12),
    "tanh, Adam": lambda d: watched(d, deep(T, "xavier", 3), fnn.Adam(0.002), epochs=12),
    "warm-up": lambda d: watched(
        d,
        [D(64), R(), D(10, "xavier")],
        fnn.SGD(fnn.schedules.WarmUp(100, fnn.schedules.Cosine(0.05, 200)), 0.9),
        epochs=12,
    ),
    "penalised": lambda d: watched(
        d, [D(64, l2=1e-2, max_norm=3.0), R(), D(10, l1=1e-3)], fnn.SGD(0.02, 0.9), epochs=12
    ),
}


def kinds(findings):
    return {finding.kind for finding in findings}


@pytest.mark.parametrize("kind", SICK)
def test_a_sick_run_shows_it(kind, digits):
    findings, _, _ = SICK[kind](digits)
    assert kind in kinds(findings), [str(finding) for finding in findings]
    for finding in findings:
        for text in (finding.evidence, finding.cause, finding.advice):
            assert len(text) > 20 and "nan times" not in text
    # each kind and layer is said once
    assert len({(f.kind, f.layer) for f in findings}) == len(findings)


@pytest.mark.parametrize("name", WELL)
def test_a_healthy_run_shows_nothing(name, digits):
    findings, model, history = WELL[name](digits)
    assert history["val_accuracy"][-1] > 0.95
    assert [str(finding) for finding in findings] == []
    X, y, _, _ = digits
    assert fnn.diagnose(history, model, X, y) == []


def test_every_rule_has_a_sick_run():
    said = {"penalty_without_effect", "cannot_overfit"}  # below: they are trials
    sources = [__import__(rule.__module__, fromlist=["_"]) for rule in diagnosis.RULES]
    sources.append(diagnosis.sanity)
    named = set()
    for module in sources:
        with open(module.__file__, encoding="utf-8") as file:
            text = file.read()
        named |= {kind for kind in (*SICK, *said) if f'"{kind}"' in text}
    assert named == {*SICK, *said} and len(diagnosis.RULES) == 12


def test_the_first_loss_of_a_regression_and_of_two_classes(digits):
    X, y, _, _ = digits
    loss = "mean_squared_error"
    for scale, expected in ((1, set()), (30, {"first_loss"})):
        model = fnn.Sequential([D(64), R(), D(1)], input_dim=64, seed=0)
        found = fnn.diagnose(model=model, x=scale * X, y=(y - 4.5) / 3, loss=loss)
        assert kinds(found) == expected
    two = y < 2
    model = fnn.Sequential([D(64), R(), D(2)], input_dim=64, seed=0)
    assert fnn.diagnose(model=model, x=X[two], y=y[two]) == []
    [finding] = fnn.diagnose(model=model, x=30 * X[two], y=y[two])
    assert "ln 2 = 0.6931" in finding.evidence and finding.epoch == 0


def test_step_and_layer_of_a_failure_are_named(digits):
    X, y, _, _ = digits
    model = fnn.Sequential([D(64), R(), D(10)], seed=0)
    with pytest.raises(fnn.NonFiniteError) as caught:
        model.fit(X, y, optimizer=fnn.SGD(1e25), batch_size=64, epochs=1)
    [finding] = fnn.diagnose(model.history, error=caught.value)
    assert (finding.kind, finding.severity) == ("not_finite", "error")
    assert (finding.epoch, finding.step) == (1, caught.value.step) and caught.value.step >= 2
    assert finding.layer == caught.value.layer and f"step {finding.step}" in str(finding)
    model.parameters()["2.weight"][0, 0] = np.nan
    found = fnn.diagnose(model=model, x=X, y=y)
    assert (found[0].kind, found[0].layer) == ("not_finite", "2")
    assert "cannot_overfit" not in kinds(found)


# --- the curves alone ----------------------------------------------------------------------------


def curve(**columns):
    return {"epoch": list(range(1, 1 + len(columns["loss"]))), **columns}


fall = [2.0 * 0.8**i + 0.01 for i in range(16)]
CURVES = {
    "healthy": (curve(loss=fall, val_loss=[v + 0.03 for v in fall]), set()),
    "nothing": (curve(loss=[2.3] * 6), {"loss_not_falling"}),
    "slow": (curve(loss=[2.3 - 0.01 * i for i in range(8)]), {"loss_not_falling"}),
    "done in the first epoch": (
        curve(loss=[0.1, 0.099, 0.1, 0.098, 0.1], accuracy=[0.96] * 5), set(),
    ),
    "flat, then falling": (curve(loss=[2.31, 2.3, 2.3, 2.29, 1.5, 1.0, 0.6]), {"bad_start"}),
    "a warm-up": (
        curve(loss=[2.31, 2.3, 1.5, 1.0, 0.6], lr=[0.01, 0.02, 0.1, 0.1, 0.1]), set(),
    ),
    "plateau": (curve(loss=[2.0, 1.0, *[0.5 + 0.001 * (i % 2) for i in range(8)]]), {"plateau"}),
    "settled at the end of a schedule": (
        curve(loss=[2.0, 1.0, *[0.5] * 8], lr=[0.1 * 0.5**i for i in range(10)]), set(),
    ),
    "converged": (curve(loss=[2.0, 1.0, *[0.02] * 8]), set()),
    "exploded": (curve(loss=[2.0, 1.5, 9.0]), {"exploding_loss"}),
    "infinite": (curve(loss=[2.0, math.inf]), {"exploding_loss"}),
    "a single bad epoch": (curve(loss=[2.0, 1.0, 0.5, 0.6, 0.4]), set()),
    "rising": (curve(loss=[2.0, 1.0, 0.5, 0.8, 1.2]), {"rising_loss"}),
    "a gap": (
        curve(loss=fall, val_loss=fall, accuracy=[0.9] * 16, val_accuracy=[0.79] * 16),
        {"overfitting"},
    ),
    "a small gap": (
        curve(loss=fall, val_loss=fall, accuracy=[0.99] * 16, val_accuracy=[0.95] * 16), set(),
    ),
    "validation rises": (
        curve(loss=fall, val_loss=[*fall[:8], *[0.5 + 0.05 * i for i in range(8)]]),
        {"overfitting"},
    ),
    "a regression with a gap": (
        curve(loss=fall, val_loss=[v + 0.4 for v in fall]), {"overfitting"},
    ),
    "no gap": (
        curve(loss=[2, 1, 0.8, 0.79, 0.78, 0.78], val_loss=[2, 1, 0.8, 0.79, 0.78, 0.78],
              accuracy=[0.7] * 6, val_accuracy=[0.7] * 6), {"no_gap"},
    ),
    "no gap, still falling": (
        curve(loss=[2, 1.7, 1.4, 1.2, 1, 0.9], val_loss=[2, 1.7, 1.4, 1.2, 1, 0.9],
              accuracy=[0.7] * 6, val_accuracy=[0.7] * 6), set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_read(name):
    history, expected = CURVES[name]
    assert kinds(fnn.diagnose(history)) == expected


# --- trials --------------------------------------------------------------------------------------


class Backwards(fnn.Layer):
    """A user's layer whose gradient has the wrong sign."""

    def forward(self, x, training=True):
        return x

    def backward(self, dy):
        return -dy


def test_a_model_that_cannot_overfit_twenty_rows_is_found(digits):
    X, y, _, _ = digits
    for layers, x in (
        ([D(32), R(), D(10), Backwards()], X),
        ([D(32, bias_init=-50.0), R(), D(10)], X),
        ([D(32), R(), D(10)], np.zeros_like(X)),  # all rows alike
    ):
        model = fnn.Sequential(layers, input_dim=64, seed=0)
        [finding] = diagnosis.overfit_small(model, x, y)
        assert finding.kind == "cannot_overfit" and "20 rows" in finding.evidence
    assert "cannot_overfit" in kinds(fnn.diagnose(model=model, x=x, y=y))
    dropped = [D(32), R(), fnn.Dropout(0.9), D(10, l2=100.0)]  # switched off in the trial
    assert diagnosis.overfit_small(fnn.Sequential(dropped, seed=0), X, y) == []
    target = X[:, :3] @ np.array([1.0, 2.0, -1.0]) + 5
    model = fnn.Sequential([D(16), R(), D(1)], seed=0)
    assert diagnosis.overfit_small(model, X, target, loss="mean_squared_error") == []
    constant = np.sign(np.arange(len(X)) % 2 - 0.5)
    model = fnn.Sequential([D(16), R(), D(1)], seed=0)
    [finding] = diagnosis.overfit_small(model, np.zeros_like(X), constant, "mean_squared_error")
    assert "to come below 0.05" in finding.evidence


def test_a_penalty_raises_the_loss_where_weights_are_penalised(digits):
    class Plain(fnn.Layer):
        def build(self, input_shape):
            self.add_parameter("w", (input_shape[0], 10), "he")  # decay=True is forgotten
            return (10,)

        def forward(self, x, training=True):
            self.x = x
            return x @ self.parameters["w"]

        def backward(self, dy):
            self.gradients["w"] = self.x.T @ dy
            return dy @ self.parameters["w"].T

    X, y, _, _ = digits
    [finding] = diagnosis.penalty_raises_loss(fnn.Sequential([Plain()], seed=0), X, y)
    assert finding.kind == "penalty_without_effect" and "decay=True" in finding.cause
    dropout = [D(32), R(), fnn.Dropout(0.5), D(10)]
    assert diagnosis.penalty_raises_loss(fnn.Sequential(dropout, seed=0), X, y) == []


# --- what stays as it is, and bad input ----------------------------------------------------------


def test_the_model_stays_as_it_is(digits):
    X, y, _, _ = digits
    layers = [D(32), B(), R(), fnn.Dropout(0.3), D(10)]

    def trained(callbacks, look):
        model = fnn.Sequential(layers_of(), seed=0)
        for _ in range(2):
            model.fit(X, y, optimizer=None, batch_size=64, epochs=2, callbacks=callbacks)
            look(model)
        return model.state(), model.optimizer.state["velocity"]

    def layers_of():
        return [type(layer)(**layer.get_config()) for layer in layers]

    state, velocity = trained([], lambda model: None)
    looked, moved = trained([fnn.Doctor(every=1, show=None)], lambda m: fnn.diagnose(None, m, X, y))
    np.testing.assert_array_equal(velocity, moved)
    for name, value in state.items():
        np.testing.assert_array_equal(value, looked[name], err_msg=name)


def test_a_look_with_a_kept_copy_is_that_of_a_new_one(digits):
    X, y, _, _ = digits
    model = fnn.Sequential([D(32), B(), R(), fnn.Dropout(0.3), D(10)], input_dim=64, seed=0)
    model.compile(optimizer=fnn.Adam(0.01))
    twin = copy.deepcopy(model)
    for _ in range(2):
        model.fit(X, y, batch_size=64, epochs=2)
        model.layers[3].p, model.optimizer.lr = 0.2, 0.005
        data = (X[:256], y[:256], model.loss)
        assert take(model, *data, twin=twin) == take(model, *data) != take(model, X, y, model.loss)


def test_a_run_on_a_source_is_looked_at_too(digits):
    X, y, _, _ = digits

    def batches():
        for first in range(0, len(X), 64):
            yield X[first : first + 64], y[first : first + 64]

    doctor = fnn.Doctor(every=1, show=None)
    model = fnn.Sequential([D(64, bias_init=-50.0), R(), D(10)], input_dim=64, seed=0)
    model.fit(batches, batch_size=64, epochs=2, callbacks=[doctor])
    assert "dead_units" in kinds(doctor.findings) and doctor.probes[0].rows == 256


def test_steps_are_not_made_one_by_one_for_the_doctor(digits):
    assert not hasattr(fnn.Doctor, "on_batch_end") and not hasattr(fnn.Doctor, "needs_gradients")
    shown = []
    X, y, _, _ = digits
    model = fnn.Sequential([D(8), R(), D(10)], seed=0)
    doctor = fnn.Doctor(show=shown.append)
    model.fit(X, y, optimizer=fnn.SGD(1e-7), epochs=6, callbacks=[doctor], batch_size=64)
    assert shown == [str(finding) for finding in doctor.findings] != []
    assert doctor.probes[0].epoch == 0 and doctor.probes[-1].epoch == 6
    assert doctor.seconds > 0


def test_what_shows_findings_is_called():
    with pytest.raises(TypeError, match="show is 'print', expected a function"):
        fnn.Doctor(show="print")


def test_nothing_to_look_at_is_an_error(digits):
    X, y, _, _ = digits
    model = fnn.Sequential([D(10)], input_dim=64, seed=0)
    for arguments, message in (
        ({}, "nothing to diagnose"),
        (dict(history=fnn.History()), "nothing to diagnose"),
        (dict(x=X), "pass model="),
        (dict(model=model), "no history yet"),
        (dict(model=model, y=y), "pass x="),
        (dict(model=model, x=X[:, :5]), "5 values per row"),
        (dict(model=model, x=X, y=y[:-1]), "rows but y"),
        (dict(model=model, x=X[:0], y=y[:0]), "empty"),
        (dict(model=model, x=X, y=y * 1.5), "mean_squared_error"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            fnn.diagnose(**arguments)
    with pytest.raises(TypeError, match="history is list"):
        fnn.diagnose([1.0, 2.0])
    norm = fnn.Sequential([D(4), B(), D(10)], input_dim=64, seed=0)
    with pytest.raises(ValueError, match="at least 2"):
        fnn.diagnose(model=norm, x=X[:1])
    # an empty history beside a model tells nothing, and rows without targets tell of the units
    assert fnn.diagnose(fnn.History(), model, X, y) == []
    assert fnn.diagnose(model=norm, x=X) == []


def test_a_model_that_is_not_built_is_left_so(digits):
    X, y, _, _ = digits
    model = fnn.Sequential([D(16), R(), D(10)], seed=0)
    assert fnn.diagnose(model=model, x=X, y=y) == [] and not model.built


# --- the range test ------------------------------------------------------------------------------


def test_the_range_test_finds_a_rate_that_trains(digits):
    X, y, Xt, yt = digits
    for optimizer in (fnn.SGD(momentum=0.9), fnn.Adam()):
        model = fnn.Sequential([D(64), B(), R(), D(10)], input_dim=64, seed=0)
        before = model.parameters()["0.weight"].copy()
        found = fnn.learning_rate_range_test(model, X, y, optimizer=optimizer, batch_size=64)
        np.testing.assert_array_equal(model.parameters()["0.weight"], before)
        assert model.optimizer is None and optimizer.step_count == 0
        assert found.rates[0] < found.steepest <= found.lowest <= found.rates[-1]
        assert len(found.rates) == len(found.losses) == len(found.smoothed)
        made = type(optimizer)(**{**optimizer.get_config(), "lr": found.suggestion})
        model.fit(X, y, optimizer=made, batch_size=64, epochs=8)
        assert model.evaluate(Xt, yt)["accuracy"] > 0.95
    assert "train with about" in str(found)


def test_the_range_test_ends_where_the_loss_explodes_and_says_where_it_never_fell(digits):
    X, y, _, _ = digits
    model = fnn.Sequential([D(64), R(), D(10)], input_dim=64, seed=0)
    found = fnn.learning_rate_range_test(model, X, y, high=1e30)
    assert len(found.rates) < 100 and np.isfinite(found.smoothed[:-1]).all()
    assert found.suggestion is not None and found.suggestion < 1
    flat = fnn.learning_rate_range_test(model, X, y, low=1e-12, high=1e-9, steps=20)
    assert flat.suggestion is None and "never fell" in str(flat)
    for options, name in (
        (dict(low=0.0), "low"),
        (dict(low=1.0, high=0.5), "high"),
        (dict(steps=3), "steps"),
        (dict(batch_size=0), "batch_size"),
    ):
        with pytest.raises(ValueError, match=name):
            fnn.learning_rate_range_test(model, X, y, **options)


def test_a_loss_that_became_nan_has_exploded():
    found = fnn.diagnose(history={"loss": [2.3, 1.0, float("nan")]})
    assert "exploding_loss" in {finding.kind for finding in found}
