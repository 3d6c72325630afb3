from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import network, reference, training
from fastnn.plain_step import PlainStep

CE, MSE = "softmax_cross_entropy", "mean_squared_error"


def mlp(dtype="float64", seed=0, **options):
    return fnn.Sequential(
        [fnn.Dense(7), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(6), fnn.ReLU(), fnn.Dense(4)],
        input_dim=5,
        dtype=dtype,
        seed=seed,
        **options,
    )


def data(n=40, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 5)).astype(dtype), rng.integers(0, 4, n)


@pytest.fixture(params=["plain", "default"])
def route(request, monkeypatch):
    """Both steps: through the layers, and the one that `make_step` chooses."""
    if request.param == "plain":
        monkeypatch.setattr(training, "make_step", PlainStep)


# --- the same numbers as written out by hand and as PyTorch's ------------------------------------


def by_hand(state, batches, lr, momentum, nesterov, weight_decay, l2):
    """The network of `mlp`, trained in plain NumPy with the functions of the reference."""
    w = {name: array.copy() for name, array in state.items()}
    velocity = {name: np.zeros_like(array) for name, array in w.items()}
    losses = []
    for x, y in batches:
        z1 = reference.dense_forward(x, w["0.weight"], w["0.bias"])
        h1, mean, rstd = reference.batchnorm_forward(
            z1, w["1.gamma"], w["1.beta"], w["1.running_mean"], w["1.running_var"]
        )
        a1 = reference.relu(h1)
        a2 = reference.relu(reference.dense_forward(a1, w["3.weight"], w["3.bias"]))
        logits = reference.dense_forward(a2, w["5.weight"], w["5.bias"])
        loss, d = reference.softmax_cross_entropy(logits, y)
        weights = [w[name] for name in ("0.weight", "3.weight", "5.weight")]
        losses.append(loss + l2 / (2 * len(x)) * sum((a**2).sum() for a in weights))
        g = {}
        d, g["5.weight"], g["5.bias"] = reference.dense_backward(d, a2, w["5.weight"])
        d = reference.relu_backward(d, a2)
        d, g["3.weight"], g["3.bias"] = reference.dense_backward(d, a1, w["3.weight"])
        d = reference.relu_backward(d, a1)
        d, g["1.gamma"], g["1.beta"] = reference.batchnorm_backward(d, z1, w["1.gamma"], mean, rstd)
        _, g["0.weight"], g["0.bias"] = reference.dense_backward(d, x, w["0.weight"])
        for name, gradient in g.items():
            if name.endswith("weight"):
                gradient += (weight_decay + l2 / len(x)) * w[name]
            velocity[name] = momentum * velocity[name] + gradient
            step = gradient + momentum * velocity[name] if nesterov else velocity[name]
            w[name] -= lr * step
    return w, losses


