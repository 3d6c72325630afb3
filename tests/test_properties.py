"""Properties that hold for any shape and any numbers: hypothesis looks for a counterexample.

With the environment variable CI set the examples are the same every time. There is no deadline: machines
are shared.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from cases import ACTIVATIONS, Activation, assert_close, copies
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_functional import find

from fastnn import functional as F
from fastnn import reference

settings.register_profile(
    "fastnn",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fastnn")

DTYPES = st.sampled_from([np.float32, np.float64])
SPECIAL = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 88.7, -103.9, 700.0, -700.0, 1e-42, 1e30, -1e30)
WILD = (*SPECIAL, float("nan"), float("inf"), float("-inf"))


@st.composite
def arrays(
    draw: Any,
    shape: tuple[int, ...],
    dtype: Any,
    special: tuple[float, ...] = (),
    scale: float = 3.0,
) -> np.ndarray:
    """Normal numbers from a drawn seed, with a few special ones in drawn places."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = np.asarray(rng.standard_normal(shape) * scale)
    if x.size and special:
        for value in draw(st.lists(st.sampled_from(special), max_size=5)):
            x.reshape(-1)[draw(st.integers(0, x.size - 1))] = value
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def shapes(low: int = 0, axes: int = 3) -> Any:
    return st.lists(st.integers(low, 40), min_size=1, max_size=axes).map(tuple)


def matrices(low: int = 1, high: int = 60) -> Any:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def close(a: Any, b: Any, dtype: Any, size: float = 64.0) -> None:
    eps = size * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(a, b, rtol=eps, atol=eps)


each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)


# --- activations -------------------------------------------------------------------------------


@each_activation
@given(data=st.data())
def test_an_activation_is_its_twin_whatever_the_shape(activation: Activation, data: Any) -> None:
    dtype, shape = data.draw(DTYPES), data.draw(shapes())
    parameters = data.draw(st.sampled_from(activation.parameters))
    x = data.draw(arrays(shape, dtype, WILD))
    case = find(activation.name)
    truth = getattr(reference, activation.name)(x.astype(np.float64), **parameters)
    with np.errstate(all="ignore"):
        assert_close(case, [getattr(F, activation.name)(x, **parameters)], [truth], {"x": x}, dtype)


@each_activation
@given(data=st.data())
def test_given_memory_and_in_place_give_the_bits_of_a_new_array(
    activation: Activation, data: Any
) -> None:
    dtype, shape = data.draw(DTYPES), data.draw(shapes())
    parameters = data.draw(st.sampled_from(activation.parameters))
    x, dy = (data.draw(arrays(shape, dtype, WILD)) for _ in range(2))
    forward = getattr(F, activation.name)
    backward = getattr(F, f"{activation.name}_backward")
    y, place = forward(x, **parameters), x.copy()
    assert forward(place, **parameters, out=place) is place
    assert (
        place.tobytes() == y.tobytes() == forward(x, **parameters, out=np.empty_like(x)).tobytes()
    )
    saved = x if activation.saved == "x" else y
    dx = backward(dy, saved, **parameters)
    for over in (dy, saved):
        pair = {"dy": dy.copy(), "saved": saved.copy()}
        target = pair["dy" if over is dy else "saved"]
        backward(pair["dy"], pair["saved"], **parameters, dx_out=target)
        assert target.tobytes() == dx.tobytes()


@each_activation
@given(data=st.data())
def test_a_backward_is_linear_in_the_upstream_gradient(activation: Activation, data: Any) -> None:
    dtype, shape = data.draw(DTYPES), data.draw(shapes(low=1))
    x, one, other = (data.draw(arrays(shape, dtype, SPECIAL)) for _ in range(3))
    assume(np.abs(one).max() < 1e3 and np.abs(other).max() < 1e3)
    backward = getattr(F, f"{activation.name}_backward")
    saved = x if activation.saved == "x" else getattr(F, activation.name)(x)
    sum_of_both = backward(one + other, saved)
    both = backward(one, saved).astype(np.float64) + backward(other, saved)
    size = float(np.abs(one).max() + np.abs(other).max())
    np.testing.assert_allclose(sum_of_both, both, atol=16 * size * float(np.finfo(dtype).eps))
    info = np.finfo(dtype)  # a subnormal product has fewer digits
    twice = 2 * backward(one, saved)
    np.testing.assert_allclose(
        backward(2 * one, saved), twice, 2 * float(info.eps), float(info.smallest_normal)
    )
    np.testing.assert_array_equal(backward(0 * one, saved), 0)


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus"]
)
@given(data=st.data())
def test_increasing_functions_increase(name: str, data: Any) -> None:
    """To within an ulp: larger inputs never give an output that is smaller by more."""
    dtype = data.draw(DTYPES)
    x = np.sort(data.draw(arrays((500,), dtype, SPECIAL, scale=10.0)))
    y = getattr(F, name)(x)
    with np.errstate(over="ignore"):
        slack = 2 * np.spacing(np.abs(y[:-1]))
    assert (y[1:] >= y[:-1] - slack).all()


