"""Optimizers as objects: settings, what they do in a training, and what goes on after a stop."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optimizers, training
from fastnn.plain_step import PlainStep

CE, MSE = "softmax_cross_entropy", "mean_squared_error"

MAKE = {
    "SGD": lambda **o: fnn.SGD(lr=0.1, momentum=0.9, nesterov=True, **o),
    "Adagrad": lambda **o: fnn.Adagrad(lr=0.05, **o),
    "RMSProp": lambda **o: fnn.RMSProp(lr=0.005, momentum=0.5, **o),
    "Adam": lambda **o: fnn.Adam(lr=0.01, beta2=0.99, **o),
    "AdamW": lambda **o: fnn.AdamW(lr=0.01, **o),
}
every_optimizer = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(params=["plain", "default"])
def route(request, monkeypatch):
    """Both steps: through the layers, and the one that `make_step` chooses."""
    if request.param == "plain":
        monkeypatch.setattr(training, "make_step", PlainStep)


def data(n=64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 130))
    return X, X[:, :4].argmax(axis=1)


def mlp(dtype="float64"):
    """Large enough that the compiled step fuses the update of the first layer."""
    layers = [fnn.Dense(150), fnn.ReLU(), fnn.Dense(9), fnn.Tanh(), fnn.Dense(4)]
    return fnn.Sequential(layers, input_dim=130, dtype=dtype, seed=0)


# --- settings ------------------------------------------------------------------------------------


@every_optimizer
def test_settings_make_the_same_optimizer_again(name):
    for options in ({}, {"weight_decay": 0.1, "clip_norm": 2.0}, {"clip_value": 0.5}):
        optimizer = MAKE[name](**options)
        config = optimizer.get_config()
        assert next(iter(config)) == "lr" and config.items() >= options.items()
        again = optimizers.KNOWN[name](**config)
        assert again.get_config() == config and type(optimizer.copy()) is type(optimizer)
        assert repr(again) == repr(optimizer) and repr(again).startswith(f"{name}(lr=")
        assert eval(repr(again), vars(fnn)).get_config() == config


def test_names():
    for name in ("sgd", "adagrad", "rmsprop", "adam", "adamw", "AdamW"):
        assert type(optimizers.get(name)).__name__.lower() == name.lower()
    with pytest.raises(ValueError, match="there are sgd, adagrad, rmsprop, adam, adamw"):
        optimizers.get("adamax")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fnn.Adam(beta1=1.0), ValueError, r"beta1 must be in \[0, 1\), got 1.0"),
        (lambda: fnn.Adam(beta2=-0.1), ValueError, "beta2"),
        (lambda: fnn.Adam(eps=0.0), ValueError, "eps must be finite and greater than 0"),
        (lambda: fnn.Adagrad(eps=1e-50), ValueError, "eps must be at least 1.18e-38"),
        (lambda: fnn.RMSProp(rho="much"), TypeError, "rho must be a number"),
        (lambda: fnn.RMSProp(momentum=1.5), ValueError, "momentum"),
        (lambda: fnn.AdamW(weight_decay=-1), ValueError, "weight_decay"),
        (lambda: fnn.Adam(lr=-1.0), ValueError, "lr"),
        (lambda: fnn.SGD(clip_norm=0.0), ValueError, "clip_norm must be finite and greater than 0"),
        (lambda: fnn.SGD(clip_value=np.inf), ValueError, "clip_value must be finite"),
        (lambda: fnn.SGD(clip_value=1.0, clip_norm=1.0), ValueError, "not both"),
    ],
)
def test_bad_settings_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


# --- in a training -------------------------------------------------------------------------------


@pytest.mark.parametrize("clipping", [{}, {"clip_value": 0.01}, {"clip_norm": 0.1}], ids=str)
@every_optimizer
def test_20_steps_are_those_of_pytorch(route, name, clipping):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = mlp()
    twin = torch.nn.Sequential(
        torch.nn.Linear(130, 150),
        torch.nn.ReLU(),
        torch.nn.Linear(150, 9),
        torch.nn.Tanh(),
        torch.nn.Linear(9, 4),
    ).double()
    theirs = dict(twin.named_parameters())
    for key, array in model.parameters().items():
        theirs[key].data.copy_(torch.from_numpy(array.T.copy()))
    settings = {
        "SGD": dict(lr=0.1, momentum=0.9, nesterov=True),
        "Adagrad": dict(lr=0.05),
        "RMSProp": dict(lr=0.005, momentum=0.5),
        "Adam": dict(lr=0.01, betas=(0.9, 0.99)),
        "AdamW": dict(lr=0.01),
    }[name]
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim == 2], "weight_decay": 0.05},
        {"params": [p for p in twin.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = getattr(torch.optim, {"RMSProp": "RMSprop"}.get(name, name))(groups, **settings)
    model.compile(CE, MAKE[name](weight_decay=0.05, **clipping))
    clipped = 0
    for seed in range(20):
        x, y = data(16, seed)
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        if "clip_value" in clipping:
            torch.nn.utils.clip_grad_value_(twin.parameters(), clipping["clip_value"])
        if "clip_norm" in clipping:  # clip_grad_norm_ adds 1e-6 to the norm
            norm = torch.cat([p.grad.ravel() for p in twin.parameters()]).norm()
            clipped += bool(norm > clipping["clip_norm"])
            for p in twin.parameters():
                p.grad *= min(1.0, clipping["clip_norm"] / norm)
        optimizer.step()
        assert model.train_on_batch(x, y) == pytest.approx(loss.item(), rel=1e-9)
    assert clipped or "clip_norm" not in clipping
    for key, array in model.parameters().items():
        expected = theirs[key].detach().numpy().T
        np.testing.assert_allclose(array, expected, rtol=1e-9, atol=1e-10, err_msg=key)


@every_optimizer
def test_it_learns(name):
    X, y = data(200)
    model = mlp("float32")
    history = model.fit(X, y, CE, MAKE[name](clip_norm=5.0), batch_size=20, epochs=20)
    assert history["loss"][-1] < 0.3 < 1 < history["loss"][0]


@every_optimizer
def test_two_fits_are_one(route, name):
    X, y = data()
    once, twice = mlp(), mlp()
    once.fit(X, y, CE, MAKE[name](), batch_size=16, epochs=4)
    for _ in range(2):
        twice.fit(X, y, CE, twice.optimizer or MAKE[name](), batch_size=16, epochs=2)
    assert once.optimizer.step_count == twice.optimizer.step_count == 16
    np.testing.assert_array_equal(once.flat.state, twice.flat.state)
    for key, array in once.optimizer.state.items():
        assert array.any()
        np.testing.assert_array_equal(array, twice.optimizer.state[key])


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every_optimizer
def test_a_copied_model_trains_on_as_the_original(route, name, carry):
    X, y = data()
    model = mlp()
    model.fit(X, y, CE, MAKE[name](), batch_size=16, epochs=2)
    twin = carry(model)
    assert twin.optimizer.step_count == 8
    for each in (model, twin):
        each.fit(X, y, batch_size=16, epochs=2)
    np.testing.assert_array_equal(model.flat.state, twin.flat.state)


@every_optimizer
def test_training_goes_on_from_a_file(name, tmp_path):
    X, y = data()
    model = mlp("float32")
    schedule = lambda step: 0.02 / (1 + step)  # noqa: E731
    model.fit(X, y, CE, MAKE[name](clip_norm=3.0), batch_size=16, epochs=2)
    model.optimizer.lr = schedule
    model.save(tmp_path / "model.safetensors", optimizer=True)
    twin = fnn.load(tmp_path / "model.safetensors")
    assert type(twin.optimizer) is type(model.optimizer) and twin.optimizer.step_count == 8
    assert twin.optimizer.lr == 0.02 / 9 and twin.optimizer.clip_norm == 3.0
    twin.optimizer.lr = schedule
    for each in (model, twin):
        each.fit(X, y, batch_size=16, epochs=2)
    np.testing.assert_array_equal(model.flat.state, twin.flat.state)
    model.save(tmp_path / "model.safetensors")
    assert fnn.load(tmp_path / "model.safetensors").optimizer is None


def test_a_file_with_a_damaged_optimizer_is_refused(tmp_path):
    model = mlp("float32")
    model.fit(*data(), CE, fnn.Adam(), epochs=1)
    path = tmp_path / "model.safetensors"
    model.save(path, optimizer=True)
    content = path.read_bytes()
    for old, new in ((b"beta1", b"beta9"), (b'optimizer.mean"', b'optimizer.meat"')):
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(fnn.ModelFileError, match="damaged model file"):
            fnn.load(path)


@every_optimizer
def test_what_a_failing_epoch_did_is_undone_with_the_count_of_steps(route, name):
    X, y = data()
    model = mlp("float32")
    model.fit(X, y, CE, MAKE[name](), batch_size=16, epochs=2)
    state = {key: array.copy() for key, array in model.optimizer.state.items()}
    before = model.flat.state.copy()

    class Overflow:
        def on_batch_end(self, training):
            if training.step == 3:
                training.model.parameters()["0.bias"][0] = np.inf

    with pytest.raises(fnn.NonFiniteError) as info:
        model.fit(X, y, batch_size=16, epochs=2, callbacks=[Overflow()])
    assert info.value.restored and model.optimizer.step_count == 8
    np.testing.assert_array_equal(model.flat.state, before)
    for key, array in state.items():
        np.testing.assert_array_equal(model.optimizer.state[key], array)


def test_a_norm_that_is_not_finite_ends_the_fit_before_the_update(route):
    X = np.full((24, 5), 1e35, np.float32)  # the loss is finite, the gradient 1e40
    model = fnn.Sequential([fnn.Dense(1)], input_dim=5, seed=0)
    model.parameters()["0.weight"][:] = 1e-30
    before = model.flat.state.copy()
    with pytest.raises(
        fnn.NonFiniteError,
        match="norm of the gradient became NaN or infinite in epoch 1, step 1: this step was not made",
    ) as info:
        model.fit(X, np.zeros((24, 1)), MSE, fnn.Adam(clip_norm=1.0), epochs=2)
    assert info.value.layer == "gradient" and not info.value.restored
    np.testing.assert_array_equal(model.flat.state, before)
    assert not model.optimizer.state["mean"].any() and model.optimizer.step_count == 0


# --- who may read the gradients ------------------------------------------------------------------


class Reader:
    """Reads the gradients after each step."""

    needs_gradients = True

    def __init__(self):
        self.seen = []

    def on_batch_end(self, training):
        self.seen.append({k: g.copy() for k, g in training.model.gradients().items()})


def test_gradients_that_went_into_the_update_cannot_be_read():
    X, y = data()
    model = mlp()
    model.fit(X, y, CE, fnn.Adam(), batch_size=16, epochs=1)
    with pytest.raises(RuntimeError, match=r"keep_gradients=True.*needs_gradients = True"):
        model.gradients()
    model.fit(X, y, batch_size=16, epochs=1, keep_gradients=True)
    assert np.abs(model.gradients()["0.weight"]).max() > 0


def test_a_callback_that_reads_gradients_has_them_for_its_fit_only(route):
    X, y = data()
    model, other = mlp(), mlp()
    reader = Reader()
    model.fit(X, y, CE, MAKE["Adam"](), batch_size=16, epochs=1, callbacks=[reader])
    other.fit(X, y, CE, MAKE["Adam"](), batch_size=16, epochs=1)
    assert len(reader.seen) == 4
    assert not model.keep_gradients, "the next fit is as fast as ever"
    np.testing.assert_allclose(model.flat.state, other.flat.state, rtol=1e-9, atol=1e-12)
    for key, array in model.gradients().items():  # those of the last step are still there
        np.testing.assert_array_equal(array, reader.seen[-1][key])


@pytest.mark.parametrize("clipping", [{"clip_value": 1e-4}, {"clip_norm": 1e-4}], ids=str)
def test_gradients_are_shown_as_they_were_before_clipping(route, clipping):
    X, y = data()
    readers = Reader(), Reader()
    for reader, options in zip(readers, ({}, clipping), strict=True):
        mlp().fit(X, y, CE, fnn.SGD(0.0, **options), batch_size=16, epochs=1, callbacks=[reader])
    for plain, clipped in zip(readers[0].seen, readers[1].seen, strict=True):
        for key, array in plain.items():
            np.testing.assert_allclose(clipped[key], array, rtol=1e-12, atol=1e-16)