SETTINGS = [
    dict(momentum=0.0, nesterov=False, weight_decay=0.0, l2=0.0),
    dict(momentum=0.9, nesterov=False, weight_decay=0.0, l2=0.0),
    dict(momentum=0.9, nesterov=True, weight_decay=0.05, l2=0.0),
    dict(momentum=0.5, nesterov=False, weight_decay=0.01, l2=0.7),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_20_steps_are_those_written_out_by_hand(route, settings):
    model = mlp()
    start = {name: array.copy() for name, array in model.state().items()}
    batches = [data(16, seed=seed) for seed in range(20)]
    expected, losses = by_hand(start, batches, lr=0.1, **settings)
    settings = dict(settings)
    l2 = settings.pop("l2")
    model.compile(CE, fnn.SGD(lr=0.1, **settings), batch_size=16, l2=l2)
    np.testing.assert_allclose([model.train_on_batch(x, y) for x, y in batches], losses, rtol=1e-10)
    for name, array in model.state().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_20_steps_of_fit_are_those_of_train_on_batch(route):
    X, y = data(80)
    fitted, stepped = mlp(), mlp()
    history = fitted.fit(X, y, CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=4, shuffle=False)
    stepped.compile(CE, fnn.SGD(0.1, 0.9))
    losses = [stepped.train_on_batch(X[i : i + 16], y[i : i + 16]) for i in range(0, 80, 16)]
    losses += [
        stepped.train_on_batch(X[i : i + 16], y[i : i + 16])
        for _ in range(3)
        for i in range(0, 80, 16)
    ]
    np.testing.assert_allclose(
        history["loss"], np.mean(np.reshape(losses, (4, 5)), axis=1), rtol=1e-12
    )
    for name, array in fitted.state().items():
        np.testing.assert_allclose(array, stepped.state()[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("nesterov", [False, True])
def test_20_steps_are_those_of_pytorch(route, nesterov):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = mlp()
    twin = torch.nn.Sequential(
        torch.nn.Linear(5, 7),
        torch.nn.BatchNorm1d(7),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 4),
    ).double()
    renamed = {"gamma": "weight", "beta": "bias"}
    theirs = twin.state_dict()
    for name, array in model.state().items():
        position, _, kind = name.partition(".")
        theirs[f"{position}.{renamed.get(kind, kind)}"].copy_(torch.from_numpy(array.T.copy()))
    decay = 0.05
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in twin.parameters() if p.ndim == 2], "weight_decay": decay},
            {"params": [p for p in twin.parameters() if p.ndim == 1]},
        ],
        lr=0.1,
        momentum=0.9,
        nesterov=nesterov,
    )
    model.compile(CE, fnn.SGD(0.1, 0.9, nesterov, weight_decay=decay))
    for seed in range(20):
        x, y = data(16, seed=seed)
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert model.train_on_batch(x, y) == pytest.approx(loss.item(), rel=1e-10)
    theirs = twin.state_dict()
    for name, array in model.state().items():
        position, _, kind = name.partition(".")
        expected = theirs[f"{position}.{renamed.get(kind, kind)}"].numpy().T
        np.testing.assert_allclose(array, expected, rtol=1e-10, atol=1e-12, err_msg=name)


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_are_aligned_views_with_the_weights_in_front(dtype):
    model = mlp(dtype)
    flat = model.flat
    inside = flat.values[: flat.decayed]
    for name, array in model.parameters().items():
        assert array.ctypes.data % 64 == 0 and array.dtype == dtype
        assert np.shares_memory(array, flat.values)
        assert np.shares_memory(array, inside) == name.endswith("weight")
        offset = (array.ctypes.data - flat.values.ctypes.data) // array.itemsize
        assert offset == flat.offsets[name]
    x, _ = data(16)
    model.backward(model.forward(x))
    assert flat.gradients.any()
    for name, gradient in model.gradients().items():
        assert np.shares_memory(gradient, flat.gradients)
        assert gradient.shape == model.parameters()[name].shape


def test_training_leaves_the_gaps_between_parameters_at_zero(route):
    model = mlp()
    model.fit(*data(), CE, fnn.SGD(0.1, 0.9, weight_decay=0.1), batch_size=8, epochs=2, l2=0.1)
    gaps = np.ones(model.flat.values.size, bool)
    for name, array in model.parameters().items():
        start = model.flat.offsets[name]
        gaps[start : start + array.size] = False
    assert gaps.any() and not model.flat.values[gaps].any()


def test_gradients_need_a_backward_pass():
    model = mlp()
    with pytest.raises(RuntimeError, match="no gradients yet"):
        model.gradients()
    model.backward(model.forward(data(8)[0]))
    assert list(model.gradients()) == list(model.parameters())


def test_keep_gradients_keeps_them(route):
    x, y = data(16)
    model, hand = mlp(), mlp()
    model.compile(CE, fnn.SGD(0.1), keep_gradients=True)
    model.train_on_batch(x, y)
    _, dout = reference.softmax_cross_entropy(hand.forward(x), y)
    hand.backward(dout)
    for name, gradient in hand.gradients().items():
        np.testing.assert_allclose(model.gradients()[name], gradient, rtol=1e-9, atol=1e-13)


def test_a_step_that_used_up_its_gradients_says_so():
    model = mlp()
    model.mark_gradients(kept=False)
    with pytest.raises(RuntimeError, match="keep_gradients=True"):
        model.gradients()


def test_state_goes_back():
    model = mlp()
    before = {name: array.copy() for name, array in model.state().items()}
    model.fit(*data(), batch_size=8, epochs=1)
    assert any((array != before[name]).any() for name, array in model.state().items())
    model.set_state(before)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("0.weight"), "lacks 0.weight"),
        (lambda s: s.update(other=np.zeros(3)), "holds other"),
        (lambda s: s.update({"0.bias": np.zeros(3)}), r"0.bias: expected the shape \(7,\)"),
    ],
)
def test_a_wrong_state_changes_nothing(change, match):
    model = mlp()
    state = {name: array + 1 for name, array in model.state().items()}
    change(state)
    before = model.flat.state.copy()
    with pytest.raises(ValueError, match=match):
        model.set_state(state)
    np.testing.assert_array_equal(model.flat.state, before)


