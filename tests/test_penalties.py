"""Penalties and max-norm of layers: in both steps, against sums written out here."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastnn as fnn
from fastnn import functional
from fastnn.plain_step import PlainStep
from fastnn.step import CompiledStep

ROWS, STEPS, INPUTS = 16, 12, 130


def layers(first=None, second=None):
    """The first layer is wide enough for an update inside its product."""
    return [
        fnn.Dense(130, bias=False, **(first or {})),
        fnn.BatchNorm(),
        fnn.ReLU(),
        fnn.Dense(40, **(second or {})),
        fnn.Tanh(),
        fnn.Maxout(7, pieces=2),
    ]


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((64, INPUTS)), rng.integers(0, 7, 64)


def run(step_class, net, data, *, l2=0.0, optimizer=None, keep=False, steps=STEPS):
    X, y = data
    model = fnn.Sequential(net, input_dim=X.shape[1], dtype="float64", seed=2)
    optimizer = optimizer or fnn.SGD(0.05, momentum=0.9)
    model.compile(optimizer=optimizer, l2=l2, keep_gradients=keep)
    step = step_class(model, model.loss, optimizer, ROWS, keep, l2=l2)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(64), 4))
    outcome = step.run(X, y, order, 0, steps, np.full(steps, 0.05))
    return outcome, model


SETTINGS = {
    "l2": (dict(l2=0.7), dict(l2=0.1)),
    "l1": (dict(l1=0.3), {}),
    "both": ({}, dict(l1=0.2, l2=0.4)),
    "max-norm": (dict(max_norm=1.2), dict(max_norm=0.5)),
    "all": (dict(l1=0.05, l2=0.3, max_norm=1.1), dict(l2=0.3, max_norm=1e9)),
}
OPTIMIZERS = {
    "momentum": lambda: fnn.SGD(0.05, momentum=0.9, weight_decay=0.01),
    "clipped": lambda: fnn.SGD(0.05, clip_value=1e-3),
    "clipped norm": lambda: fnn.SGD(0.05, clip_norm=0.1),
    "adam": lambda: fnn.Adam(0.01),
    "adamw": lambda: fnn.AdamW(0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["both", "all"])
def test_the_compiled_step_equals_the_plain_one(name, optimizer, data):
    check_the_steps(name, optimizer, False, data)


@pytest.mark.parametrize("name", SETTINGS)
def test_it_does_with_gradients_kept(name, data):
    check_the_steps(name, "momentum", True, data)


def test_it_does_on_every_instruction_set(isa, data):
    check_the_steps("all", "momentum", False, data)


def check_the_steps(name, optimizer, keep, data):
    first, second = SETTINGS[name]
    made = OPTIMIZERS[optimizer]
    plain, expected = run(PlainStep, layers(first, second), data, l2=0.2, optimizer=made())
    compiled, model = run(
        CompiledStep, layers(first, second), data, l2=0.2, optimizer=made(), keep=keep
    )
    assert compiled.steps == plain.steps == STEPS
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    for key, value in expected.state().items():
        np.testing.assert_allclose(model.state()[key], value, rtol=0, atol=1e-10, err_msg=key)
    step = model.step_for(ROWS)
    assert (step.stages[0].sink is None) == (keep or optimizer == "clipped norm")
    _, free = run(CompiledStep, layers(), data, l2=0.2, optimizer=made())
    assert abs(free.parameters()["0.weight"] - model.parameters()["0.weight"]).max() > 1e-6 or (
        abs(free.parameters()["3.weight"] - model.parameters()["3.weight"]).max() > 1e-6
    )


@pytest.mark.parametrize("step_class", [PlainStep, CompiledStep])
def test_one_step_is_that_of_the_formula(step_class, data):
    net = layers(dict(l1=0.3, l2=0.5), dict(l1=0.1))
    start = fnn.Sequential(layers(), input_dim=INPUTS, dtype="float64", seed=2)
    before = start.parameters()
    free, bare = run(step_class, layers(), data, optimizer=fnn.SGD(0.05), steps=1)
    paid, model = run(step_class, net, data, l2=0.2, optimizer=fnn.SGD(0.05), steps=1)
    l1 = {"0.weight": 0.3, "3.weight": 0.1, "5.weight": 0.0}
    l2 = {"0.weight": 0.7, "3.weight": 0.2, "5.weight": 0.2}
    extra = sum(
        l1[k] / ROWS * abs(before[k]).sum() + l2[k] / (2 * ROWS) * (before[k] ** 2).sum()
        for k in l1
    )
    assert paid.last_loss - free.last_loss == pytest.approx(extra, rel=1e-10)
    for key, w in before.items():
        pull = (l1[key] * np.sign(w) + l2[key] * w) / ROWS if key in l1 else 0.0
        expected = bare.parameters()[key] - 0.05 * pull
        np.testing.assert_allclose(model.parameters()[key], expected, rtol=0, atol=1e-14)


def test_the_pull_is_the_gradient_of_the_reported_loss(data):
    """Centred differences of the reported loss, element by element of one weight matrix."""
    net = [fnn.Dense(3, l1=0.4, l2=0.6), fnn.Tanh(), fnn.Dense(7, l2=0.1)]
    X, y = data[0][:ROWS], data[1][:ROWS]
    model = fnn.Sequential(net, input_dim=INPUTS, dtype="float64", seed=2)
    model.compile(optimizer=fnn.SGD(0.0))
    start = model.parameters()["0.weight"].copy()

    def loss_at(w):
        model.parameters()["0.weight"][:] = w
        return model.train_on_batch(X, y)

    picked = [(i, j) for i in range(0, INPUTS, 31) for j in range(3)]
    numeric = []
    for at in picked:
        values = []
        for h in (1e-6, -1e-6):
            w = start.copy()
            w[at] += h
            values.append(loss_at(w))
        numeric.append((values[0] - values[1]) / 2e-6)
    loss_at(start)
    model.optimizer.lr = 1.0
    model.train_on_batch(X, y)
    taken = start - model.parameters()["0.weight"]
    np.testing.assert_allclose([taken[at] for at in picked], numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("step_class", [PlainStep, CompiledStep])
def test_columns_never_get_longer_than_max_norm(step_class, data):
    net = layers(dict(max_norm=1.2))
    _, model = run(step_class, net, data)
    norms = np.linalg.norm(model.parameters()["0.weight"], axis=0)
    assert norms.max() == pytest.approx(1.2, rel=1e-12)
    _, free = run(step_class, layers(), data)
    assert np.linalg.norm(free.parameters()["0.weight"], axis=0).max() > 1.3


def test_max_norm_leaves_alone_what_has_no_norm():
    w = np.array([[3.0, np.nan, np.inf, 0.1], [4.0, 5.0, 1.0, 0.1]])
    before = w.copy()
    functional.max_norm(w, 1.0)
    np.testing.assert_array_equal(w[:, 1:], before[:, 1:])
    np.testing.assert_allclose(w[:, 0], [0.6, 0.8])
    with pytest.raises(ValueError, match="limit"):
        functional.max_norm(w, 0.0)


def test_a_setting_changed_on_the_layer_counts_from_the_next_step(data):
    X, y = data
    model = fnn.Sequential(layers(), input_dim=INPUTS, dtype="float64", seed=2)
    model.compile(optimizer=fnn.SGD(0.0))
    free = model.train_on_batch(X, y)
    model.layers[0].l1 = 2.0
    weights = abs(model.parameters()["0.weight"]).sum()
    assert model.train_on_batch(X, y) == pytest.approx(free + 2.0 / 64 * weights, rel=1e-10)
    model.layers[0].l1, model.layers[0].max_norm = 0.0, 0.25
    assert model.train_on_batch(X, y) == pytest.approx(free, rel=1e-12)
    norms = np.linalg.norm(model.parameters()["0.weight"], axis=0)
    np.testing.assert_allclose(norms, 0.25, rtol=1e-12)


def test_a_layer_of_ones_own_can_be_penalised(data):
    class Mine(fnn.Layer):
        l1 = 0.5

        def build(self, input_shape):
            self.add_parameter("scale", input_shape, "ones", decay=True)
            return input_shape

        def forward(self, x, training=True):
            self.x = x
            return x * self.parameters["scale"]

        def backward(self, dy):
            self.gradients["scale"] = (dy * self.x).sum(axis=0)
            return dy * self.parameters["scale"]

    X, y = data
    mine = Mine()
    model = fnn.Sequential([mine, fnn.Dense(7)], input_dim=INPUTS, dtype="float64", seed=0)
    model.compile(optimizer=fnn.SGD(0.0))
    losses = []
    for mine.l1 in (0.0, 0.5):
        losses.append(model.train_on_batch(X, y))
    mine.l1 = -1.0
    with pytest.raises(ValueError, match=r"l1 of Mine\(\)"):
        model.train_on_batch(X, y)
    assert losses[1] - losses[0] == pytest.approx(0.5 * INPUTS / 64, rel=1e-12)


def test_penalties_are_saved_with_the_model(tmp_path):
    layer = fnn.Dense(4, l1=0.1, l2=0.2, max_norm=3.0)
    model = fnn.Sequential([layer, fnn.Maxout(3, l2=0.5)], input_dim=5, seed=0)
    model.layers[1].max_norm = 2.0
    model.save(tmp_path / "model")
    loaded = fnn.load(tmp_path / "model").layers
    for twin in (loaded, copy.deepcopy(model).layers):
        assert (twin[0].l1, twin[0].l2, twin[0].max_norm) == (0.1, 0.2, 3.0)
        assert (twin[1].l1, twin[1].l2, twin[1].max_norm) == (0.0, 0.5, 2.0)


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        (dict(l1=-0.1), "l1"),
        (dict(l2=float("nan")), "l2"),
        (dict(max_norm=0.0), "max_norm"),
        (dict(max_norm=-1), "max_norm"),
    ],
)
def test_settings_out_of_range_are_refused(setting, error):
    for kind in (fnn.Dense, fnn.Maxout):
        with pytest.raises(ValueError, match=error):
            kind(3, **setting)
