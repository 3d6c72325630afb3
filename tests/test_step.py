"""The compiled step: what the plain one computes, whatever the threads, without allocating."""

from __future__ import annotations

import mmap
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels import dense, updates
from fastnn.plain_step import Outcome, PlainStep
from fastnn.stages import NotCompilable
from fastnn.step import CompiledStep, compile_step

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
    "maxout": lambda: [
        fnn.Maxout(17, pieces=3),
        fnn.BatchNorm(),
        fnn.ReLU(),
        fnn.Maxout(9, bias=False),
        fnn.Dense(10),
    ],
    "maxout first and last": lambda: [fnn.Maxout(20), fnn.Maxout(10, pieces=9)],
    "dropout": lambda: [
        fnn.Dropout(0.2),
        fnn.Dense(33),
        fnn.ReLU(),
        fnn.Dropout(0.5),
        fnn.Dense(19),
        fnn.BatchNorm(),
        fnn.GELU(),
        fnn.Dropout(0.3),
        fnn.Dense(10),
        fnn.Dropout(0.1),
    ],
    "softmax": lambda: [fnn.Dense(12), fnn.Softmax(), fnn.Dense(10), fnn.LogSoftmax()],
    "from the output": lambda: [
        fnn.Dense(20),
        fnn.SELU(),
        fnn.Dense(20),
        fnn.Softplus(),
        fnn.Dense(20),
        fnn.HardTanh(),
        fnn.Dense(20),
        fnn.HardSigmoid(),
        fnn.ReLU6(),
        fnn.Dense(10),
    ],
    "from the input": lambda: [
        fnn.Dense(20),
        fnn.SiLU(),
        fnn.Dense(20),
        fnn.BatchNorm(),
        fnn.HardSwish(),
        fnn.Dense(20),
        fnn.GELU("tanh"),
        fnn.Dense(10),
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
    optimizer=None,
    soft=False,
    **settings,
):
    """(outcome, state) of STEPS steps on a fresh model."""
    X, y, order = data
    model = fnn.Sequential(layers, input_dim=X.shape[1], dtype=dtype, seed=5)
    optimizer = optimizer or fnn.SGD(lr=0.05, momentum=0.9, **settings)
    model.compile(loss=loss, optimizer=optimizer, l2=0.2)
    step = step_class(model, model.loss, optimizer, ROWS, keep, l2=0.2, soft=soft)
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
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


def test_it_equals_the_plain_step_where_the_work_is_cut(isa):
    """Masks whose blocks begin within a group of words, products in several blocks and chunks."""
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((600, 784)), rng.integers(0, 10, 600)
    outcomes = []
    for step_class in (PlainStep, CompiledStep):
        layers = [
            fnn.Dense(300),
            fnn.BatchNorm(),
            fnn.ReLU(),
            fnn.Dropout(0.3),
            fnn.Dense(130),
            fnn.Dropout(0.2),
            fnn.Dense(10),
        ]
        model = fnn.Sequential(layers, input_dim=784, dtype="float64", seed=5)
        model.compile(optimizer=fnn.SGD(lr=0.05))
        step = step_class(model, model.loss, model.optimizer, 300, False)
        targets = model.loss.prepare_targets(y, len(X), model.output_shape, model.dtype)
        outcome = step.run(X, targets, np.arange(600), 0, 2, np.full(2, 0.05))
        outcomes.append((outcome.losses, model.flat.state.copy()))
    (plain, expected), (compiled, got) = outcomes
    assert compiled == pytest.approx(plain, rel=1e-12)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


OPTIMIZERS = {
    "sgd": lambda **o: fnn.SGD(lr=0.05, **o),
    "momentum": lambda **o: fnn.SGD(lr=0.05, momentum=0.9, **o),
    "nesterov": lambda **o: fnn.SGD(lr=0.05, momentum=0.9, nesterov=True, **o),
    "adagrad": lambda **o: fnn.Adagrad(lr=0.05, **o),
    "rmsprop": lambda **o: fnn.RMSProp(lr=0.05, **o),
    "rmsprop momentum": lambda **o: fnn.RMSProp(lr=0.05, momentum=0.9, **o),
    "adam": lambda **o: fnn.Adam(lr=0.05, **o),
    "adamw": lambda **o: fnn.AdamW(lr=0.05, **o),
}
CLIPPING = [{}, {"clip_value": 1e-3}, {"clip_norm": 0.05}, {"clip_norm": 1e9}]