# --- shapes and dtypes ---------------------------------------------------------------------------


def test_the_input_size_comes_from_the_first_data():
    lazy = fnn.Sequential([fnn.Dense(7), fnn.ReLU(), fnn.Dense(4)], seed=3)
    with pytest.raises(RuntimeError, match="no parameters yet.*input_dim="):
        lazy.parameters()
    assert "?" in lazy.summary()
    lazy.forward(np.zeros((2, 5)))
    early = fnn.Sequential([fnn.Dense(7), fnn.ReLU(), fnn.Dense(4)], input_dim=5, seed=3)
    for name, array in early.parameters().items():
        np.testing.assert_array_equal(array, lazy.parameters()[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x.astype(np.uint8),
        lambda x: x > 3,
        lambda x: x.tolist(),
        lambda x: x.astype(object).astype(np.longdouble),
    ],
)
def test_numbers_of_any_type_are_converted(dtype, convert):
    x = np.random.default_rng(0).integers(0, 9, (6, 5)).astype(np.float32)
    model = mlp(dtype)
    given = convert(x)
    out = model.forward(given, training=False)
    assert out.dtype == dtype
    expected = model.forward(np.ascontiguousarray(given, dtype=dtype), training=False)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (np.zeros((3, 6)), ValueError, "X has 6 values per row, this model takes 5 values"),
        (np.zeros(5), ValueError, r"one row per sample.*X.reshape\(1, -1\)"),
        (np.zeros((0, 5)), ValueError, r"X is empty: its shape is \(0, 5\)"),
        (np.zeros((3, 0)), ValueError, "X is empty"),
        (np.zeros((3, 1, 5)), ValueError, r"X has an array \(1, 5\) per row.*flatten"),
        (np.zeros((3, 5), complex), TypeError, "X is complex"),
        (np.full((3, 5), "a"), TypeError, r"X holds text \('a' at \[0, 0\]\)"),
        (np.array([[1, "b", 2, 3, 4]], object), TypeError, r"holds text \('b' at \[0, 1\]\)"),
        (np.array([[None] * 5]), TypeError, "X holds Python objects"),
        ([[1, 2, 3, 4, 5], [1, 2]], TypeError, "cannot be read as an array of numbers"),
        (np.zeros((3, 5), "M8[s]"), TypeError, r"X has the dtype datetime64\[s\]"),
    ],
)
def test_what_is_not_rows_of_numbers_is_refused(x, error, match):
    for method in (mlp().forward, mlp().predict_proba):
        if method.__name__ == "predict_proba":
            method.__self__.compile(CE)
        with pytest.raises(error, match=match):
            method(x)


def test_a_sparse_matrix_is_refused_with_the_way_out():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"sparse matrix.*X.toarray\(\)"):
        mlp().forward(sparse.eye(5).tocsr())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(dtype="float16"), "dtype is 'float16', expected 'float32' or 'float64'"),
        (dict(dtype="number"), "dtype is 'number'"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=1.5), "seed is 1.5"),
        (dict(input_dim=0), "input_dim is 0"),
        (dict(input_dim="5"), "input_dim is '5'"),
        (dict(input_dim=True), "input_dim is True"),
    ],
)
def test_wrong_settings_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        fnn.Sequential([fnn.Dense(2)], **options)


def test_a_built_model_keeps_its_size():
    model = mlp()
    model.build(5)
    with pytest.raises(ValueError, match=r"built for \(5,\), not for \(6,\)"):
        model.build(6)


def test_backward_checks_its_gradient():
    model = mlp()
    model.forward(data(8)[0])
    with pytest.raises(ValueError, match=r"dout has the shape \(8, 3\)"):
        model.backward(np.zeros((8, 3)))


# --- inference -----------------------------------------------------------------------------------


def test_predictions_and_evaluation_agree_with_the_outputs(monkeypatch):
    model = mlp()
    X, y = data(37)
    model.fit(X, y, CE, fnn.SGD(0.1), batch_size=8, epochs=2)
    logits = model.forward(X, training=False)
    proba = reference.softmax(logits)
    loss, _ = reference.softmax_cross_entropy(logits, y)
    for rows in (1, 10, 37, 5000):  # in chunks of rows as in one
        monkeypatch.setattr(network, "CHUNK_ROWS", (rows, rows))
        assert model.predict(X).dtype == np.int64
        np.testing.assert_array_equal(model.predict(X), logits.argmax(axis=1))
        np.testing.assert_allclose(model.predict_proba(X), proba, rtol=1e-12)
        result = model.evaluate(X, y)
        assert result["loss"] == pytest.approx(loss, rel=1e-12)
        assert result["accuracy"] == (logits.argmax(axis=1) == y).mean()


