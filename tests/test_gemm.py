"""The matrix product inside the dense layer: shapes, leading dimensions, special values, threads.

It is reached below `fastnn.functional`, whose arrays are contiguous: the compiled step hands the
kernels matrices with rows apart.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastnn
from fastnn._kernels import dense

NONE = (None, {})
# (N, D, H): around register tiles and vectors, beyond blocks and chunks of k, and degenerate ones.
SIZES = [1, 2, 5, 8, 14, 15, 16, 17, 31, 33, 64, 97]
SMALL = [s for i, s in enumerate(itertools.product(SIZES, repeat=3)) if i % 7 == 0]
# Sides of a few: one vector of columns, some, more than stay in registers; long and short sums.
SKINNY = [
    (n, d, h)
    for few in (1, 2, 3, 4, 7, 8, 10)
    for long, other in ((300, 70), (70, 300), (1100, 9), (9, 1100))
    for n, d, h in ((few, long, other), (long, few, other), (long, other, few))
] + [(few, 600, few + 1) for few in (1, 3, 4, 10)]
# Rows of a few vectors from few steps, in whole groups of rows and not; and few rows of pages of their own.
LOW = [
    s
    for rows, steps, columns in itertools.product(
        (16, 23, 100), (1, 10, 17, 40), (5, 16, 19, 33, 47)
    )
    for s in ((rows, steps, columns), (rows, columns, steps), (steps, rows, columns))
]
FAR = [
    (10, 1024, 2048),
    (1024, 9, 2048),
    (1024, 2048, 12),
    (4, 1024, 1030),
    (7, 2048, 1024),
    (8, 2100, 1000),
]
# Weight gradients that are computed as their transpose, or nearly, with their B packed and not.
FLIPPED = [
    (n, d, h)
    for n in (33, 100, 300)
    for d, h in ((517, 128), (448, 129), (300, 64), (130, 33), (1024, 17))
]
LARGE = [
    (200, 300, 10), (130, 520, 257), (97, 1100, 33), (1000, 64, 100), (300, 200, 600), (40, 2048, 96),
    (513, 517, 65), (100, 10, 300), (1, 700, 300), (300, 700, 1), (260, 1, 260),
]  # fmt: skip
# Around where k is one chunk of narrower blocks, and where it is cut again.
LONG = [
    (200, 784, 300), (200, 641, 257), (200, 640, 257), (200, 1025, 257), (513, 300, 300), (330, 300, 300),
    (900, 300, 300), (1025, 200, 300), (300, 257, 700), (200, 513, 300), (320, 300, 130),
]  # fmt: skip
# Weight gradients of many inputs: each block packs its own rows, with panels of B inside or outside.
OWN = [
    (96, 340, 33), (130, 500, 260), (600, 341, 520), (700, 1001, 37), (1400, 345, 130), (97, 2000, 20),
    (1000, 350, 301),
]  # fmt: skip
# Rows that lie in one or two sets of the cache, times one column or a few.
ALIKE = [(40, 2048, 1), (33, 2048, 4), (21, 1024, 3), (1, 40, 2048), (1, 7, 1024), (300, 1, 512)]
EMPTY = [shape for shape in itertools.product((0, 1, 3, 70), repeat=3) if 0 in shape]


def apart(rng, rows, cols, dtype, extra):
    """A random matrix whose rows are `extra` elements further apart than they are long."""
    matrix = np.full((rows, cols + extra), np.nan, dtype)
    matrix[:, :cols] = rng.standard_normal((rows, cols))
    return matrix[:, :cols], matrix


def products(x, w, b, dy, outs):
    """The three products of a dense layer, written to `outs`."""
    dense.forward(x, w, b, NONE, outs[0])
    dense.input_gradient(outs[1], dy, w)
    dense.weight_gradient(outs[2], x, dy)


def check(shape, dtype, extra, rng):
    n, d, h = shape
    x, w, dy = (apart(rng, *s, dtype, extra)[0] for s in ((n, d), (d, h), (n, h)))
    b = rng.standard_normal(h).astype(dtype)
    outs = [apart(rng, *s, dtype, extra) for s in ((n, h), (n, d), (d, h))]
    products(x, w, b, dy, [view for view, _ in outs])
    wide = [a.astype(np.float64) for a in (x, w, dy)]
    expected = [wide[0] @ wide[1] + b, wide[2] @ wide[1].T, wide[0].T @ wide[2]]
    # Summing k products one after the other is off by at most about k roundings of their sizes.
    sizes = [np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(b), np.abs(wide[2]) @ np.abs(wide[1]).T,
             np.abs(wide[0]).T @ np.abs(wide[2])]  # fmt: skip
    for (got, whole), want, size, k in zip(outs, expected, sizes, (d + 1, h, n), strict=True):
        bound = (k + 2) * np.finfo(dtype).eps * size
        assert (np.abs(got - want) <= bound).all(), f"{shape}, rows {extra} apart"
        assert np.isnan(whole[:, got.shape[1] :]).all(), "written between the rows"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [0, 3, 16])
def test_small_shapes(isa, dtype, extra):
    rng = np.random.default_rng(1)
    for shape in SMALL + EMPTY:
        check(shape, dtype, extra, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_shapes(isa, dtype):
    rng = np.random.default_rng(2)
    for shape in LARGE:
        check(shape, dtype, 0, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_chunks(isa, dtype):
    rng = np.random.default_rng(10)
    for shape in LONG:
        check(shape, dtype, 3, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [0, 5])
def test_skinny_shapes(isa, dtype, extra):
    rng = np.random.default_rng(9)
    for shape in SKINNY + LOW:
        check(shape, dtype, extra, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_beside_a_large_operand(isa, dtype):
    rng = np.random.default_rng(11)
    for shape in FAR:
        check(shape, dtype, 0, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [0, 3])
def test_narrow_gradients(isa, dtype, extra):
    rng = np.random.default_rng(12)
    for shape in FLIPPED:
        check(shape, dtype, extra, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [0, 3])
def test_gradients_of_many_inputs(isa, dtype, extra):
    rng = np.random.default_rng(13)
    for shape in OWN:
        check(shape, dtype, extra, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_the_same_cache_sets_times_a_few_columns(isa, dtype):
    rng = np.random.default_rng(14)
    for shape in ALIKE:
        check(shape, dtype, 0, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_a_power_of_two_apart(isa, dtype):
    # Tiles of half as many rows, because those of A share a set of the cache; of 200, they are fetched ahead.
    rng = np.random.default_rng(3)
    d = 1024
    for n, h in (70, 300), (70, 900), (200, 40):
        check((n, d, h), dtype, 0, rng)
        check((n, d - 7, h), dtype, 7, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_length_of_a_chunk(isa, dtype):
    # k that is one chunk, a longer one, or several, in rows of A that share cache sets.
    rng = np.random.default_rng(8)
    apart_by = 1024 // np.dtype(dtype).itemsize
    for k in [*range(300, 460, 13), *range(600, 700, 17), 768, 895, 896, 1151, 1153, 1300, 1407]:
        check((31, k, 300), dtype, -k % apart_by, rng)
        check((31, k, 200), dtype, -k % apart_by, rng)
        check((31, 300, k), dtype, -k % apart_by, rng)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_travel(isa, value):
    rng = np.random.default_rng(4)
    for n, d, h in [(20, 30, 40), (100, 200, 130), (3, 150, 7)]:
        x, w, dy = (rng.standard_normal(s) for s in ((n, d), (d, h), (n, h)))
        i, p, j = n // 2, d // 3, h - 1
        for array, index in ((x, (i, p)), (w, (p, j)), (dy, (i, j))):
            array = array.copy()
            array[index] = value
            args = [array if a.shape == array.shape else a for a in (x, w, dy)]
            outs = [np.empty(s) for s in ((n, h), (n, d), (d, h))]
            products(args[0], args[1], None, args[2], outs)
            with np.errstate(invalid="ignore"):
                expected = [args[0] @ args[1], args[2] @ args[1].T, args[0].T @ args[2]]
            for got, want in zip(outs, expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_zero_times_infinity_is_not_skipped(isa):
    x, w = np.zeros((5, 6)), np.zeros((6, 7))
    w[2, 3] = np.inf
    y = np.empty((5, 7))
    dense.forward(x, w, None, NONE, y)
    assert np.isnan(y[:, 3]).all() and (np.delete(y, 3, axis=1) == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_do_not_depend_on_the_threads(isa, dtype):
    rng = np.random.default_rng(5)
    for n, d, h in [(200, 300, 260), (200, 784, 300), (64, 784, 128), (1000, 100, 33), (7, 2000, 200),
                    (3, 900, 1500), (1500, 900, 2), (900, 3, 1500), (700, 500, 300),
                    (130, 784, 257)]:  # fmt: skip
        x, w, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, d), (d, h), (n, h)))
        results = []
        for threads in (1, 2, 3, 4, 8):
            outs = [np.empty(s, dtype) for s in ((n, h), (n, d), (d, h))]
            with fastnn.threads(threads):
                products(x, w, None, dy, outs)
            results.append([out.tobytes() for out in outs])
        assert all(result == results[0] for result in results)


def test_shapes_that_do_not_fit_are_refused():
    x, w, y = np.zeros((4, 3)), np.zeros((3, 2)), np.zeros((4, 2))
    with pytest.raises(ValueError, match="w does not fit x"):
        dense.forward(x, np.zeros((4, 2)), None, NONE, y)
    with pytest.raises(ValueError, match="y does not fit"):
        dense.forward(x, w, None, NONE, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="b does not fit"):
        dense.forward(x, w, np.zeros(3), NONE, y)
    with pytest.raises(ValueError, match="dx does not fit"):
        dense.input_gradient(np.zeros((3, 4)), y, w)
    with pytest.raises(ValueError, match="dw does not fit"):
        dense.weight_gradient(np.zeros((2, 3)), x, y)
    with pytest.raises(ValueError, match="contiguous rows"):
        dense.forward(x.T.copy().T, w, None, NONE, y)
    with pytest.raises(TypeError, match="all be float32 or all be float64"):
        dense.forward(x, w.astype(np.float32), None, NONE, y)
    with pytest.raises((BufferError, ValueError)):
        y.flags.writeable = False
        dense.forward(x, w, None, NONE, y)
