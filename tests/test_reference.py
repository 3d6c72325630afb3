"""The reference, and some kernels, against third parties: PyTorch, Philox's known answers, differences."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cases import ACTIVATIONS, CASES, DTYPES, Activation, Case, arrays, assert_close, widened
from gradients import assert_gradients

from fastnn import reference
from fastnn.reference.dropout import philox4x32, random_numbers

DIFFERENTIABLE = [case for case in CASES if case.gradient is not None]


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed: no third party")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=["reference", "functional"])
def module(request: pytest.FixtureRequest) -> Any:
    """The twin, and the kernels themselves."""
    return importlib.import_module(f"fastnn.{request.param}")


def assert_same(ours: Any, theirs: Any) -> None:
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def leaf(torch: Any, x: np.ndarray) -> Any:
    """A PyTorch tensor of its own memory, to be differentiated."""
    return torch.tensor(x.copy(), requires_grad=True)


# --- every operation ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradient_is_numerical_gradient(case: Case) -> None:
    assert_gradients(case, reference)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_dtype_is_kept_and_rounding_is_small(case: Case, dtype: Any) -> None:
    # NumPy's float32 steps, each rounded, may add up to more than a kernel is allowed.
    case = replace(case, ulps=2 * case.ulps + 4)
    for shape in case.shapes:
        a = case.example(shape, dtype)
        assert_close(
            case, case.results(reference, a), case.results(reference, widened(a)), a, dtype
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_are_left_alone(case: Case) -> None:
    a = case.example(case.shapes[-1], np.float64)
    before = {name: array.copy() for name, array in arrays(a)}
    for name, array in arrays(a):
        array.flags.writeable = name in case.mutated
    case.call(reference, a)
    for name, array in arrays(a):
        if name not in case.mutated:
            np.testing.assert_array_equal(array, before[name])


def test_every_operation_has_a_case() -> None:
    assert {case.name for case in CASES} == set(reference.__all__)


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(reference.__path__)])
def test_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fastnn.reference.{module}"))
    assert result.failed == 0
    assert result.attempted > 0 or module.startswith("_")


# --- PyTorch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        (activation, parameters)
        for activation in ACTIVATIONS
        for parameters in activation.parameters
    ],
    ids=lambda value: getattr(value, "name", None) or "+".join(map(str, value.values())),
)
def test_activation_is_torchs(
    torch: Any, module: Any, activation: Activation, parameters: dict[str, Any]
) -> None:
    x = np.concatenate([rng().normal(size=500) * scale for scale in (0.1, 1, 5, 50)])
    dy = rng(1).normal(size=x.shape)
    y = getattr(module, activation.name)(x, **parameters)
    saved = x if activation.saved == "x" else y
    dx = getattr(module, f"{activation.name}_backward")(dy, saved, **parameters)
    their_x = leaf(torch, x)
    if activation.torch is not None:
        their_y = activation.torch(torch.nn.functional, their_x)
    else:
        their_y = getattr(torch.nn.functional, activation.name)(their_x, **parameters)
    their_y.backward(torch.tensor(dy))
    assert_same(y, their_y)
    assert_same(dx, their_x.grad)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (64, 33, 40), (1, 20, 1)])
def test_dense_is_torchs(
    torch: Any, module: Any, shape: tuple[int, int, int], activation: str | None
) -> None:
    n, d, h = shape
    x, w, b, dy = (rng(i).normal(size=size) for i, size in enumerate([(n, d), (d, h), h, (n, h)]))
    y = module.dense_forward(x, w, b, activation=activation)
    gradients = module.dense_backward(dy, x, w, y=y, activation=activation)
    leaves = [leaf(torch, v) for v in (x, w, b)]
    their_y = leaves[0] @ leaves[1] + leaves[2]
    if activation is not None:
        their_y = getattr(torch, activation)(their_y)
    their_y.backward(torch.tensor(dy))
    for ours, theirs in zip((y, *gradients), (their_y, *(v.grad for v in leaves)), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_is_torchs(torch: Any, module: Any, name: str, axis: int) -> None:
    x, dy = rng().normal(size=(2, 5, 4, 3)) * 5
    y = getattr(module, name)(x, axis)
    dx = getattr(module, f"{name}_backward")(dy, y, axis)
    their_x = leaf(torch, x)
    their_y = getattr(torch, name)(their_x, dim=axis)
    their_y.backward(torch.tensor(dy))
    assert_same(y, their_y)
    assert_same(dx, their_x.grad)


@pytest.mark.parametrize("pieces", [2, 5])
def test_maxout_is_torchs(torch: Any, module: Any, pieces: int) -> None:
    x, dy = rng().normal(size=(6, 4 * pieces)), rng(1).normal(size=(6, 4))
    y, which = module.maxout(x, pieces)
    their_x = leaf(torch, x)
    their_y = their_x.view(6, 4, pieces).max(dim=2).values
    their_y.backward(torch.tensor(dy))
    assert_same(y, their_y)
    assert_same(module.maxout_backward(dy, which, pieces), their_x.grad)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_is_torchs(torch: Any, shape: tuple[int, ...], axis: int, training: bool) -> None:
    channels = shape[axis]
    x, dy = 3 + 2 * rng().normal(size=(2, *shape))
    gamma, beta, mean, var = np.abs(rng(1).normal(size=(4, channels)))
    # PyTorch takes statistics as arrays of its own, and channels on axis 1 only.
    their_x, their_gamma, their_beta = (leaf(torch, v) for v in (x, gamma, beta))
    their_mean, their_var = torch.tensor(mean), torch.tensor(var)
    their_y = torch.nn.functional.batch_norm(
        their_x.movedim(axis, 1),
        their_mean,
        their_var,
        their_gamma,
        their_beta,
        training=training,
        momentum=0.3,
        eps=1e-3,
    ).movedim(1, axis)
    their_y.backward(torch.tensor(dy))
    y, used_mean, rstd = reference.batchnorm_forward(
        x, gamma, beta, mean, var, training=training, momentum=0.3, eps=1e-3, axis=axis
    )
    dx, dgamma, dbeta = reference.batchnorm_backward(
        dy, x, gamma, used_mean, rstd, training=training, axis=axis
    )
    assert_same(y, their_y)
    assert_same(mean, their_mean)
    assert_same(var, their_var)
    assert_same(dx, their_x.grad)
    assert_same(dgamma, their_gamma.grad)
    assert_same(dbeta, their_beta.grad)


@pytest.mark.parametrize("sample_weight", [None, np.array([1.0, 0.5, 0.0, 2.0, 1.0])])
@pytest.mark.parametrize("class_weight", [None, np.array([0.5, 1.0, 2.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_labels_is_torchs(
    torch: Any, module: Any, sample_weight: Any, class_weight: Any, smoothing: float
) -> None:
    logits, labels = rng().normal(size=(5, 3)) * 5, np.array([0, 2, 1, 1, 0])
    loss, dlogits = module.softmax_cross_entropy(
        logits,
        labels,
        sample_weight=sample_weight,
        class_weight=class_weight,
        label_smoothing=smoothing,
    )
    theirs = leaf(torch, logits)
    each = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(labels),
        weight=None if class_weight is None else torch.tensor(class_weight),
        reduction="none",
        label_smoothing=smoothing,
    )
    ones = np.ones(5)
    sample = ones if sample_weight is None else sample_weight
    total = sample @ (ones if class_weight is None else class_weight[labels])
    their_loss = (each * torch.tensor(sample)).sum() / total
    their_loss.backward()
    assert_same(loss, their_loss)
    assert_same(dlogits, theirs.grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_soft_targets_is_torchs(torch: Any, module: Any, smoothing: float) -> None:
    logits, target = rng().normal(size=(2, 5, 3))
    target = reference.softmax(target)
    loss, dlogits = module.softmax_cross_entropy(logits, target, label_smoothing=smoothing)
    theirs = leaf(torch, logits)
    their_loss = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(target), label_smoothing=smoothing
    )
    their_loss.backward()
    assert_same(loss, their_loss)
    assert_same(dlogits, theirs.grad)


def test_one_hot_targets_mean_the_same_as_labels(module: Any) -> None:
    logits, labels = rng().normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    options = {"class_weight": np.array([0.5, 1.0, 2.0]), "label_smoothing": 0.1}
    loss, dlogits = module.softmax_cross_entropy(logits, labels, **options)
    again, dagain = module.softmax_cross_entropy(logits, np.eye(3)[labels], **options)
    assert_same(again, loss)
    assert_same(dagain, dlogits)


@pytest.mark.parametrize(
    ("name", "their_name", "theirs_is_ours_times"),
    [
        ("mean_squared_error", "mse_loss", 1),
        ("mean_absolute_error", "l1_loss", 1),
        ("huber", "huber_loss", 1),
        ("binary_cross_entropy", "binary_cross_entropy_with_logits", 1),
        ("multiclass_hinge", "multi_margin_loss", 1 / 4),  # PyTorch divides by the 4 classes
    ],
)
def test_loss_is_torchs(
    torch: Any, module: Any, name: str, their_name: str, theirs_is_ours_times: float
) -> None:
    scores = rng().normal(size=(6, 4)) * 3
    target = rng(1).integers(0, 4, 6) if name == "multiclass_hinge" else rng(1).random((6, 4))
    loss, gradient = getattr(module, name)(scores, target)
    theirs = leaf(torch, scores)
    their_loss = getattr(torch.nn.functional, their_name)(theirs, torch.tensor(target))
    their_loss.backward()
    assert_same(loss * theirs_is_ours_times, their_loss)
    assert_same(gradient * theirs_is_ours_times, theirs.grad)


@pytest.mark.parametrize(
    ("update", "state", "optimizer", "settings", "rename"),
    [
        ("sgd_update", "v", "SGD", {"lr": 0.1}, {}),
        ("sgd_update", "v", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, {}),
        ("sgd_update", "v", "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {}),
        ("adagrad_update", "h", "Adagrad", {"lr": 0.1, "weight_decay": 0.01}, {}),
        ("rmsprop_update", "hv", "RMSprop", {"lr": 0.1, "rho": 0.9}, {"rho": "alpha"}),
        ("rmsprop_update", "hv", "RMSprop", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.01}, {}),
        ("adam_update", "mv", "Adam", {"lr": 0.1, "weight_decay": 0.01}, {}),
        ("adamw_update", "mv", "AdamW", {"lr": 0.1, "weight_decay": 0.1}, {}),
    ],
)
def test_update_is_torchs(
    torch: Any,
    update: str,
    state: str,
    optimizer: str,
    settings: dict[str, Any],
    rename: dict[str, str],
) -> None:
    w = rng().normal(size=7)
    their_w = leaf(torch, w)
    theirs = getattr(torch.optim, optimizer)(
        [their_w], **{rename.get(key, key): value for key, value in settings.items()}
    )
    kept = {name: np.zeros_like(w) for name in state}
    for step in range(1, 6):
        dw = rng(step).normal(size=7)
        their_w.grad = torch.tensor(dw)
        theirs.step()
        count = {"step": step} if update.startswith("adam") else {}
        getattr(reference, update)(w, dw, **kept, **settings, **count)
        assert_same(w, their_w)


def test_clipping_by_norm_is_torchs(torch: Any) -> None:
    dw = rng().normal(size=50)
    their_w = leaf(torch, np.zeros(50))
    their_w.grad = torch.tensor(dw)
    their_norm = torch.nn.utils.clip_grad_norm_([their_w], 1.5)
    assert_same(reference.clip_by_global_norm(dw, 1.5), their_norm)
    # PyTorch adds 1e-6 to the norm it divides by.
    np.testing.assert_allclose(dw, their_w.grad.numpy(), rtol=1e-6)


# --- what has no third party -------------------------------------------------------------------


def test_batchnorm_backward_is_the_papers() -> None:
    """The six formulas of Ioffe and Szegedy, section 3, one after the other."""
    x, dy = 2 + rng().normal(size=(2, 9, 4))
    gamma, beta = rng(1).normal(size=(2, 4))
    y, mean, rstd = reference.batchnorm_forward(x, gamma, beta)
    m, xhat = len(x), (x - mean) * rstd
    dxhat = dy * gamma
    dvar = (dxhat * (x - mean)).sum(0) * -0.5 * rstd**3
    dmean = (dxhat * -rstd).sum(0) + dvar * (-2 * (x - mean)).sum(0) / m
    expected = dxhat * rstd + dvar * 2 * (x - mean) / m + dmean / m
    dx, dgamma, dbeta = reference.batchnorm_backward(dy, x, gamma, mean, rstd)
    assert_same(dx, expected)
    assert_same(dgamma, (dy * xhat).sum(0))
    assert_same(dbeta, dy.sum(0))
    assert_same(y, gamma * xhat + beta)


def test_batchnorm_backward_is_exact_for_a_mean_far_from_0() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 500, 3))
    x, gamma = x * 1e-3 + 1e4, np.ones(3)
    _, mean, rstd = reference.batchnorm_forward(x, gamma, gamma, eps=1e-12)
    dx, dgamma, _ = reference.batchnorm_backward(dy, x, gamma, mean, rstd)
    wide = x.astype(np.longdouble)
    xhat = (wide - wide.mean(axis=0)) * rstd
    expected = (dy * xhat).sum(axis=0)
    np.testing.assert_allclose(dgamma, expected.astype(float), rtol=1e-11)
    expected = rstd * (dy - dy.mean(axis=0) - xhat * expected / len(x))
    np.testing.assert_allclose(dx, expected.astype(float), rtol=1e-9, atol=1e-9 * rstd.max())


def test_batchnorm_gives_back_the_identity() -> None:
    x = 5 + 3 * rng().normal(size=(50, 4))
    eps = 1e-3
    y, _, _ = reference.batchnorm_forward(x, np.sqrt(x.var(axis=0) + eps), x.mean(axis=0), eps=eps)
    assert_same(y, x)


def test_batchnorm_recomputes_a_missing_output() -> None:
    x, dy = rng().normal(size=(2, 9, 4))
    gamma, beta = 1 + rng(1).random((2, 4))
    y, mean, rstd = reference.batchnorm_forward(x, gamma, beta, activation="tanh")
    options = {"activation": "tanh"}
    with_y = reference.batchnorm_backward(dy, x, gamma, mean, rstd, y=y, **options)
    with_beta = reference.batchnorm_backward(dy, x, gamma, mean, rstd, beta=beta, **options)
    for one, other in zip(with_y, with_beta, strict=True):
        assert_same(one, other)


PHILOX_INPUTS = [
    ([0] * 4, (0, 0)),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF)),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0)),
]


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [  # the known answers of Random123 (Salmon et al. 2011) for philox 4 x 32
        (
            7,
            [
                [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48],
                [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662],
                [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A],
            ],
        ),
        (
            10,
            [
                [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
                [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
                [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
            ],
        ),
    ],
)
def test_philox_gives_the_known_answers(rounds: int, expected: list[list[int]]) -> None:
    for (counter, key), words in zip(PHILOX_INPUTS, expected, strict=True):
        assert philox4x32(np.array(counter, np.uint32), key, rounds).tolist() == words


def test_dropout_numbers_are_cut_from_one_stream() -> None:
    seed, offset = 2**33 + 1, 2**32
    numbers = random_numbers(9000, seed, offset)
    np.testing.assert_array_equal(numbers[:7], random_numbers(7, seed, offset))

    def word(counter: int, which: int) -> int:
        return int(philox4x32(np.array([counter, 0, 0, 1], np.uint32), key=(1, 2))[which])

    for element in (0, 31, 129, 4095, 4096, 4096 + 200):
        group, e = divmod(element, 4096)
        expected = word(2048 * group + 1024 + e // 4, e % 4) >> 8
        for place in range(8):
            bits = word(2048 * group + 32 * place + e // 128, e // 32 % 4)
            expected |= (bits >> e % 32 & 1) << (31 - place)
        assert int(numbers[element]) == expected, element


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1 / 3])
@pytest.mark.parametrize("apart", [1, 32, 128, 4096])
def test_elements_are_dropped_independently(apart: int, p: float) -> None:
    """All four combinations of two elements come as often as their product says, to 5 standard deviations: of
    elements whose bits lie in one word, one counter, one group, or in the same place of two groups."""
    dropped = (random_numbers(4096 * 400, seed=7, offset=3) < int(p * 2**32)).reshape(-1, 2, apart)
    first, second = dropped[:, 0], dropped[:, 1]
    for one, of_one in ((first, p), (~first, 1 - p)):
        for other, of_other in ((second, p), (~second, 1 - p)):
            both = of_one * of_other
            sigma = np.sqrt(both * (1 - both) / first.size)
            assert abs((one & other).mean() - both) < 5 * sigma


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_it_says(p: float) -> None:
    y = reference.dropout(np.ones(100_000), p, seed=3)
    dropped = y == 0
    assert abs(dropped.mean() - p) < 4 * np.sqrt(p * (1 - p) / y.size)
    np.testing.assert_array_equal(y[~dropped], 1 / (1 - p))


def test_dropout_masks_differ() -> None:
    masks = [reference.dropout(np.ones(1000), 0.5, s, o) for s, o in ((0, 0), (1, 0), (0, 1))]
    assert all((one != other).mean() > 0.4 for one, other in pairwise(masks))


def test_sigmoid_keeps_small_probabilities() -> None:
    y = reference.sigmoid(np.array([-80.0, -800.0, 80.0, 800.0]))
    np.testing.assert_allclose(y, [np.exp(-80.0), 0.0, 1.0, 1.0], rtol=1e-15)


def test_nan_in_the_saved_output_lets_the_gradient_pass() -> None:
    dy, y = np.array([5.0]), np.array([np.nan])
    assert reference.relu_backward(dy, y) == 5.0


def test_flat_part_selects_zero() -> None:
    assert reference.relu_backward(np.array([np.nan]), np.array([0.0])) == 0.0
