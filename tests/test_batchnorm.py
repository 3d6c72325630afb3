"""Batch norm where it is hard: numbers far from zero, many of them, images, results beyond the caches.

What every operation is tested for stands in test_functional.py; here are layouts and sizes that take
the other routes of `_kernels/batchnorm.pyx`, against sums in extended precision and PyTorch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import functional, reference
from fastnn._kernels import machine

#: Matrices, images with the channels first and last, a volume, one long run a channel, runs of three.
LAYOUTS = {
    "matrix": ((6000, 5), 1),
    "wide matrix": ((300, 517), 1),
    "channels first": ((40, 5, 15, 10), 1),
    "small images": ((700, 6, 3, 3), 1),
    "runs of three": ((2000, 5, 3), 1),
    "channels last": ((40, 15, 10, 5), -1),
    "a volume": ((6, 5, 10, 10, 10), 1),
    "channels on axis 0": ((5, 6000), 0),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def exact(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel in extended precision."""
    wide = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.longdouble)
    mean = wide.mean(axis=1)
    mean += (wide - mean[:, None]).mean(axis=1)  # what even this type rounds off matters in float64
    return mean, np.square(wide - mean[:, None]).mean(axis=1)


def spread_over(vector: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    return vector.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def assert_accurate(x: np.ndarray, axis: int, what: str) -> None:
    """Forward with gamma 1 and beta 0, and the running statistics, against extended precision."""
    mean, var = exact(x, axis)
    channels, count, eps = len(mean), x.size // len(mean), np.finfo(x.dtype).eps
    one, zero = np.ones(channels, x.dtype), np.zeros(channels, x.dtype)
    running_mean, running_var = zero.copy(), one.copy()
    y, got_mean, rstd = functional.batchnorm_forward(
        x, one, zero, running_mean, running_var, momentum=1.0, axis=axis
    )
    size = np.abs(mean).astype(np.float64)
    # Means are merged chunk by chunk in float64, each time rounded to its place beside the mean.
    merged = np.finfo(float).eps * size * (8 + math.sqrt(count) / 32)
    off = np.abs(got_mean - mean).astype(float)
    assert (off <= 2 * eps * size + merged + 64 * eps * np.sqrt(var)).all(), what
    np.testing.assert_allclose(
        rstd, 1 / np.sqrt(var + 1e-5), rtol=max(1e-12, 8 * eps), err_msg=what
    )
    np.testing.assert_array_equal(running_mean, got_mean)
    unbiased = (var * count / (count - 1)).astype(np.float64)
    np.testing.assert_allclose(running_var, unbiased, rtol=max(1e-12, 16 * eps), atol=1e-30)
    scale = spread_over(1 / np.sqrt(var + 1e-5), x, axis)
    expected = (x - spread_over(mean, x, axis)) * scale
    # What is left of the rounding of the mean is compensated: y is as good as if it were exact.
    np.testing.assert_allclose(
        y, expected.astype(np.float64), rtol=32 * eps, atol=64 * eps + merged.max(), err_msg=what
    )


def assert_accurate_backward(x: np.ndarray, axis: int, what: str) -> None:
    """Backward from the rounded mean and rstd of forward, gamma 1, against extended precision."""
    mean, var = exact(x, axis)
    count, eps = x.size // len(mean), np.finfo(x.dtype).eps
    one, zero = np.ones(len(mean), x.dtype), np.zeros(len(mean), x.dtype)
    # A dy with a mean: the sum of it is what an error of the mean is multiplied by.
    dy = (np.random.default_rng(1).standard_normal(x.shape) + 0.7).astype(x.dtype)
    _, saved_mean, rstd = functional.batchnorm_forward(x, one, zero, axis=axis)
    got = functional.batchnorm_backward(dy, x, one, saved_mean, rstd, axis=axis)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    scale = spread_over(1 / np.sqrt(var + 1e-5), x, axis)
    xhat, wide = (x - spread_over(mean, x, axis)) * scale, dy.astype(np.longdouble)
    dbeta, dgamma = (v.sum(axis=others) for v in (wide, wide * xhat))
    dx = scale * (
        wide - spread_over(dbeta / count, x, axis) - xhat * spread_over(dgamma / count, x, axis)
    )
    share = max(1e-12, 8 * eps)  # as of rstd above
    for ours, true in zip(got[1:], (dgamma, dbeta), strict=True):
        assert (np.abs(ours - true) <= share * (np.abs(true) + 4 * math.sqrt(count))).all(), what
    assert (np.abs(got[0] - dx) <= share * np.abs(dx).max(axis=others, keepdims=True)).all(), what


@each_dtype
@each_layout
def test_a_mean_of_ten_thousand_with_a_spread_of_one(layout: str, dtype: Any, isa: str) -> None:
    shape, axis = LAYOUTS[layout]
    x = (1e4 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    assert_accurate(x, axis, isa)
    assert_accurate_backward(x, axis, isa)


@pytest.mark.parametrize("kept", ["y", "beta"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "hard_swish"])
@each_layout
def test_activations_of_a_mean_of_ten_thousand(
    layout: str, activation: str, kept: str, isa: str
) -> None:
    """Where z is made again it is that of forward; z of the rounded mean is up to 5e-4 beside it."""
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    x = (1e4 + 1 / 3 + rng.standard_normal(shape)).astype(np.float32)
    dy = rng.standard_normal(shape, dtype=np.float32) + np.float32(0.7)
    gamma, beta = (rng.uniform(0.5, 1.5, shape[axis]).astype(np.float32) for _ in range(2))
    options: dict[str, Any] = {"activation": activation, "axis": axis}
    y, *saved = functional.batchnorm_forward(x, gamma, beta, **options)
    keeps = {"y": y} if kept == "y" and activation in ("relu", "tanh") else {"beta": beta}
    got = functional.batchnorm_backward(dy, x, gamma, *saved, **keeps, **options)
    wide = [v.astype(np.float64) for v in (dy, x, gamma, beta)]
    _, *exactly = reference.batchnorm_forward(*wide[1:], **options)
    true = reference.batchnorm_backward(*wide[:3], *exactly, beta=wide[3], **options)
    twin = reference.batchnorm_backward(dy, x, gamma, *saved, **keeps, **options)
    kink = activation in ("relu", "hard_swish")  # a z beside it may fall to its other side
    for ours, theirs, want in zip(got, twin, true, strict=True):
        size = float(np.abs(want).max())
        for result in (ours, theirs):
            off = np.abs(result - want)
            assert (off > 1e-5 * size).mean() <= (1e-4 if kink and want.ndim > 1 else 0), isa
            assert off.mean() <= (1e-4 if kink else 3e-6) * size, isa


@each_dtype
@each_layout
def test_rows_in_order(layout: str, dtype: Any, isa: str) -> None:
    """Chunks whose means lie far apart: what an origin of another chunk cancels is small beside that."""
    shape, axis = LAYOUTS[layout]
    count = math.prod(shape) // shape[axis]
    first = np.moveaxis(np.empty(shape), axis, -1).shape
    x = np.repeat(np.linspace(-1e3, 1e3, count)[:, None], shape[axis], axis=1).reshape(first)
    x = np.ascontiguousarray(np.moveaxis(x, -1, axis)).astype(dtype)
    assert_accurate(x, axis, isa)


@each_dtype
@each_layout
def test_a_few_outliers_at_the_start(layout: str, dtype: Any, isa: str) -> None:
    """The first origin is of no use then."""
    shape, axis = LAYOUTS[layout]
    x = np.random.default_rng(0).standard_normal(shape)
    channels_last = np.moveaxis(x, axis, -1).reshape(-1, shape[axis]).copy()
    channels_last[:3] = 1e4
    x = np.moveaxis(channels_last.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
    mean, var = exact(x := np.ascontiguousarray(x).astype(dtype), axis)
    one, zero = np.ones(len(mean), dtype), np.zeros(len(mean), dtype)
    _, got, rstd = functional.batchnorm_forward(x, one, zero, axis=axis)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(rstd, 1 / np.sqrt(var + 1e-5), rtol=64 * eps, err_msg=isa)
    spread = float(np.sqrt(var).max())
    np.testing.assert_allclose(got, mean.astype(float), rtol=0, atol=16 * eps * spread, err_msg=isa)


@each_dtype
@each_layout
def test_constant_channels(layout: str, dtype: Any, isa: str) -> None:
    shape, axis = LAYOUTS[layout]
    values = np.resize(np.array([0.1, -3.3, 1e4, 0.0, 1 / 3], dtype), shape[axis])
    x = np.ascontiguousarray(np.broadcast_to(spread_over(values, np.empty(shape), axis), shape))
    beta = np.arange(shape[axis]).astype(dtype)
    running_mean, running_var = np.zeros_like(beta), np.ones_like(beta)
    y, mean, _ = functional.batchnorm_forward(
        x, np.full_like(beta, 2), beta, running_mean, running_var, momentum=1.0, axis=axis
    )
    np.testing.assert_array_equal(mean, values, err_msg=isa)
    np.testing.assert_array_equal(running_var, 0, err_msg=isa)
    np.testing.assert_array_equal(y, np.broadcast_to(spread_over(beta, x, axis), shape))
    assert_accurate_backward(x, axis, isa)


@each_dtype
@pytest.mark.parametrize(("shape", "axis"), [((1_000_000, 3), 1), ((1000, 3, 1000), 1)])
def test_a_million_values(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x = (1e4 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    assert_accurate(x, axis, fastnn.isa())
    assert_accurate_backward(x, axis, fastnn.isa())


@each_layout
def test_the_identity(layout: str, isa: str) -> None:
    """gamma = sqrt(Var + eps) and beta = E[x] give back x (Ioffe and Szegedy, section 3)."""
    shape, axis = LAYOUTS[layout]
    x = 5 + 3 * np.random.default_rng(0).standard_normal(shape)
    mean, var = (v.astype(np.float64) for v in exact(x, axis))
    y, _, _ = functional.batchnorm_forward(x, np.sqrt(var + 1e-5), mean, axis=axis)
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-12, err_msg=isa)


# --- PyTorch -----------------------------------------------------------------------------------


@each_layout
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
def test_it_is_torchs(layout: str, training: bool, activation: str | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no third party")
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    x, dy = 3 + 2 * rng.standard_normal((2, *shape))
    gamma, beta, mean, var = 0.5 + rng.random((4, shape[axis]))
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
    their_mean, their_var = torch.tensor(mean), torch.tensor(var)
    their_y = torch.nn.functional.batch_norm(
        leaves[0].movedim(axis, 1), their_mean, their_var, *leaves[1:], training, 0.3, 1e-3
    ).movedim(1, axis)
    if activation is not None:
        their_y = getattr(torch, activation)(their_y)
    their_y.backward(torch.tensor(dy))
    options = {"training": training, "axis": axis, "activation": activation}
    y, used, rstd = functional.batchnorm_forward(
        x, gamma, beta, mean, var, momentum=0.3, eps=1e-3, **options
    )
    pairs = [(y, their_y), (mean, their_mean), (var, their_var)]
    for kept in ({"y": y}, {"beta": beta}):
        back = functional.batchnorm_backward(dy, x, gamma, used, rstd, **kept, **options)
        pairs += zip(back, (leaf.grad for leaf in leaves), strict=True)
    for ours, theirs in pairs:
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))


# --- the ends of the range -----------------------------------------------------------------------


@each_layout
@pytest.mark.parametrize("size", [5e18, 1e30, 3e37])
def test_squares_that_float32_does_not_hold(size: float, layout: str, isa: str) -> None:
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    x = (size * rng.standard_normal(shape)).astype(np.float32)
    large = spread_over(np.arange(shape[axis]) % 2 == 0, x, axis)
    x = np.where(large, x, rng.standard_normal(shape, dtype=np.float32))  # the others are as ever
    gamma, beta = (rng.uniform(0.5, 1.5, shape[axis]).astype(np.float32) for _ in range(2))
    y, mean, rstd = functional.batchnorm_forward(x, gamma, beta, axis=axis)
    true_y, true_mean, true_rstd = reference.batchnorm_forward(x, gamma, beta, axis=axis)
    np.testing.assert_allclose(y, true_y, rtol=1e-5, atol=1e-5, err_msg=isa)
    np.testing.assert_allclose((mean - true_mean) * true_rstd, 0, atol=1e-6, err_msg=isa)
    np.testing.assert_allclose(rstd, true_rstd, rtol=1e-5, err_msg=isa)


@each_layout
def test_squares_that_float64_does_not_hold(layout: str, isa: str) -> None:
    """The variance is infinite then, and y is beta."""
    shape, axis = LAYOUTS[layout]
    x = 1e160 * np.random.default_rng(0).standard_normal(shape)
    one = np.ones(shape[axis])
    with np.errstate(over="ignore"):
        true = reference.batchnorm_forward(x, one, one, axis=axis)
    got = functional.batchnorm_forward(x, one, one, axis=axis)
    np.testing.assert_array_equal(got[0], 1, err_msg=isa)
    for ours, theirs in ((got[0], true[0]), (got[2], true[2])):
        np.testing.assert_array_equal(ours, theirs, err_msg=isa)


# --- infinities ----------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("layout", ["matrix", "channels first", "runs of three", "channels last"])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "hard_swish"])
def test_frozen_statistics_take_nothing_from_an_infinite_input(
    activation: str | None, layout: str, dtype: Any, isa: str
) -> None:
    """dx = gamma rstd dz: x stands in dgamma alone, and in what an activation is differentiated from."""
    _, axis = LAYOUTS[layout]
    shape = tuple(min(size, 21) for size in LAYOUTS[layout][0])
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    x.flat[:: x.size // 7], dy.flat[5], dy.flat[-1] = np.inf, np.inf, -np.inf
    gamma, beta, mean, rstd = (0.5 + rng.random((4, shape[axis]))).astype(dtype)
    kept: dict[str, Any] = {"beta": beta}
    if activation in ("relu", "sigmoid"):
        z = (x - spread_over(mean, x, axis)) * spread_over(gamma * rstd, x, axis)
        kept["y"] = getattr(functional, activation)(z + spread_over(beta, x, axis))
    options: Any = {"training": False, "activation": activation, "axis": axis, **kept}
    with np.errstate(invalid="ignore"):  # inf - inf in the sums
        expected = reference.batchnorm_backward(dy, x, gamma, mean, rstd, **options)
    assert np.isfinite(expected[0]).sum() >= x.size - 9  # the test has something to see
    for got, true in zip(
        functional.batchnorm_backward(dy, x, gamma, mean, rstd, **options), expected, strict=True
    ):
        np.testing.assert_allclose(got, true, rtol=2e-4, atol=1e-4, err_msg=isa)


# --- results beyond the caches -------------------------------------------------------------------

#: More than 6 MiB of float32, in rows and runs that fill the stage, do not, and do not fit into it.
LARGE = {
    "narrow": ((300_001, 7), 1),
    "wide": ((130, 17_001), 1),
    "images": ((9, 33, 75, 77), 1),
    "small images": ((400, 101, 7, 7), 1),
    "long runs": ((2, 3, 300_007), 1),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("layout", LARGE)
def test_results_beyond_the_caches(
    layout: str, training: bool, isa: str, thread_count: None
) -> None:
    """The right values on every alignment, the same bits for any number of threads and in place, and
    nothing written beside them."""
    shape, axis = LARGE[layout]
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    gamma, beta, mean, var = (0.5 + rng.random((4, shape[axis]))).astype(np.float32)
    options: dict[str, Any] = {"training": training, "axis": axis, "activation": "relu"}
    running = {} if training else {"running_mean": mean, "running_var": var}
    true_y, *_ = reference.batchnorm_forward(x, gamma, beta, **running, **options)
    results = []
    for threads, offset in ((1, 0), (2, 3), (3, 16)):
        machine.set_num_threads(threads)
        block = np.full(x.size + 64, 7.5, np.float32)
        out = block[offset : offset + x.size].reshape(shape)
        y, used, rstd = functional.batchnorm_forward(
            x, gamma, beta, **running, **options, y_out=out
        )
        results.append([y.copy(), used, rstd])
        kept = y.copy()
        given = {"y": kept, "dx_out": out}
        results[-1] += functional.batchnorm_backward(dy, x, gamma, used, rstd, **given, **options)
        results[-1][3] = results[-1][3].copy()
        assert (block[:offset] == 7.5).all() and (block[offset + x.size :] == 7.5).all()
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert got.tobytes() == expected.tobytes(), isa
    y, used, rstd, dx, dgamma, dbeta = results[0]
    np.testing.assert_allclose(y, true_y, rtol=1e-5, atol=1e-5, err_msg=isa)
    true = reference.batchnorm_backward(dy, x, gamma, used, rstd, y=y, **options)
    np.testing.assert_allclose(dx, true[0], rtol=1e-5, atol=2e-5, err_msg=isa)
    for got, expected in ((dgamma, true[1]), (dbeta, true[2])):
        size = 1e-6 * math.sqrt(x.size // shape[axis]) * 8
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=size, err_msg=isa)
    in_place = x.copy()
    functional.batchnorm_forward(in_place, gamma, beta, **running, **options, y_out=in_place)
    assert in_place.tobytes() == y.tobytes()
    in_place = dy.copy()
    given = {"y": y, "dx_out": in_place}
    functional.batchnorm_backward(in_place, x, gamma, used, rstd, **given, **options)
    assert in_place.tobytes() == dx.tobytes()


#: More columns than a piece of batchnorm_long.h, more rows than it is high, longer runs, many short runs.
PIECES = {
    "wide rows": ((41, 2500), 1),  # this and the long runs are work enough for two threads
    "narrow rows": ((600, 3), 1),
    "long runs": ((8, 3, 60, 75), 1),
    "short runs": ((3, 700, 3), 1),
}


@each_dtype
@pytest.mark.parametrize("activation", ["tanh", "selu", "softplus", "gelu", "hard_swish", "relu6"])
@pytest.mark.parametrize("layout", PIECES)
def test_activations_in_pieces(
    layout: str, activation: str, dtype: Any, isa: str, thread_count: None
) -> None:
    shape, axis = PIECES[layout]
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.uniform(0.5, 1.5, shape[axis]).astype(dtype) for _ in range(2))
    results = []
    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        out = functional.batchnorm_forward(x, gamma, beta, activation=activation, axis=axis)
        y, mean, rstd = out
        gradients = functional.batchnorm_backward(
            dy, x, gamma, mean, rstd, beta=beta, y=y, activation=activation, axis=axis
        )
        results.append((*out, *gradients))
    # dx may take the place of dy
    into = dy.copy()
    functional.batchnorm_backward(
        into, x, gamma, mean, rstd, beta=beta, y=y, activation=activation, axis=axis, dx_out=into
    )
    np.testing.assert_array_equal(into, gradients[0])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=isa)
    wide = [array.astype(np.float64) for array in (x, gamma, beta, dy)]
    want = reference.batchnorm_forward(*wide[:3], activation=activation, axis=axis)
    want += reference.batchnorm_backward(
        wide[3],
        wide[0],
        wide[1],
        *want[1:],
        beta=wide[2],
        y=want[0],
        activation=activation,
        axis=axis,
    )
    for got, expected in zip(results[0], want, strict=True):
        size = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=200 * np.finfo(dtype).eps * size)