def test_regression_predicts_values():
    model = fnn.Sequential([fnn.Dense(2)], seed=0, dtype="float64")
    X, _ = data(30)
    Y = X @ np.arange(10.0).reshape(5, 2)
    history = model.fit(X, Y, MSE, fnn.SGD(0.1), batch_size=10, epochs=200)
    np.testing.assert_allclose(model.predict(X), Y, atol=1e-4)
    assert model.evaluate(X, Y).keys() == {"loss"}
    assert np.isnan(history["accuracy"]).all()
    with pytest.raises(RuntimeError, match="this model is a regression"):
        model.predict_proba(X)


def test_one_output_takes_a_vector_of_targets():
    model = fnn.Sequential([fnn.Dense(1)], seed=0)
    X, _ = data(30)
    model.fit(X, X[:, 0], MSE, fnn.SGD(0.1), batch_size=10, epochs=3)
    assert model.predict(X).shape == (30, 1)


def test_without_a_loss_predict_asks_for_one():
    X, y = data(4)
    for call in (lambda: mlp().predict(X), lambda: mlp().evaluate(X, y)):
        with pytest.raises(RuntimeError, match=r"no loss yet.*compile\(loss"):
            call()
    with pytest.raises(RuntimeError, match=r"no loss and optimizer chosen yet"):
        mlp().train_on_batch(X, y)


def test_a_prediction_between_forward_and_backward_does_no_harm():
    X, y = data(16)
    quiet, busy = mlp(), mlp()
    busy.compile(CE)
    out = quiet.forward(X)
    np.testing.assert_array_equal(busy.forward(X), out)
    busy.predict(X[:3] * 2)
    busy.evaluate(X[:3], y[:3])
    np.testing.assert_array_equal(busy.backward(out), quiet.backward(out))
    for name, gradient in quiet.gradients().items():
        np.testing.assert_array_equal(gradient, busy.gradients()[name])


def test_threads_may_predict_at_once():
    model = mlp()
    model.compile(CE)
    Xs = [data(300, seed=seed)[0] for seed in range(4)]
    expected = [model.predict_proba(X) for X in Xs]
    wrong = []

    def work(i):
        for _ in range(20):
            if not np.array_equal(model.predict_proba(Xs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- as a whole ----------------------------------------------------------------------------------


def same_state(a, b):
    return all(np.array_equal(array, b.state()[name]) for name, array in a.state().items())


def test_the_same_seed_gives_the_same_run_bit_for_bit(route):
    X, y = data(100, np.float32)
    runs = [mlp("float32", seed) for seed in (7, 7, 8)]
    for model in runs:
        model.fit(X, y, CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=3)
    assert same_state(runs[0], runs[1])
    assert not same_state(runs[0], runs[2])


def test_a_drawn_seed_is_told():
    model = mlp(seed=None)
    assert same_state(model, mlp(seed=model.seed))
    assert not same_state(model, mlp(seed=None))


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_train_on_by_themselves(route, twin_of):
    X, y = data(64)
    model = mlp()
    model.fit(X, y, CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=2)
    twin = twin_of(model)
    assert same_state(model, twin)
    before = {name: array.copy() for name, array in model.state().items()}
    twin.fit(X, y, batch_size=16, epochs=1)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])
    model.fit(X, y, batch_size=16, epochs=1)  # the same momentum, the same order of rows
    assert same_state(model, twin)
    assert np.shares_memory(twin.parameters()["0.weight"], twin.flat.values)


def test_summary_and_repr():
    model = mlp()
    assert repr(model).startswith("Sequential([Dense(7), BatchNorm(), ReLU(), Dense(6)")
    assert repr(model).endswith("input_dim=5, dtype='float64', seed=0)")
    lines = model.summary().splitlines()
    assert len(lines) == 8
    assert lines[1].split() == ["0", "Dense(7)", "(N,", "7)", "42"]
    assert lines[-1] == f"{42 + 14 + 48 + 28} parameters in all, float64"
