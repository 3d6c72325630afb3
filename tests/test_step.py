"""The compiled step: what the plain one computes, whatever the threads, without allocating."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.plain_step import Outcome, PlainStep
from fastnn.step import CompiledStep, NotCompilable, compile_step

NETWORKS = {
    "dense": lambda: [fnn.Dense(10)],
    "relu": lambda: [fnn.Dense(33), fnn.ReLU(), fnn.Dense(10)],
    "batch norm": lambda: [fnn.Dense(40), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10)],
    "norm first": lambda: [
        fnn.BatchNorm(),
        fnn.Dense(17),
        fnn.Tanh(),
        fnn.BatchNorm(),
        fnn.Dense(10),
    ],
    "activations in a row": lambda: [
        fnn.Sigmoid(),
        fnn.ELU(0.5),
        fnn.Dense(10),
        fnn.LeakyReLU(0.3),
    ],
    "no bias": lambda: [fnn.Dense(20, bias=False), fnn.ELU(), fnn.Dense(10, bias=False)],
}
ROWS, STEPS = 24, 20


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((200, 21))
    order = np.concatenate([rng.permutation(200) for _ in range(3)])
    return X, rng.integers(0, 10, 200), order


def trained(
    step_class,
    layers,
    data,
    *,
    keep=False,
    loss="softmax_cross_entropy",
    dtype="float64",
    **settings,
):
    """(outcome, state) of STEPS steps on a fresh model."""
    X, y, order = data
    model = fnn.Sequential(layers, input_dim=X.shape[1], dtype=dtype, seed=5)
    optimizer = fnn.SGD(lr=0.05, momentum=0.9, **settings)
    model.compile(loss=loss, optimizer=optimizer, l2=0.2)
    step = step_class(model, model.loss, optimizer, ROWS, keep, l2=0.2)
    targets = model.loss.prepare_targets(y, len(X), model.output_shape, model.dtype)
    lrs = np.linspace(0.05, 0.01, STEPS)
    outcome = step.run(X.astype(dtype), targets, order, 0, STEPS, lrs)
    return outcome, {name: a.copy() for name, a in model.state().items()}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_equals_the_plain_step(name, isa, keep, data):
    plain, expected = trained(PlainStep, NETWORKS[name](), data, weight_decay=1e-3)
    compiled, got = trained(CompiledStep, NETWORKS[name](), data, keep=keep, weight_decay=1e-3)
    assert (
        (compiled.steps, compiled.correct) == (plain.steps, plain.correct) == (STEPS, plain.correct)
    )
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-12)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("activation", [None, "ReLU", "LeakyReLU", "Tanh", "ELU"])
@pytest.mark.parametrize("rows", [24, 700])
def test_batch_norm_inside_the_products_equals_the_plain_step(activation, rows, isa, monkeypatch):
    # What batches beyond the cache are done by; `rows` takes one block of rows, and several.
    monkeypatch.setattr("fastnn.step.FUSED_BYTES", 0)
    monkeypatch.setattr(f"{__name__}.ROWS", rows)
    rng = np.random.default_rng(6)
    data = (
        rng.standard_normal((800, 45)) + 3,
        rng.integers(0, 10, 800),
        np.arange(rows * STEPS) % 800,
    )

    def layers():
        act = [] if activation is None else [getattr(fnn, activation)()]
        again = [] if activation is None else [getattr(fnn, activation)()]
        return [
            fnn.Dense(37), fnn.BatchNorm(), *act, fnn.Dense(300), fnn.BatchNorm(), *again, fnn.Dense(10),
        ]  # fmt: skip

    plain, expected = trained(PlainStep, layers(), data)
    compiled, got = trained(CompiledStep, layers(), data)
    assert (compiled.steps, compiled.correct) == (plain.steps, plain.correct)
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-11)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-9, err_msg=key)


def test_a_regression_equals_the_plain_step(data):
    X, _, order = data
    y = np.stack([X[:, 0] - X[:, 1], X[:, 2] ** 2], axis=1)
    layers = lambda: [fnn.Dense(12), fnn.Tanh(), fnn.Dense(2)]  # noqa: E731
    results = [
        trained(kind, layers(), (X, y, order), loss="mean_squared_error", nesterov=True)
        for kind in (PlainStep, CompiledStep)
    ]
    assert results[0][0].loss == pytest.approx(results[1][0].loss, rel=1e-12)
    for key, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_do_not_depend_on_the_threads(dtype):
    # Large enough that the team is opened: more flops than SERIAL_FLOPS in machine.pyx.
    rng = np.random.default_rng(0)
    data = rng.standard_normal((256, 130)), rng.integers(0, 10, 256), np.arange(ROWS * STEPS) % 256
    layers = lambda: [fnn.Dense(300), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(200), fnn.Dense(10)]  # noqa: E731
    results = []
    for threads in (1, 2, 3, 4, 8):
        with fnn.threads(threads):
            outcome, state = trained(CompiledStep, layers(), data, dtype=dtype)
        results.append((outcome, {name: a.tobytes() for name, a in state.items()}))
    assert all(result == results[0] for result in results[1:])


def test_running_allocates_nothing(data):
    X, y, order = data
    model = fnn.Sequential(NETWORKS["batch norm"](), input_dim=X.shape[1], seed=0)
    optimizer = fnn.SGD(lr=0.05, momentum=0.9)
    model.compile(loss="softmax_cross_entropy", optimizer=optimizer)
    step = compile_step(model, model.loss, optimizer, ROWS)
    X, lrs = X.astype("float32"), np.full(STEPS, 0.01)
    step.run(X, y, order, 0, 1, lrs)
    owned = step.program.owned_bytes
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step.run(X, y, order, 0, STEPS, lrs)
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert step.program.owned_bytes == owned
    assert grown < 4096, "a run makes a few small Python objects, no arrays"


def test_a_loss_that_is_not_finite_stops_before_the_update(data):
    X, y, order = data
    model = fnn.Sequential(NETWORKS["batch norm"](), input_dim=X.shape[1], dtype="float64", seed=0)
    optimizer = fnn.SGD(lr=0.05)
    model.compile(loss="softmax_cross_entropy", optimizer=optimizer)
    step = compile_step(model, model.loss, optimizer, ROWS)
    step.run(X, y, order, 0, 2, np.full(2, 0.05))
    before = {name: a.copy() for name, a in model.state().items()}
    model.parameters()["3.weight"][2, 3] = before["3.weight"][2, 3] = np.inf
    outcome = step.run(X, y, order, 0, 3, np.full(3, 0.05))
    assert outcome.steps == 0 and outcome.failure == "3"
    for name, value in before.items():
        np.testing.assert_array_equal(model.state()[name], value, err_msg=name)


def test_the_steps_before_a_failure_count(data):
    X, y, order = data
    X = X.copy()
    X[order[3 * ROWS]] = np.nan
    model = fnn.Sequential([fnn.Dense(10)], input_dim=X.shape[1], dtype="float64", seed=0)
    optimizer = fnn.SGD(lr=0.05)
    model.compile(loss="softmax_cross_entropy", optimizer=optimizer)
    outcome = compile_step(model, model.loss, optimizer, ROWS).run(
        X, y, order, 0, 6, np.full(6, 0.05)
    )
    assert (outcome.steps, outcome.failure) == (3, "input")
    assert np.isfinite(outcome.loss) and not np.isfinite(outcome.last_loss)
    assert isinstance(outcome, Outcome)


def test_bad_orders_are_refused(data):
    X, y, order = data
    model = fnn.Sequential([fnn.Dense(10)], input_dim=X.shape[1], dtype="float64", seed=0)
    optimizer = fnn.SGD(lr=0.05)
    model.compile(loss="softmax_cross_entropy", optimizer=optimizer)
    step = compile_step(model, model.loss, optimizer, ROWS)
    lrs = np.full(2, 0.1)
    with pytest.raises(IndexError, match="outside the 200 rows"):
        step.run(X, y, np.full(ROWS, 200), 0, 1, lrs)
    with pytest.raises(IndexError, match="outside the 200 rows"):
        step.run(X, y, np.full(ROWS, -1), 0, 1, lrs)
    with pytest.raises(ValueError, match="order has 24 rows, asked for 48"):
        step.run(X, y, order[:ROWS].copy(), 0, 2, lrs)
    with pytest.raises(ValueError, match="rates must be 3"):
        step.run(X, y, order, 0, 3, lrs)


def test_a_layer_of_the_users_is_not_compiled(data):
    class Mine(fnn.Layer):
        def forward(self, x, training=True):
            return x

        def backward(self, dy):
            return dy

    model = fnn.Sequential([Mine(), fnn.Dense(10)], input_dim=21, seed=0)
    with pytest.raises(NotCompilable, match="Mine"):
        compile_step(model, fnn.SoftmaxCrossEntropy(), fnn.SGD(0.1), ROWS)
    history = model.fit(data[0], data[1], epochs=2, batch_size=ROWS)
    assert history["loss"][1] < history["loss"][0]