def wide_layers():
    """The first layer has its update fused into the product of its gradient.

    Without a bias before the batch norm: its gradient is 0 in the compiled step but rounding errors in the
    plain one, which Adam and its kin divide by their own size.
    """
    return [fnn.Dense(200, bias=False), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10)]


@pytest.fixture
def wide_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((256, 130)), rng.integers(0, 10, 256), np.arange(ROWS * STEPS) % 256


@pytest.mark.parametrize("clipping", CLIPPING, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_equals_the_plain_step(name, clipping, wide_data):
    settings = {"weight_decay": 0.02, **clipping}
    made = [OPTIMIZERS[name](**settings) for _ in range(3)]
    plain, expected = trained(PlainStep, wide_layers(), wide_data, optimizer=made[0])
    for keep, optimizer in zip((False, True), made[1:], strict=True):
        compiled, got = trained(
            CompiledStep, wide_layers(), wide_data, keep=keep, optimizer=optimizer
        )
        assert (compiled.steps, compiled.correct) == (plain.steps, plain.correct)
        assert compiled.losses == pytest.approx(plain.losses, rel=1e-11)
        assert optimizer.step_count == made[0].step_count == STEPS
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_in_products_that_pack_their_own_input(name, isa, monkeypatch):
    # 345 inputs in blocks of rows, whose update is fetched beside the product; 700 rows are chunks of k,
    # whose panels go past the tiles.
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((800, 345)), rng.integers(0, 10, 800)
    for rows, units in ((110, 500), (700, 300)):
        monkeypatch.setattr(f"{__name__}.ROWS", rows)
        monkeypatch.setattr(f"{__name__}.STEPS", 5)  # twenty take minutes under the sanitizers
        data = X, y, np.arange(rows * STEPS) % 800

        def layers(units=units):
            return [fnn.Dense(units, bias=False), fnn.ReLU(), fnn.Dense(10)]

        made = [OPTIMIZERS[name](weight_decay=0.02, clip_value=1e-3) for _ in range(2)]
        plain, expected = trained(PlainStep, layers(), data, optimizer=made[0])
        compiled, got = trained(CompiledStep, layers(), data, optimizer=made[1])
        assert compiled.losses == pytest.approx(plain.losses, rel=1e-10)
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-9, err_msg=key)
        assert fused(compiled_with(layers(), data, OPTIMIZERS[name]()))


@pytest.mark.parametrize("inputs", [500, 512, 1024])
def test_which_updates_are_fused(inputs):
    # Rows of a step lie an odd number of cache lines apart, whatever the number of inputs.
    assert dense.update_is_better_fused(1000, inputs, 500, 4)
    assert not dense.update_is_better_fused(1000, inputs, 1500, 4)
    assert not dense.update_is_better_fused(1000, 64, 64, 4)


def compiled_with(layers, data, optimizer, keep=False):
    model = fnn.Sequential(layers, input_dim=data[0].shape[1], dtype="float64", seed=5)
    model.compile(loss="softmax_cross_entropy", optimizer=optimizer)
    return compile_step(model, model.loss, optimizer, ROWS, keep_gradients=keep)


def fused(step):
    return any(getattr(stage, "sink", None) for stage in step.stages)