# --- softmax -----------------------------------------------------------------------------------


@given(data=st.data(), shape=matrices())
def test_softmax_adds_up_to_one_and_knows_no_shift(data: Any, shape: tuple[int, int]) -> None:
    dtype = data.draw(DTYPES)
    x = np.rint(8 * data.draw(arrays(shape, dtype))) / 8  # so that the shift is exact
    y = F.softmax(x)
    assert (y >= 0).all()
    close(y.sum(axis=1, dtype=np.float64), 1, dtype)
    shift = dtype(data.draw(st.integers(-64, 64)))
    np.testing.assert_array_equal(F.softmax(x + shift), y)
    close(np.exp(F.log_softmax(x).astype(np.float64)), y, dtype)
    order = np.random.default_rng(0).permutation(shape[1])
    close(F.softmax(np.ascontiguousarray(x[:, order])), y[:, order], dtype)


@given(data=st.data(), shape=matrices())
def test_gradients_of_softmax_add_up_to_zero(data: Any, shape: tuple[int, int]) -> None:
    dtype = data.draw(DTYPES)
    x, dy = (data.draw(arrays(shape, dtype)) for _ in range(2))
    size = float(np.abs(dy).max()) * shape[1]
    for name in ("softmax", "log_softmax"):
        y = getattr(F, name)(x)
        dx = getattr(F, f"{name}_backward")(dy, y)
        total = dx.sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(total, 0, atol=32 * size * float(np.finfo(dtype).eps))


# --- losses ------------------------------------------------------------------------------------


@given(data=st.data(), shape=matrices(), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_is_not_negative_and_its_gradient_balances(
    data: Any, shape: tuple[int, int], smoothing: float
) -> None:
    dtype = data.draw(DTYPES)
    logits = data.draw(arrays(shape, dtype, scale=20.0))
    labels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, shape[1], shape[0])
    loss, dlogits = F.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss >= 0 and np.isfinite(loss)
    close(dlogits.sum(axis=1, dtype=np.float64), 0, dtype)
    one_hot = np.eye(shape[1], dtype=dtype)[labels]
    again, same = F.softmax_cross_entropy(logits, one_hot, label_smoothing=smoothing)
    close(again, loss, dtype, 256)
    close(same, dlogits, dtype)
    equal = np.ones(shape[0], dtype)
    weighted, _ = F.softmax_cross_entropy(
        logits, labels, label_smoothing=smoothing, sample_weight=3 * equal
    )
    close(weighted, loss, dtype, 256)


@given(data=st.data(), shape=matrices())
def test_squared_error_is_symmetric_and_zero_where_it_is_right(
    data: Any, shape: tuple[int, int]
) -> None:
    dtype = data.draw(DTYPES)
    pred, target = (data.draw(arrays(shape, dtype)) for _ in range(2))
    loss, dpred = F.mean_squared_error(pred, target)
    back, dback = F.mean_squared_error(target, pred)
    assert loss == back >= 0
    np.testing.assert_array_equal(dpred, -dback)
    zero, dzero = F.mean_squared_error(pred, pred.copy())
    assert zero == 0 and not dzero.any()


# --- batch norm --------------------------------------------------------------------------------


