"""Weights of the rows where models train: the steps, the histories, and what is refused."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from test_losses import Absolute
from test_step import LOSSES, OPTIMIZERS, ROWS, STEPS, Nothing

import fastnn as fnn
from fastnn import reference, training
from fastnn.losses import Elementwise
from fastnn.plain_step import PlainStep
from fastnn.sources import ArraySource, BatchSource
from fastnn.step import CompiledStep, compile_step

CE = "softmax_cross_entropy"
EMPTY = 7  # the step all of whose rows weigh nothing


def layers():
    return [fnn.Dense(12), fnn.Tanh(), fnn.Dense(10)]


@pytest.fixture
def data():
    """Rows, labels, an order and weights: a few 0 in most mini-batches, and nothing else in one."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((200, 21)), rng.integers(0, 10, 200)
    order = np.concatenate([rng.permutation(200) for _ in range(3)])
    weights = rng.exponential(size=200) * 10 ** rng.uniform(-2, 2, 200)
    weights[::9] = 0
    weights[order[EMPTY * ROWS : (EMPTY + 1) * ROWS]] = 0
    return X, y, order, weights


@pytest.fixture(params=["plain", "default"])
def route(request, monkeypatch):
    """Both steps: through the layers, and the one that `make_step` chooses."""
    if request.param == "plain":
        monkeypatch.setattr(training, "make_step", PlainStep)


def run(kind, data, loss, targets, dtype="float64", optimizer=None, network=layers, steps=STEPS):
    """(outcome, state) of some steps on a fresh model."""
    X, _, order, weights = data
    model = fnn.Sequential(network(), input_dim=X.shape[1], dtype=dtype, seed=5)
    optimizer = optimizer or fnn.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    model.compile(loss, optimizer)
    targets = model.loss.prepare_targets(targets, len(X), model.output_shape, model.dtype)
    soft = isinstance(loss, fnn.SoftmaxCrossEntropy) and targets.ndim > 1
    step = kind(model, model.loss, optimizer, ROWS, soft=soft, weighted=weights is not None)
    given = None if weights is None else weights.astype(dtype)
    lrs = np.linspace(0.05, 0.01, steps)
    outcome = step.run(X.astype(dtype), targets, order, 0, steps, lrs, given)
    return outcome, {name: a.copy() for name, a in model.state().items()}


# --- the same numbers as the reference and PyTorch -------------------------------------------------


def reference_loss(loss, out, targets, weights):
    if not weights.any():
        return 0.0, np.zeros_like(out)
    options = {k: np.array(v) if isinstance(v, list) else v for k, v in loss.get_config().items()}
    if isinstance(loss, fnn.SoftmaxCrossEntropy) and options["class_weight"] is not None:
        options["class_weight"] = options["class_weight"].astype(out.dtype)
    return getattr(reference, loss.name)(out, targets, sample_weight=weights, **options)