def test_what_has_to_see_the_gradient_switches_the_fused_update_off(wide_data):
    for options in ({}, {"clip_value": 1.0}):
        assert fused(compiled_with(wide_layers(), wide_data, fnn.Adam(**options)))
        assert not fused(compiled_with(wide_layers(), wide_data, fnn.Adam(**options), keep=True))
    assert not fused(compiled_with(wide_layers(), wide_data, fnn.Adam(clip_norm=1.0)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_runs_are_one(name, wide_data):
    """The number of the step goes on from run to run."""
    X, y, order = wide_data
    steps = [compiled_with(wide_layers(), wide_data, OPTIMIZERS[name]()) for _ in range(2)]
    lrs = np.linspace(0.05, 0.01, STEPS)
    steps[0].run(X, y, order, 0, STEPS, lrs)
    steps[1].run(X, y, order, 0, 7, lrs)
    steps[1].run(X, y, order, 7 * ROWS, STEPS - 7, lrs[7:].copy())
    assert steps[0].optimizer.step_count == steps[1].optimizer.step_count == STEPS
    np.testing.assert_array_equal(steps[0].model.flat.state, steps[1].model.flat.state)


def test_an_optimizer_of_the_users_is_compiled_if_it_has_a_rule_only(data):
    class Rule(fnn.Optimizer):
        def rule(self):
            return updates.Rule("sgd")

    class Python(fnn.SGD):
        def apply(self, w, dw, state, lr, weight_decay, l2):
            w -= lr * dw

    layers = lambda: [fnn.Dense(10)]  # noqa: E731
    results = [
        trained(kind, layers(), data, optimizer=optimizer)[1]
        for kind, optimizer in (
            (CompiledStep, Rule(0.05)),
            (PlainStep, Rule(0.05)),
            (PlainStep, fnn.SGD(0.05)),
        )
    ]
    for key, value in results[0].items():
        np.testing.assert_allclose(results[1][key], value, rtol=1e-10, err_msg=key)
        np.testing.assert_allclose(results[2][key], value, rtol=1e-10, err_msg=key)
    with pytest.raises(NotCompilable, match="Python.*has no compiled update"):
        compiled_with(layers(), data, Python(0.1))


def test_a_gradient_that_is_not_finite_stops_before_a_clipped_update():
    """A loss of about 1e10, a gradient of the weights of 1e40."""
    X = np.full((48, 5), 1e35, np.float32)
    X[:24] = 1.0
    y, order = np.zeros((48, 1), np.float32), np.arange(48)
    results = []
    for kind in (PlainStep, CompiledStep):
        model = fnn.Sequential([fnn.Dense(1)], input_dim=5, seed=0)
        model.parameters()["0.weight"][:] = 1e-30
        optimizer = fnn.Adam(0.0, clip_norm=1.0)
        model.compile(loss="mean_squared_error", optimizer=optimizer)
        step = kind(model, model.loss, optimizer, 24)
        before = model.flat.values.copy()
        outcome = step.run(X, y, order, 0, 2, np.zeros(2))
        assert (outcome.steps, outcome.failure, optimizer.step_count) == (1, "gradient", 1)
        assert np.isfinite(outcome.last_loss) and outcome.losses[0] < 1e-9 < outcome.last_loss
        np.testing.assert_array_equal(model.flat.values, before)
        results.append(outcome.losses)
    assert results[0] == pytest.approx(results[1], abs=1e-5)


@pytest.mark.parametrize("activation", [None, "ReLU", "LeakyReLU", "Tanh", "ELU"])
@pytest.mark.parametrize("rows", [24, 700])
def test_small_and_large_batch_norms_equal_the_plain_step(activation, rows, isa, monkeypatch):
    # `rows` takes one block of rows, and for the wider batch norm several.
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
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-11)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("activation", [None, "ReLU", "Tanh", "GELU", "HardSwish"])
@pytest.mark.parametrize("width", [37, 300])
def test_batch_norm_of_a_mean_of_ten_thousand(width, activation, isa):
    # Of one block of rows, and of several.
    rows = 700
    rng = np.random.default_rng(6)
    X = np.round(rng.standard_normal((rows, width)) * 2**9) / 2**10  # X + 1e4 is exact in float32
    gradients = {}
    for dtype in ("float32", "float64"):
        layers = [fnn.Dense(width), fnn.BatchNorm(), fnn.Dense(10)]
        if activation is not None:
            layers.insert(2, getattr(fnn, activation)())
        model = fnn.Sequential(layers, input_dim=width, dtype=dtype, seed=5)
        first, last = (model.layers[i].parameters["weight"] for i in (0, -1))
        first[...], last[...] = np.eye(width), 0.1  # all of dy has one sign
        model.layers[0].parameters["bias"][...] = 1e4
        optimizer = fnn.SGD(lr=0.0)
        model.compile(loss="mean_squared_error", optimizer=optimizer)
        step = compile_step(model, model.loss, optimizer, rows, keep_gradients=True)
        targets = np.full((rows, 10), -3.0, dtype)
        step.run(X.astype(dtype), targets, np.arange(rows), 0, 1, np.zeros(1))
        # That of the weights would add little: its diagonal, x by what is normal to x, cancels to 0.
        gradients[dtype] = model.layers[1].gradients["gamma"].copy()
    size = np.abs(gradients["float64"]).max()
    np.testing.assert_allclose(gradients["float32"], gradients["float64"], rtol=0, atol=2e-6 * size)


def shares(y):
    return 0.7 * np.eye(10)[y] + 0.03


#: Losses, and what becomes of the labels to be their targets.
LOSSES = {
    "labels, smoothed": (fnn.SoftmaxCrossEntropy(label_smoothing=0.1), None),
    "labels, weighted": (fnn.SoftmaxCrossEntropy(class_weight=np.arange(1, 11)), None),
    "labels, both": (fnn.SoftmaxCrossEntropy(0.2, np.arange(1, 11)), None),
    "shares": (fnn.SoftmaxCrossEntropy(), shares),
    "shares, both": (fnn.SoftmaxCrossEntropy(0.2, np.arange(1, 11)), shares),
    "hinge": (fnn.MulticlassHinge(margin=0.7), None),
    "binary": (fnn.BinaryCrossEntropy(), lambda y: np.eye(10)[y]),
    "binary, soft": (fnn.BinaryCrossEntropy(), shares),
    "squared": (fnn.MeanSquaredError(), shares),
    "absolute": (fnn.MeanAbsoluteError(), shares),
    "huber": (fnn.Huber(delta=0.3), shares),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_equals_the_plain_step(name, isa, data):
    X, y, order = data
    loss, targets = LOSSES[name]
    given = X, y if targets is None else targets(y), order
    layers = lambda: [fnn.Dense(12), fnn.Tanh(), fnn.Dense(10)]  # noqa: E731
    (plain, expected), (compiled, got) = (
        trained(kind, layers(), given, loss=loss, nesterov=True, soft=np.ndim(given[1]) > 1)
        for kind in (PlainStep, CompiledStep)
    )
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    assert compiled.correct == plain.correct
    assert (plain.correct > 0) == isinstance(loss, fnn.SoftmaxCrossEntropy | fnn.MulticlassHinge)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("outputs", [1, 3])
def test_decisions_equal_the_plain_step(outputs, isa, data):
    X, _, order = data
    layers = lambda: [fnn.Dense(12), fnn.Tanh(), fnn.Dense(outputs)]  # noqa: E731
    y = X[:, :outputs] > 0
    (plain, expected), (compiled, got) = (
        trained(kind, layers(), (X, y, order), loss="binary_cross_entropy")
        for kind in (PlainStep, CompiledStep)
    )
    assert ROWS * STEPS > compiled.correct == plain.correct > ROWS * STEPS / 2**outputs
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


def test_a_loss_of_the_users_is_not_taken_for_its_base(data):
    class Twice(fnn.MeanSquaredError):
        def forward_backward(self, out, target):
            loss, dout = super().forward_backward(out, target)
            return 2 * loss, 2 * dout

    model = fnn.Sequential([fnn.Dense(10)], input_dim=21, seed=0)
    with pytest.raises(NotCompilable, match="Twice"):
        compile_step(model, Twice(), fnn.SGD(0.1), ROWS)


def test_masks_are_those_of_the_layer_and_never_the_same(data):
    """Compiled or not, each training pass draws on; what was drawn does not depend on the threads."""
    X, y, order = data
    masks = []
    for threads in (1, 2, 3, 4, 8):
        model = fnn.Sequential(
            [fnn.Dropout(0.5), fnn.Dense(10, 1.0)], input_dim=21, dtype="float64", seed=5
        )
        model.compile("softmax_cross_entropy", fnn.SGD(lr=0.0))
        step, seen = model.step_for(ROWS), []
        with fnn.threads(threads):
            for first in range(3):
                step.run(X, y, order, first * ROWS, 1, np.zeros(1))
                seen.append(step.values[1] != 0)
            step.run(X, y, order, 0, 4, np.zeros(4))
        assert model.layers[0].training_passes == 7
        seen.append(model.layers[0].forward(X[:ROWS]) != 0)
        assert model.layers[0].training_passes == 8
        masks.append(seen)
    assert all(
        np.array_equal(a, b) for other in masks for a, b in zip(masks[0], other, strict=True)
    )
    assert all((a != b).any() for i, a in enumerate(masks[0]) for b in masks[0][:i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["norm", "maxout", "many inputs"])
@pytest.mark.parametrize(
    "options", [{}, {"name": "adamw"}, {"name": "adam", "clip_norm": 0.1}], ids=str
)
def test_the_bits_do_not_depend_on_the_threads(kind, options, dtype, monkeypatch):
    # Large enough that the team is opened: more flops than SERIAL_FLOPS in machine.pyx.
    rng = np.random.default_rng(0)
    rows, inputs = (110, 345) if kind == "many inputs" else (ROWS, 130)
    monkeypatch.setattr(f"{__name__}.ROWS", rows)
    data = (
        rng.standard_normal((256, inputs)),
        rng.integers(0, 10, 256),
        np.arange(rows * STEPS) % 256,
    )
    layers = {
        "norm": lambda: [
            fnn.Dense(300), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(200), fnn.Dense(10)
        ],
        "maxout": lambda: [
            fnn.Dropout(0.1), fnn.Maxout(300), fnn.Dropout(0.5), fnn.Dense(200), fnn.Softmax(),
            fnn.Dense(10),
        ],
        "many inputs": lambda: [fnn.Dense(300), fnn.ReLU(), fnn.Dense(10)],
    }[kind]  # fmt: skip
    results = []
    for threads in (1, 2, 3, 4, 8):
        with fnn.threads(threads):
            optimizer = OPTIMIZERS[options.get("name", "momentum")](
                **{key: value for key, value in options.items() if key != "name"}
            )
            outcome, state = trained(CompiledStep, layers(), data, dtype=dtype, optimizer=optimizer)
        results.append((outcome, {name: a.tobytes() for name, a in state.items()}))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize(
    "make",
    [lambda: fnn.SGD(lr=0.05, momentum=0.9), lambda: fnn.Adam(clip_norm=1.0)],
    ids=["SGD", "Adam, clipped"],
)
def test_running_allocates_nothing(data, make):
    X, y, order = data
    model = fnn.Sequential(NETWORKS["batch norm"](), input_dim=X.shape[1], seed=0)
    optimizer = make()
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


MEMORY = {
    "tiny": (20, 7, lambda: [fnn.Dense(10)]),
    "one row": (20, 1, lambda: [fnn.Dense(300), fnn.ReLU(), fnn.Dense(10)]),
    "batch norm": (
        784,
        128,
        lambda: [fnn.Dense(200), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(90), fnn.Dense(10)],
    ),
    "many rows": (
        100,
        3000,
        lambda: [
            fnn.Dense(130),
            fnn.BatchNorm(),
            fnn.Tanh(),
            fnn.Dense(77),
            fnn.ELU(),
            fnn.Dense(3),
        ],
    ),
    "norm of a wide input": (
        1500,
        500,
        lambda: [fnn.BatchNorm(), fnn.Dense(40), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10)],
    ),
    "maxout": (50, 200, lambda: [fnn.Maxout(60, 3), fnn.Dropout(0.5), fnn.Dense(10)]),
    "activations": (64, 100, lambda: [fnn.Sigmoid(), fnn.Tanh(), fnn.Dense(33), fnn.Dense(700)]),
}


@pytest.mark.parametrize(
    ("make", "states"),
    [
        (lambda: fnn.SGD(0.1), 0),
        (lambda: fnn.SGD(0.1, 0.9), 1),
        (lambda: fnn.Adam(clip_norm=1.0), 2),
    ],
    ids=["no state", "velocity", "Adam"],
)
@pytest.mark.parametrize("name", MEMORY)
def test_memory_is_what_the_formula_says(name, make, states, isa, thread_count, monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)  # huge pages are not traced
    inputs, rows, layers = MEMORY[name]
    rng = np.random.default_rng(0)
    for dtype in (np.dtype("float32"), np.dtype("float64")):
        real = dtype.itemsize
        X, y = rng.standard_normal((rows, inputs)).astype(dtype), rng.integers(0, 3, rows)
        model = fnn.Sequential(layers(), input_dim=inputs, dtype=dtype, seed=0)
        optimizer = make()
        model.compile("softmax_cross_entropy", optimizer)
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            step = compile_step(model, model.loss, optimizer, rows)
            for _ in range(2):
                step.run(X, y, np.arange(rows), 0, 1, np.full(1, 0.01))
            traced = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()

            memory = step.memory()
            P, R = model.flat.values.size, model.flat.buffers.size
            line = 64 // real
            d = [
                (-(-width // line) | 1) * line
                for width in (inputs, *(s.width for s in step.stages))
            ]
            norms = [s.width for s in step.stages if isinstance(s.layer, fnn.BatchNorm)]
            targets = 8 * rows
            maxout = sum(
                rows * layer.units for layer in model.layers if isinstance(layer, fnn.Maxout)
            )
            assert memory["parameters"] == real * (P + 2 * R)
            assert memory["gradients"] == real * P
            assert memory["optimizer"] == real * states * P
            assert memory["saved"] == real * (rows * sum(d) + 3 * sum(norms)) + targets + maxout
            assert memory["passed on"] == real * 2 * rows * max(d[1:])
            padding = 4 * 64 // real
            weights = (
                layer.parameters["weight"] for layer in model.layers if "weight" in layer.parameters
            )
            dense = [weight.shape for weight in weights]
            packed = max(
                max((D + padding) * (H + padding), rows * (D + H + 2 * padding)) for D, H in dense
            )
            assert memory["packed"] <= real * packed
            sums = sum(8 * C * (6 * -(-rows // 128) + 16) for C in norms)
            assert (
                memory["sums"] <= sums + 8 * 2 * rows / 32 + 40_000
            )  # and the arguments of the calls
            assert memory["workspace"] <= threads * 2**21
            # What NumPy allocated for the step is what it says it holds, but for small objects.
            held = memory["saved"] + memory["passed on"] + real * R
            assert held <= traced + 1000 and traced <= held + 100_000


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
    assert np.isfinite(outcome.losses).all() and not np.isfinite(outcome.last_loss)
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


@pytest.mark.parametrize("rows", [24, 700])
def test_bias_gradients_summed_by_the_products(rows, isa, monkeypatch):
    monkeypatch.setattr("fastnn.stages.SUMMED_BYTES", 0)
    monkeypatch.setattr(f"{__name__}.ROWS", rows)
    rng = np.random.default_rng(6)
    data = rng.standard_normal((800, 45)), rng.integers(0, 10, 800), np.arange(rows * STEPS) % 800
    layers = lambda: [fnn.Dense(37), fnn.Tanh(), fnn.Dense(300), fnn.Dense(10)]  # noqa: E731
    plain, expected = trained(PlainStep, layers(), data)
    compiled, got = trained(CompiledStep, layers(), data)
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-10, atol=1e-10, err_msg=key)


def test_the_users_labels_are_not_read_while_training():
    # They were checked once: what a callback writes to them later would be an index out of bounds.
    class Spoiler:
        def on_batch_end(self, training):
            y[:] = 5000

    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 4
    model = fnn.Sequential([fnn.Dense(4)], input_dim=3, seed=0)
    history = model.fit(
        X, y, "softmax_cross_entropy", fnn.SGD(0.1), batch_size=10, epochs=2, callbacks=[Spoiler()]
    )
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    "change", ["momentum", "momentum on", "weight decay", "eps", "dropout", "clip"]
)
def test_settings_changed_between_steps_count(change):
    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 4
    states = []
    for step_class in ("compiled", "plain"):
        layers = [fnn.Dense(4), fnn.BatchNorm(), fnn.Dropout(0.2), fnn.Dense(4)]
        if step_class == "plain":
            layers.insert(0, Nothing())
        model = fnn.Sequential(layers, input_dim=3, seed=0, dtype="float64")
        optimizer = fnn.SGD(0.1, momentum=0.0 if change == "momentum on" else 0.9)
        optimizer.clip_norm = 0.01 if change == "clip" else None
        model.compile("softmax_cross_entropy", optimizer)
        for layer in model.layers:  # the same masks, at whatever place
            layer.random_key = 7
        model.parameters()  # built
        for value in model.parameters().values():
            value[...] = np.linspace(-1, 1, value.size).reshape(value.shape)
        model.train_on_batch(X, y)
        norm, dropout = model.layers[-3:-1]
        if change.startswith("momentum"):
            optimizer.momentum = 0.5
        elif change == "weight decay":
            optimizer.weight_decay = 0.3
        elif change == "clip":  # the number is the same
            optimizer.clip_norm, optimizer.clip_value = None, 0.01
        elif change == "eps":
            norm.eps = 0.5
        else:
            dropout.p = 0.6
        model.train_on_batch(X, y)
        model.train_on_batch(X, y)
        states.append(model.flat.state.copy())
    np.testing.assert_allclose(*states, rtol=1e-9, atol=1e-9)


class Nothing(fnn.Layer):
    """Keeps a model from being compiled."""

    def forward(self, x, training=True):
        return x

    def backward(self, dy):
        return dy


def test_clipping_by_the_norm_keeps_the_gradients(data):
    X, y, _ = data
    model = fnn.Sequential([fnn.Dense(300), fnn.ReLU(), fnn.Dense(10)], input_dim=21, seed=0)
    model.fit(X, y, "softmax_cross_entropy", fnn.SGD(0.1, clip_norm=1.0), batch_size=50, epochs=1)
    assert model.gradients()["0.weight"].any()