@given(data=st.data(), rows=st.integers(2, 80), columns=st.integers(1, 40))
def test_batch_norm_has_mean_beta_and_forgets_scale_and_shift(
    data: Any, rows: int, columns: int
) -> None:
    dtype = data.draw(DTYPES)
    x = data.draw(arrays((rows, columns), dtype)) + data.draw(arrays((columns,), dtype))
    gamma, beta = data.draw(arrays((columns,), dtype)), data.draw(arrays((columns,), dtype))
    y, mean, rstd = F.batchnorm_forward(x, gamma, beta)
    scale = float(np.abs(gamma).max() + np.abs(beta).max() + 1)
    close(y.mean(axis=0, dtype=np.float64) / scale, beta / scale, dtype, 256)
    moved, _, _ = F.batchnorm_forward(4 * x, gamma, beta, eps=16e-5)  # exact in binary
    close(moved / scale, y / scale, dtype)
    dy = data.draw(arrays((rows, columns), dtype))
    dx, dgamma, dbeta = F.batchnorm_backward(dy, x, gamma, mean, rstd)
    size = rows * float(np.abs(gamma * rstd).max()) * float(np.abs(dy).max() + 1)
    assert np.abs(dx.sum(axis=0, dtype=np.float64)).max() <= 256 * size * np.finfo(dtype).eps
    close(dbeta / rows, dy.sum(axis=0, dtype=np.float64) / rows, dtype, 256)
    assert dgamma.shape == (columns,)


@given(data=st.data(), shape=st.tuples(*(st.integers(1, 6),) * 4), axis=st.integers(-4, 3))
def test_batch_norm_of_images_is_that_of_their_pixels(
    data: Any, shape: tuple[int, ...], axis: int
) -> None:
    channels = shape[axis]
    assume(np.prod(shape) // channels >= 2)
    dtype = data.draw(DTYPES)
    x = data.draw(arrays(shape, dtype))
    gamma, beta = data.draw(arrays((channels,), dtype)), data.draw(arrays((channels,), dtype))
    y, mean, _ = F.batchnorm_forward(x, gamma, beta, axis=axis)
    flat = np.ascontiguousarray(np.moveaxis(x, axis, -1)).reshape(-1, channels)
    expected, flat_mean, _ = F.batchnorm_forward(flat, gamma, beta)
    close(mean, flat_mean, dtype)
    scale = float(np.abs(gamma).max() + 1)
    moved = np.moveaxis(y, axis, -1).reshape(-1, channels)
    # a variance near 0 magnifies what rounding the mean leaves
    close(moved / scale, expected / scale, dtype, 4096)


# --- dense -------------------------------------------------------------------------------------


@given(data=st.data(), sizes=st.tuples(*(st.integers(0, 50),) * 3))
def test_dense_is_a_product_of_matrices(data: Any, sizes: tuple[int, int, int]) -> None:
    n, d, h = sizes
    dtype = data.draw(DTYPES)
    x, w, b = (data.draw(arrays(s, dtype, scale=1.0)) for s in ((n, d), (d, h), (h,)))
    y = F.dense_forward(x, w, b)
    exact = x.astype(np.float64) @ w.astype(np.float64) + b
    bound = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64) + np.abs(b)
    assert (np.abs(y - exact) <= (d + 2) * bound * np.finfo(dtype).eps).all()
    np.testing.assert_array_equal(F.dense_forward(x, w, b, activation="relu"), F.relu(y))
    dy = data.draw(arrays((n, h), dtype, scale=1.0))
    given_arrays = copies({"dy": dy, "x": x, "w": w})
    fresh = F.dense_backward(dy, x, w)
    outs = tuple(np.empty_like(r) for r in fresh if r is not None)
    F.dense_backward(dy, x, w, dx_out=outs[0], dw_out=outs[1], db_out=outs[2])
    for result, out in zip(fresh, outs, strict=True):
        np.testing.assert_array_equal(result, out)
    for name, array in (("dy", dy), ("x", x), ("w", w)):
        np.testing.assert_array_equal(array, given_arrays[name])


# --- updates -----------------------------------------------------------------------------------


@given(data=st.data(), n=st.integers(0, 300), cut=st.integers(0, 300))
def test_an_update_of_parts_is_the_update_of_the_whole(data: Any, n: int, cut: int) -> None:
    dtype = data.draw(DTYPES)
    w, dw, v = (data.draw(arrays((n,), dtype, SPECIAL)) for _ in range(3))
    how = {"lr": 0.1, "momentum": 0.9, "nesterov": data.draw(st.booleans()), "weight_decay": 0.01}
    whole, parts = (w.copy(), v.copy()), (w.copy(), v.copy())
    F.sgd_update(whole[0], dw, whole[1], **how)
    for part in (slice(0, cut), slice(cut, None)):
        F.sgd_update(parts[0][part], dw[part], parts[1][part], **how)
    assert parts[0].tobytes() == whole[0].tobytes() and parts[1].tobytes() == whole[1].tobytes()
