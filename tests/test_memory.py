"""Memory of models and steps: zeros on cache lines, on huge pages where the system has them."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from fastnn import memory

SIZES = [
    0,
    1,
    1000,
    1 << 18,
    (1 << 18) + 1,
    700_001,
    3_000_000,
]  # 262,144 floats are half of a huge page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("advice", ["as the system has it", "none"])
def test_zeros_on_cache_lines(size, advice, monkeypatch):
    if advice == "none":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    x = memory.aligned_zeros(size, np.dtype("float32"))
    assert x.shape == (size,) and x.dtype == np.float32 and x.flags.writeable
    assert x.ctypes.data % memory.ALIGNMENT == 0 and not x.any()
    x[:] = 1  # all of it can be written
    assert x.sum() == size


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no huge pages here")
def test_where_no_more_memory_can_be_mapped_there_are_zeros_all_the_same(monkeypatch):
    def refuse(*_):
        raise OSError("no memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert not memory.aligned_zeros(1 << 19, np.dtype("float64")).any()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no huge pages here")
def test_large_zeros_begin_with_a_huge_page():
    x = memory.aligned_zeros(1 << 19, np.dtype("float64"))
    assert x.ctypes.data % memory.HUGE_PAGE == 0


def test_matrices_of_one_piece_lie_apart_from_each_other():
    dtype = np.dtype("float64")
    matrices = memory.aligned_matrices(50, [3, 8, 64, 1000], dtype)
    for i, x in enumerate(matrices):
        assert x.ctypes.data % memory.ALIGNMENT == 0
        assert x.strides[0] // memory.ALIGNMENT % 2 == 1
        x[:] = i + 1
    assert [x.shape for x in matrices] == [(50, 3), (50, 8), (50, 64), (50, 1000)]
    for i, x in enumerate(matrices):
        assert (x == i + 1).all()
