"""More than 2^31 elements, on every family of operations, without the memory for them.

One stretch of memory lies many times behind the addresses of a long array, and its last stretch is memory of
its own: an index that wraps, or a loop that ends early, gives a wrong sum or leaves the end as it was.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn import functional, reference
from fastnn.reference.dropout import philox4x32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
    pytest.mark.skipif(sys.maxsize < 2**32, reason="needs 64-bit addresses"),
]

N = (1 << 31) + 64
END = 64  # elements at the end that are looked at
PERIOD = (
    5000 * mmap.PAGESIZE
)  # does not divide 2^31 elements, so that a wrapped index meets other values
SHARED, FIXED, NO_RESERVE = 0x01, 0x10, 0x4000


def long_array(n: int = N, dtype: Any = np.float32) -> np.ndarray:
    """n zeros, most of them the same ones; the addresses are given back with the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    itemsize = np.dtype(dtype).itemsize
    pieces = -(-n * itemsize // PERIOD)
    failed = 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    base = libc.mmap(None, pieces * PERIOD, 0, private, -1, 0)
    if base in (None, failed):
        pytest.skip("no addresses for a long array here")
    both = os.memfd_create("long"), os.memfd_create("end")
    for file in both:
        os.ftruncate(file, PERIOD)
    for piece in range(pieces):
        at, file = base + piece * PERIOD, both[piece == pieces - 1]
        rights = mmap.PROT_READ | mmap.PROT_WRITE
        assert libc.mmap(at, PERIOD, rights, SHARED | FIXED, file, 0) == at
    for file in both:
        os.close(file)
    memory = (ctypes.c_char * (n * itemsize)).from_address(base)
    return np.frombuffer(memory, dtype)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    """Three of them, 24 GB of addresses for all tests."""
    return [long_array() for _ in range(3)]


@pytest.fixture
def zeros(arrays: list[np.ndarray]) -> list[np.ndarray]:
    for array in arrays:
        array[: PERIOD // 4] = 0
        array[-PERIOD // 4 :] = 0
    return arrays


ODD = np.linspace(-3, 3, END).astype("float32")


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "leaky_relu"])
def test_elementwise(zeros: list[np.ndarray], name: str) -> None:
    x, y, dy = zeros
    x[-END:], dy[-END:] = ODD, ODD[::-1]
    getattr(functional, name)(x, out=y)
    np.testing.assert_allclose(y[-END:], getattr(reference, name)(ODD), rtol=1e-5, atol=1e-7)
    backward = getattr(functional, f"{name}_backward")
    saved = y if name == "tanh" else x
    backward(dy, saved, dx_out=y)
    expected = backward(dy[-END:].copy(), ODD if saved is x else np.tanh(ODD))
    np.testing.assert_allclose(y[-END:], expected, rtol=1e-5, atol=1e-6)


def test_updates_and_norms(zeros: list[np.ndarray]) -> None:
    w, dw, v = zeros
    dw[-END:] = ODD
    functional.sgd_update(w, dw, v, lr=0.5, momentum=0.9)
    np.testing.assert_allclose(w[-END:], -0.5 * ODD, rtol=1e-6)
    dw[: PERIOD // 4], dw[-PERIOD // 4 :] = 1, 1
    assert functional.clip_by_global_norm(dw, 1e9) == pytest.approx(np.sqrt(N), rel=1e-7)
    functional.max_norm(dw.reshape(-1, 8), 1.0)
    np.testing.assert_allclose(dw[-END:], np.sqrt(8 / N), rtol=1e-5)


def test_dropout(zeros: list[np.ndarray]) -> None:
    x, y, _ = zeros
    x[-END:] = 1
    functional.dropout(x, 0.5, seed=1, out=y)
    group, element = np.divmod(np.arange(N - END, N), 4096)
    counters = np.zeros((END, 4), "uint32")
    counters[:, 0] = 2048 * group + element // 128
    words = philox4x32(counters, key=(1, 0))[np.arange(END), element // 32 % 4]
    kept = words >> (element % 32).astype("uint32") & 1  # the highest bit, which decides at 0.5
    np.testing.assert_array_equal(y[-END:], 2 * kept)


@pytest.mark.parametrize("shape", [(-1, 8), (2, 2, -1)], ids=["rows", "images"])
def test_batchnorm(zeros: list[np.ndarray], shape: tuple[int, ...]) -> None:
    x, y, dy = zeros
    channels = shape[1]
    x[-END:], dy[-END:] = 1000 * ODD, 1
    gamma, beta = np.full(channels, 2, "float32"), np.ones(channels, "float32")
    z = x.reshape(shape)
    _, mean, rstd = functional.batchnorm_forward(z, gamma, beta, y_out=y.reshape(shape))
    per_channel = N // channels
    last = 1000 * ODD.astype(float)
    sums = last.reshape(-1, 8).sum(0) if channels == 8 else np.array([0, last.sum()])
    squares = (last**2).reshape(-1, 8).sum(0) if channels == 8 else np.array([0, (last**2).sum()])
    var = squares / per_channel - (sums / per_channel) ** 2
    np.testing.assert_allclose(mean, sums / per_channel, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(var + 1e-5), rtol=1e-5)
    of_last = np.resize(rstd, END) if channels == 8 else rstd[-1]
    np.testing.assert_allclose(y[-END:], 2 * last * of_last + 1, rtol=1e-3, atol=1e-2)
    _, dgamma, dbeta = functional.batchnorm_backward(
        dy.reshape(shape), z, gamma, mean, rstd, dx_out=y.reshape(shape)
    )
    counts = np.full(8, END / 8) if channels == 8 else np.array([0, END])
    np.testing.assert_allclose(dbeta, counts)
    np.testing.assert_allclose(dgamma, (sums - counts * mean) * rstd, rtol=1e-3, atol=1e-2)


def test_softmax_of_short_rows_and_of_one_long_one(zeros: list[np.ndarray]) -> None:
    x, y, _ = zeros
    x[-END:] = ODD
    functional.softmax(x.reshape(-1, 8), out=y.reshape(-1, 8))
    expected = reference.softmax(ODD.reshape(-1, 8))
    np.testing.assert_allclose(y[-END:].reshape(-1, 8), expected, rtol=1e-5)
    functional.softmax(x[None], out=y[None])
    total = N - END + np.exp(ODD.astype(float)).sum()
    np.testing.assert_allclose(y[-END:], np.exp(ODD) / total, rtol=1e-5)
    functional.softmax(x.reshape(2, -1), axis=0, out=y.reshape(2, -1))
    np.testing.assert_allclose(y[-END:], 1 / (1 + np.exp(-ODD)), rtol=1e-5)


LOSSES: list[tuple[str, Callable[[np.ndarray], Any], float]] = [
    ("softmax_cross_entropy", lambda x: (x[None], np.array([N - 1])), np.log(N)),
    ("multiclass_hinge", lambda x: (x[None], np.array([N - 1])), N - 1.0),
    (
        "softmax_cross_entropy",
        lambda x: (x.reshape(-1, 8), long_array(N // 8, np.int64)),
        np.log(8),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), LOSSES, ids=["ce", "hinge", "ce of 8"])
def test_losses(zeros: list[np.ndarray], name: str, arguments: Any, expected: float) -> None:
    x, y, _ = zeros
    scores, labels = arguments(x)
    out = {"dscores_out" if name == "multiclass_hinge" else "dlogits_out": y.reshape(scores.shape)}
    loss, gradient = getattr(functional, name)(scores, labels, **out)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradient[-1, -1] != 0


def test_mean_squared_error(zeros: list[np.ndarray]) -> None:
    x, y, target = zeros
    x[-END:] = ODD
    loss, _ = functional.mean_squared_error(x, target, dpred_out=y)
    assert loss == pytest.approx((ODD.astype(float) ** 2).sum() / N, rel=1e-5)
    np.testing.assert_allclose(y[-END:], 2 * ODD / N, rtol=1e-5)


def test_maxout(zeros: list[np.ndarray]) -> None:
    x, dx, _ = zeros
    rows = N // 256
    x[-END:] = ODD
    y, which = functional.maxout(x[-rows * 256 :].reshape(rows, 256), 64)
    np.testing.assert_array_equal(y[-1], [0, 0, 0, 3])
    np.testing.assert_array_equal(which[-1], [0, 0, 0, END - 1])
    dy = np.ones_like(y)
    functional.maxout_backward(dy, which, 64, dx_out=dx[-rows * 256 :].reshape(rows, 256))
    np.testing.assert_array_equal(dx[-END:], [0] * (END - 1) + [1])


def test_dense_layers_with_a_long_input_and_with_long_weights(zeros: list[np.ndarray]) -> None:
    x, y, _ = zeros
    x[-END:] = ODD
    got = functional.dense_forward(x.reshape(-1, 8), np.ones((8, 1), "float32"))
    np.testing.assert_allclose(got[-8:, 0], ODD.reshape(8, 8).sum(1), rtol=1e-4, atol=1e-5)
    wide = x.reshape(4, -1)
    out = y[-wide.shape[1] :][None]
    functional.dense_forward(np.ones((1, 4), "float32"), wide, out=out)
    np.testing.assert_allclose(y[-END:], ODD, rtol=1e-6)