def by_reference(data, loss, targets):
    """`run` written out in NumPy with the functions of the reference."""
    X, _, order, weights = data
    model = fnn.Sequential(layers(), input_dim=X.shape[1], dtype="float64", seed=5)
    w = {name: array.copy() for name, array in model.state().items()}
    velocity = {name: np.zeros_like(array) for name, array in w.items()}
    losses, shares = [], []
    for i, lr in enumerate(np.linspace(0.05, 0.01, STEPS)):
        rows = order[i * ROWS : (i + 1) * ROWS]
        x, g = X[rows], {}
        hidden = reference.tanh(reference.dense_forward(x, w["0.weight"], w["0.bias"]))
        out = reference.dense_forward(hidden, w["2.weight"], w["2.bias"])
        value, d = reference_loss(loss, out, targets[rows], weights[rows])
        losses.append(value)
        shares.append(weights[rows].sum())
        d, g["2.weight"], g["2.bias"] = reference.dense_backward(d, hidden, w["2.weight"])
        d = reference.tanh_backward(d, hidden)
        _, g["0.weight"], g["0.bias"] = reference.dense_backward(d, x, w["0.weight"])
        for name, gradient in g.items():
            if name.endswith("weight"):
                gradient += 1e-3 * w[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            w[name] -= lr * (gradient + 0.9 * velocity[name])
    return losses, shares, w


@pytest.mark.parametrize("name", LOSSES)
def test_20_steps_of_every_loss_are_those_of_the_reference(name, isa, data):
    loss, make = LOSSES[name]
    targets = data[1] if make is None else make(data[1])
    losses, shares, expected = by_reference(data, loss, targets)
    (plain, plain_state), (compiled, compiled_state) = (
        run(kind, data, loss, targets) for kind in (PlainStep, CompiledStep)
    )
    assert compiled.correct == pytest.approx(plain.correct, rel=1e-12)
    assert (plain.correct > 0) == isinstance(loss, fnn.SoftmaxCrossEntropy | fnn.MulticlassHinge)
    for outcome, state in ((plain, plain_state), (compiled, compiled_state)):
        assert outcome.steps == STEPS and outcome.failure is None
        assert outcome.losses == pytest.approx(losses, rel=1e-10)
        assert outcome.weights == pytest.approx(shares, rel=1e-12)
        assert outcome.losses[EMPTY] == outcome.weights[EMPTY] == 0
        for key, value in expected.items():
            np.testing.assert_allclose(state[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("outputs", [1, 3])
def test_decisions_count_as_much_as_their_rows(outputs, isa, data):
    X, _, order, weights = data
    network = lambda: [fnn.Dense(12), fnn.Tanh(), fnn.Dense(outputs)]  # noqa: E731
    (plain, expected), (compiled, got) = (
        run(kind, data, fnn.BinaryCrossEntropy(), X[:, :outputs] > 0, network=network)
        for kind in (PlainStep, CompiledStep)
    )
    everything = weights[order[: ROWS * STEPS]].sum()
    assert everything > compiled.correct > everything / 2**outputs
    assert compiled.correct == pytest.approx(plain.correct, rel=1e-12)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step_without_weight(name, data):
    """As the plain step does; batch norms, wide layers with a fused update, a clipped gradient of 0."""
    network = lambda: [fnn.Dense(200, bias=False), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10)]  # noqa: E731
    for options in ({}, {"clip_norm": 0.05}):
        (plain, expected), (compiled, got) = (
            run(
                kind, data, fnn.SoftmaxCrossEntropy(), data[1],
                optimizer=OPTIMIZERS[name](**options), network=network,
            )
            for kind in (PlainStep, CompiledStep)
        )  # fmt: skip
        assert compiled.losses == pytest.approx(plain.losses, rel=1e-10)
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_close_to_float64(name, data):
    loss, make = LOSSES[name]
    targets = data[1] if make is None else make(data[1])
    (wide, expected), (narrow, got) = (
        run(CompiledStep, data, loss, targets, dtype) for dtype in ("float64", "float32")
    )
    assert narrow.losses == pytest.approx(wide.losses, rel=2e-4)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=2e-3, atol=2e-4, err_msg=key)


def test_20_steps_are_those_of_pytorch(route):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    model = fnn.Sequential(layers(), input_dim=21, dtype="float64", seed=5)
    class_weight = np.arange(1.0, 11.0)
    model.compile(fnn.SoftmaxCrossEntropy(0.1, class_weight), fnn.SGD(0.05, 0.9, nesterov=True))
    twin = torch.nn.Sequential(
        torch.nn.Linear(21, 12), torch.nn.Tanh(), torch.nn.Linear(12, 10)
    ).double()
    for key, array in twin.state_dict().items():
        array.copy_(torch.from_numpy(model.state()[key].T.copy()))
    theirs = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(20):
        x, y, weights = rng.standard_normal((16, 21)), rng.integers(0, 10, 16), rng.random(16)
        weights[3] = 0
        each = torch.nn.functional.cross_entropy(
            twin(torch.from_numpy(x)), torch.from_numpy(y),
            weight=torch.from_numpy(class_weight), label_smoothing=0.1, reduction="none",
        )  # fmt: skip
        loss = (torch.from_numpy(weights) * each).sum() / (weights * class_weight[y]).sum()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        assert model.train_on_batch(x, y, weights) == pytest.approx(loss.item(), rel=1e-10)
    for key, array in twin.state_dict().items():
        np.testing.assert_allclose(model.state()[key], array.numpy().T, rtol=1e-10, atol=1e-12)


# --- fit -------------------------------------------------------------------------------------------


def rows_and_weights(n=110):
    rng = np.random.default_rng(1)
    X, y, weights = rng.standard_normal((n, 5)), rng.integers(0, 4, n), rng.exponential(size=n)
    weights[5] = 0
    return X, y, weights


def network(dtype="float64", seed=0, **options):
    return fnn.Sequential(
        [fnn.Dense(7), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(4)], 5, dtype, seed=seed, **options
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_its_batches(route, shuffle):
    """With a last batch that is shorter; and the history weighs them."""
    X, y, weights = rows_and_weights()
    fitted, stepped = network(), network()
    options = dict(batch_size=16, epochs=1, shuffle=shuffle, l2=0.3)
    history = fitted.fit(X, y, CE, fnn.SGD(0.1, 0.9), sample_weight=weights, **options)
    order = np.arange(len(X))
    if shuffle:
        stepped.rng.shuffle(order)
    stepped.compile(CE, fnn.SGD(0.1, 0.9), l2=0.3)
    batches = [order[first : first + 16] for first in range(0, len(X), 16)]
    assert len(batches[-1]) == 14
    losses, right = [], 0.0
    for rows in batches:
        before = stepped.forward(X[rows], training=True).argmax(axis=1) == y[rows]
        right += weights[rows][before].sum()
        losses.append(stepped.train_on_batch(X[rows], y[rows], weights[rows]))
    shares = [weights[rows].sum() for rows in batches]
    assert history["loss"] == pytest.approx([np.average(losses, weights=shares)], rel=1e-12)
    assert history["accuracy"] == pytest.approx([right / weights.sum()], rel=1e-12)
    for name, array in fitted.parameters().items():
        np.testing.assert_allclose(array, stepped.parameters()[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_are_none_and_only_proportions_count(name, dtype, route):
    loss, make = LOSSES[name]
    rng = np.random.default_rng(0)
    X, y, w = rng.standard_normal((70, 5)), rng.integers(0, 10, 70), rng.random(70)
    targets = y if make is None else make(y)

    def fitted(weights):
        model = fnn.Sequential(layers(), input_dim=5, dtype=dtype, seed=0)
        history = model.fit(
            X, targets, loss, fnn.SGD(0.1, 0.9), batch_size=16, epochs=3, sample_weight=weights
        )
        losses = [*history["loss"], model.evaluate(X, targets, weights)["loss"]]
        return model.flat.state.tobytes(), losses

    none, weighted = fitted(None), fitted(w)
    for equal in (np.ones(70), [True] * 70, np.full(70, 2.0**-40)):
        state, losses = fitted(equal)
        assert state == none[0]
        # The elements of a loss are added up in one row, or in rows that have weights.
        assert losses == pytest.approx(none[1], rel=1e-6 if dtype == "float32" else 1e-13)
    assert fitted(w * 2**20) == weighted != none


def test_a_row_of_weight_2_is_two_rows(route):
    X, y, _ = rows_and_weights()
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    models = [fnn.Sequential(layers(), input_dim=5, dtype="float64", seed=0) for _ in range(2)]
    options = dict(loss=CE, batch_size=None, epochs=5)
    one = models[0].fit(X, y, optimizer=fnn.SGD(0.1), sample_weight=counts, **options)
    two = models[1].fit(
        np.repeat(X, counts, axis=0), np.repeat(y, counts), optimizer=fnn.SGD(0.1), **options
    )
    for column in ("loss", "accuracy"):
        assert one[column] == pytest.approx(two[column], rel=1e-12)
    np.testing.assert_allclose(models[0].flat.state, models[1].flat.state, rtol=1e-11, atol=1e-13)


def test_a_batch_that_weighs_nothing_moves_nothing(route):
    X, y, weights = rows_and_weights(48)
    weights[16:32] = 0
    model = fnn.Sequential(layers(), input_dim=5, seed=0)
    history = model.fit(
        X, y, CE, fnn.SGD(0.1), batch_size=16, epochs=2, shuffle=False, sample_weight=weights
    )
    assert np.isfinite(history["loss"]).all()
    before = model.flat.values.copy()
    assert model.train_on_batch(X[:16], y[:16], np.zeros(16)) == 0
    np.testing.assert_array_equal(model.flat.values, before)
    # A fit that is stopped after such a batch has a mean of nothing, which is no NaN either.

    class Stop:
        def on_batch_end(self, training):
            training.stop()

    weights[:16] = 0
    row = model.fit(
        X, y, batch_size=16, epochs=1, shuffle=False, sample_weight=weights, callbacks=[Stop()]
    ).last
    assert row["loss"] == row["accuracy"] == 0


def test_a_sample_needs_no_weights():
    """What a `Doctor` looks at: rows as often as they weigh, from memory and from a source."""

    class Look:
        def on_fit_begin(self, training):
            samples.append(training.sample(1000))

    X, y, samples = np.arange(100.0).reshape(-1, 1), np.arange(100) % 2, []
    weights = np.where(X[:, 0] < 30, 0.0, np.where(X[:, 0] < 40, 4.0, 0.5))
    options = dict(loss=CE, epochs=1, batch_size=10, callbacks=[Look()])
    fnn.Sequential([fnn.Dense(2)], seed=0).fit(X, y, sample_weight=weights, **options)
    source = ArraySource(X, y, 9, 20, weights)
    fnn.Sequential([fnn.Dense(2)], seed=0).fit(source, **options)
    for rows, labels in samples:
        np.testing.assert_array_equal(rows[:, 0] % 2, labels)
        assert rows.min() >= 30
        assert 55 <= (rows < 40).sum() <= 59 and len(rows) == 100  # 40 of 70 of the weight


def test_weights_and_none_in_turn(route):
    X, y, weights = rows_and_weights(32)
    model = network()
    model.compile(CE, fnn.SGD(0.0), batch_size=32)
    plain = model.train_on_batch(X, y)
    assert model.train_on_batch(X, y, weights) != plain
    assert model.train_on_batch(X, y) == plain


def test_changes_to_the_users_weights_are_not_seen():
    class Spoiler:
        def on_batch_end(self, training):
            weights[:] = np.nan

    X, y, weights = rows_and_weights()
    kept = weights.copy()
    histories = [
        network().fit(X, y, CE, epochs=2, batch_size=16, sample_weight=given, callbacks=callbacks)
        for given, callbacks in ((weights, [Spoiler()]), (kept, []))
    ]
    assert histories[0]["loss"] == histories[1]["loss"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_do_not_depend_on_the_threads(dtype):
    rng = np.random.default_rng(0)
    X, y, weights = rng.standard_normal((512, 130)), rng.integers(0, 10, 512), rng.random(512)
    results = []
    for threads in (1, 2, 3, 8):
        model = fnn.Sequential(
            [fnn.Dense(300), fnn.ReLU(), fnn.Dense(200), fnn.Dense(10)], dtype=dtype, seed=0
        )
        with fnn.threads(threads):
            history = model.fit(
                X, y, CE, fnn.SGD(0.05, 0.9), batch_size=200, epochs=3, sample_weight=weights
            )
        results.append((model.flat.state.tobytes(), history["loss"], history["accuracy"]))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("name", ["labels, both", "shares", "huber"])
def test_running_allocates_nothing_and_memory_says_what_is_held(name, data):
    X, y, order, weights = data
    loss, make = LOSSES[name]
    steps = []
    for weighted in (False, True):
        model = fnn.Sequential(layers(), input_dim=X.shape[1], dtype="float64", seed=0)
        optimizer = fnn.SGD(0.01, momentum=0.9)
        model.compile(loss, optimizer)
        soft = make is not None
        steps.append(compile_step(model, loss, optimizer, ROWS, soft=soft, weighted=weighted))
    targets = loss.prepare_targets(y if make is None else make(y), 200, (10,), X.dtype)
    step, lrs = steps[1], np.full(STEPS, 0.01)
    step.run(X, targets, order, 0, 1, lrs, weights)
    owned = step.program.owned_bytes
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step.run(X, targets, order, 0, STEPS, lrs, weights)
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert step.program.owned_bytes == owned
    assert grown < 6144, "a run makes a few small Python objects and two lists of its steps"
    assert step.memory()["saved"] == steps[0].memory()["saved"] + 8 * ROWS


# --- evaluate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_evaluate_is_the_weighted_mean_over_all_rows(name, monkeypatch):
    monkeypatch.setattr("fastnn.network.CHUNK_ROWS", (64, 64))
    loss, make = LOSSES[name]
    rng = np.random.default_rng(0)
    X, y, weights = rng.standard_normal((500, 5)), rng.integers(0, 10, 500), rng.random(500)
    weights[64:128] = 0  # a chunk
    targets = y if make is None else make(y)
    model = fnn.Sequential([fnn.Dense(10)], input_dim=5, dtype="float64", seed=0)
    model.compile(loss)
    got = model.evaluate(X, targets, sample_weight=weights)
    out = model.forward(X, training=False)
    assert got["loss"] == pytest.approx(reference_loss(loss, out, targets, weights)[0], rel=1e-12)
    if loss.kind == "classification":
        right = model.predict(X) == (y if not isinstance(loss, Elementwise) else targets > 0.5)
        right = right.reshape(500, -1).all(axis=1)
        assert got["accuracy"] == pytest.approx(np.average(right, weights=weights), rel=1e-12)
    assert got == model.evaluate(ArraySource(X, targets, 50, sample_weight=weights))


def test_validation_is_weighted():
    X, y, weights = rows_and_weights()
    other = np.roll(weights, 3)
    model = network()
    history = model.fit(X, y, CE, epochs=2, validation_data=(X, y, other), sample_weight=weights)
    expected = model.evaluate(X, y, other)
    assert history["val_loss"][-1] == expected["loss"] != model.evaluate(X, y)["loss"]
    assert history["val_accuracy"][-1] == expected["accuracy"]
    source = ArraySource(X, y, sample_weight=other)
    again = network().fit(X, y, CE, epochs=2, validation_data=source, sample_weight=weights)
    assert again["val_loss"] == history["val_loss"]


# --- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [16, 40, 1000])
def test_sources_bring_their_weights(window, tmp_path):
    X, y, weights = rows_and_weights()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")

    def fitted(X, y=None, **options):
        model = network()
        history = model.fit(
            X, y, CE, fnn.SGD(0.1), batch_size=16, epochs=3, shuffle=False, **options
        )
        return model.flat.state.tobytes(), history["loss"], history["accuracy"]

    expected = fitted(X, y, sample_weight=weights)
    cuts = [0, 30, 31, 80, len(X)]
    batches = [(X[a:b], y[a:b], weights[a:b]) for a, b in pairwise(cuts)]
    assert fitted(ArraySource(X, y, 9, window, weights)) == expected
    assert fitted(BatchSource(batches, window_rows=window)) == expected
    assert fitted(lambda: iter(batches)) == expected
    assert fitted(mapped, y, sample_weight=weights) == expected


# --- losses of the user's --------------------------------------------------------------------------


class Weighted(Absolute):
    def forward_backward(self, out, target, sample_weight=None):
        weights = np.ones(len(out)) if sample_weight is None else sample_weight
        share = weights[:, None] / weights.sum() / out.shape[1]
        return float((share * np.abs(out - target)).sum()), share * np.sign(out - target)


def test_a_loss_of_the_users_has_to_take_weights():
    X, _, weights = rows_and_weights(64)
    results = []
    for loss in (Weighted(), "mean_absolute_error"):
        model = fnn.Sequential([fnn.Dense(2)], input_dim=5, dtype="float64", seed=0)
        history = model.fit(X, X[:, :2], loss, epochs=3, batch_size=16, sample_weight=weights)
        results.append([*history["loss"], model.evaluate(X, X[:, :2], weights)["loss"]])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    model = fnn.Sequential([fnn.Dense(2)], input_dim=5, seed=0)
    for call in (
        lambda: model.fit(X, X[:, :2], Absolute(), sample_weight=weights),
        lambda: model.evaluate(X, X[:, :2], weights),
        lambda: model.train_on_batch(X, X[:, :2], weights),
        lambda: model.fit(lambda: iter([(X, X[:, :2], weights)]), epochs=1),
    ):
        with pytest.raises(TypeError, match="Absolute.*takes no weights of the rows: give its for"):
            call()
    assert model.fit(X, X[:, :2], epochs=1).epochs == 1


# --- what is refused -------------------------------------------------------------------------------

X, y, GOOD = rows_and_weights(20)


def spoiled(row, value):
    weights = GOOD.copy()
    weights[row] = value
    return weights


BAD = [
    (spoiled(3, -0.5), ValueError, "holds -0.5 at row 3, expected weights from 0 up"),
    (spoiled(4, np.nan), ValueError, "holds nan at row 4, expected finite"),
    (spoiled(5, np.inf), ValueError, "holds inf at row 5, expected finite"),
    (spoiled(6, 1e300), ValueError, r"holds 1e\+300 at row 6, more than float32 can hold"),
    (spoiled(6, 1e20), ValueError, r"adds up to 1e\+20, expected at most 1.84e\+19 in float32"),
    (np.zeros(20), ValueError, "is zero everywhere, as float32 has it"),
    (np.full(20, 1e-60), ValueError, "is zero everywhere, as float32 has it"),
    (GOOD[:19], ValueError, r"has the shape \(19,\), expected one weight for each row \(20,\)"),
    (GOOD[:, None], ValueError, r"has the shape \(20, 1\).*ravel\(\)"),
    (np.ones((20, 4)), ValueError, r"has the shape \(20, 4\), expected one weight for each row"),
    (0.5, ValueError, r"has the shape \(\), expected one weight for each row"),
    (["a"] * 20, TypeError, "holds text"),
    (GOOD * 1j, TypeError, "is complex"),
    ({0: 1.0, 1: 2.0}, TypeError, "holds Python objects"),
    (np.ma.masked_less(GOOD, 0.1), ValueError, "has masked values"),
]


@pytest.mark.parametrize(("weights", "error", "match"), BAD, ids=lambda value: str(value)[:30])
def test_wrong_weights_are_named_and_nothing_is_touched(weights, error, match, tmp_path):
    model = network("float32")
    model.compile(CE, fnn.SGD(0.1))
    before = model.flat.state.copy()
    calls = [
        ("sample_weight", lambda: model.fit(X, y, sample_weight=weights)),
        ("sample_weight", lambda: model.evaluate(X, y, weights)),
        (r"validation_data\[2\]", lambda: model.fit(X, y, validation_data=(X, y, weights))),
    ]
    if "zero everywhere" not in match:
        calls.append(("sample_weight", lambda: model.train_on_batch(X, y, weights)))
        calls.append(("sample_weight", lambda: model.fit(iter([(X, y, weights)]), epochs=1)))
    for name, call in calls:
        with pytest.raises(error, match=f"{name} {match}"):
            call()
        np.testing.assert_array_equal(model.flat.state, before)
    assert model.fit(X, y, epochs=1, sample_weight=GOOD).epochs == 1


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: m.fit(iter([(X, y)]), epochs=1, sample_weight=GOOD), TypeError, "bring their w"),
        (
            lambda m: m.fit(X, y, validation_data=(iter([(X, y)]), None, GOOD)),
            TypeError,
            "validation_data are batches, which bring their weights",
        ),
        (
            lambda m: m.fit(iter([(X, y, GOOD), (X, y)]), epochs=1),
            ValueError,
            "some batches have weights of their rows and some have none",
        ),
        (lambda m: m.fit(iter([(X, y, GOOD, 1)]), epochs=1), TypeError, "a tuple of 4"),
        (lambda m: m.fit(iter([(X, y, GOOD[:3])]), epochs=1), ValueError, r"shape \(3,\).*\(20,\)"),
        (
            lambda m: m.fit(iter([(X, y, GOOD), (X, y, -GOOD)]), epochs=1),
            ValueError,
            "at row 20, expected weights from 0 up",
        ),
        (lambda m: m.evaluate(iter([(X, y, 0 * GOOD)])), ValueError, "rows.* add up to nothing"),
        (lambda m: m.fit(iter([(X, y, 0 * GOOD)]), epochs=1), ValueError, "rows.* add up to nothing"),
        (lambda m: m.fit(X, y, validation_data=(X, y, GOOD, 1)), TypeError, r"\(X, y, sample_weight"),
        (lambda m: ArraySource(X, y, sample_weight=-GOOD), ValueError, "from 0 up"),
        (lambda m: ArraySource(X, y, sample_weight=0 * GOOD), ValueError, "zero everywhere"),
    ],
)  # fmt: skip
def test_what_else_is_refused(call, error, match):
    model = network("float32")
    model.compile(CE)
    with pytest.raises(error, match=match):
        call(model)


def test_a_step_is_made_with_weights_or_without(data):
    X, y, order, weights = data
    for weighted in (False, True):
        model = fnn.Sequential(layers(), input_dim=21, dtype="float64", seed=0)
        model.compile(CE, fnn.SGD(0.1))
        step = compile_step(model, model.loss, model.optimizer, ROWS, weighted=weighted)
        with pytest.raises(ValueError, match="a program that was made for them"):
            step.run(X, y, order, 0, 1, np.ones(1), None if weighted else weights)
    with pytest.raises(ValueError, match="x has 200 rows, weights 199"):
        step.run(X, y, order, 0, 1, np.ones(1), weights[1:])
    with pytest.raises(TypeError, match="all be float32 or all be float64"):
        step.run(X, y, order, 0, 1, np.ones(1), weights.astype("float32"))


def test_a_model_that_is_not_compiled_trains_with_weights():
    X, y, weights = rows_and_weights()
    results = []
    for extra in ([], [Nothing()]):
        model = fnn.Sequential([*layers(), *extra], input_dim=5, dtype="float64", seed=0)
        history = model.fit(X, y, CE, fnn.SGD(0.1), epochs=3, batch_size=16, sample_weight=weights)
        results.append([*history["loss"], *history["accuracy"]])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)


def test_small_weights_of_classes_and_of_rows_are_proportions():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)).astype("float32"), rng.integers(0, 3, 30)
    losses_of = []
    for of_class, of_row in (
        ([1, 2, 4], 1.0),
        ([1e-30, 2e-30, 4e-30], 1e-9),
        ([1e30, 2e30, 4e30], 1e15),
    ):
        model = fnn.Sequential([fnn.Dense(3)], seed=0)
        loss = fnn.SoftmaxCrossEntropy(class_weight=of_class)
        weights = np.full(30, of_row, "float32")
        history = model.fit(
            x, y, loss, fnn.SGD(0.1), batch_size=10, epochs=3, sample_weight=weights, verbose=False
        )
        losses_of.append([*history["loss"], model.evaluate(x, y, sample_weight=weights)["loss"]])
    np.testing.assert_allclose(losses_of[1:], losses_of[:1] * 2, rtol=1e-5)


def test_a_loss_that_counts_in_a_way_of_its_own_says_what_it_needs():
    class Counting(fnn.SoftmaxCrossEntropy):
        def count_correct(self, out, target):
            return len(out)

    class Judging(Counting):
        def are_correct(self, out, target):
            return np.ones(len(out), bool)

    x, y, weights = np.ones((6, 2)), np.zeros(6, int), np.ones(6)
    model = fnn.Sequential([fnn.Dense(2)], seed=0)
    with pytest.raises(TypeError, match="override are_correct instead of count_correct"):
        model.fit(x, y, Counting(), batch_size=3, epochs=1, sample_weight=weights, verbose=False)
    history = model.fit(
        x, y, Judging(), batch_size=3, epochs=1, sample_weight=weights, verbose=False
    )
    assert history["accuracy"] == [1.0]
