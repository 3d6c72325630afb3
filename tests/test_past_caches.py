"""Results that are written past the caches: the same bits, wherever memory begins and ends."""

from __future__ import annotations

import numpy as np
import pytest
from cases import ACTIVATIONS

from fastnn import functional as F
from fastnn._kernels import machine

SIZE = 140_003  # so much that threads share it, and no whole vectors


@pytest.fixture
def past_from():
    """Sets from how many bytes on results go past the caches; what it was comes back."""
    before = machine.set_past_bytes(0)
    yield machine.set_past_bytes
    machine.set_past_bytes(before)


def at(offset, size, dtype):
    """Memory that begins so many elements after a cache line, with a red zone around."""
    line = 64 // np.dtype(dtype).itemsize
    raw = np.full(size + 4 * line, 7, dtype)
    start = -raw.ctypes.data % 64 // raw.itemsize + line + offset
    return raw, raw[start : start + size]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_are_those_that_the_caches_would_hold(
    activation, dtype, isa, thread_count, past_from
):
    machine.set_num_threads(3)
    rng = np.random.default_rng(0)
    x, dy = (3 * rng.standard_normal((2, SIZE))).astype(dtype)
    forward = getattr(F, activation.name)
    backward = getattr(F, f"{activation.name}_backward")
    past_from(2**62)
    y = forward(x)
    saved = x if activation.saved == "x" else y
    dx = backward(dy, saved)
    past_from(0)
    for offset in (0, 1, 5):
        for expected, call in (
            (y, lambda out: forward(x, out=out)),
            (dx, lambda out: backward(dy, saved, dx_out=out)),
        ):
            raw, out = at(offset, SIZE, dtype)
            call(out)
            assert out.tobytes() == expected.tobytes()
            assert np.count_nonzero(raw == 7) - np.count_nonzero(out == 7) == raw.size - SIZE
    place = x.copy()  # in place the caches hold what is written to
    assert forward(place, out=place).tobytes() == y.tobytes()


@pytest.mark.parametrize("cols", [1, 16, 50, 130])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_too_wherever_its_rows_begin(cols, dtype, isa, thread_count, past_from):
    machine.set_num_threads(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4003, cols)).astype(dtype)
    gamma, beta = rng.standard_normal((2, cols)).astype(dtype)
    past_from(2**62)
    expected = F.batchnorm_forward(x, gamma, beta, activation="relu")[0]
    past_from(0)
    for offset in (0, 1, 5):
        raw, out = at(offset, x.size, dtype)
        y = F.batchnorm_forward(x, gamma, beta, activation="relu", y_out=out.reshape(x.shape))[0]
        assert y.tobytes() == expected.tobytes()
        assert np.count_nonzero(raw == 7) - np.count_nonzero(out == 7) == raw.size - x.size
    place = x.copy()
    y = F.batchnorm_forward(place, gamma, beta, activation="relu", y_out=place)[0]
    assert y.tobytes() == expected.tobytes()
