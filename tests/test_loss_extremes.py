"""Losses and softmax where numbers are hard: every width, sure rows, long rows, weights out of bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn import functional, reference

BOTH = pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "twins"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])

# Up to 32 columns rows lie in the lanes; then there are rows of a vector or two, and of several chunks.
WIDTHS = (1, 2, 3, 4, 7, 8, 10, 12, 13, 16, 17, 31, 32, 33, 64, 100, 1025, 3000)
HARD = (None, -np.inf, np.nan, np.inf)


def wide(value: Any) -> Any:
    return value.astype("float64") if value.dtype.kind == "f" else value


def assert_twins(name: str, arrays: dict[str, Any], **options: Any) -> None:
    """The kernel as its twin in float64; both results, where there are two."""
    some = next(iter(arrays.values()))
    tolerance = {"float32": 1e-5, "float64": 1e-13}[some.dtype.name]
    got = getattr(functional, name)(**arrays, **options)
    expected = getattr(reference, name)(**{k: wide(a) for k, a in arrays.items()}, **options)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=0.1 * tolerance, err_msg=name)


@DTYPES
@pytest.mark.parametrize("rows", [1, 3, 16, 21])
@np.errstate(all="ignore")
def test_rows_of_every_width(rows: int, dtype: str, isa: str) -> None:
    rng = np.random.default_rng(rows)
    for cols in WIDTHS:
        for hard in HARD:
            x = (rng.standard_normal((rows, cols)) * rng.choice([1, 20])).astype(dtype)
            row = int(rng.integers(rows))
            if hard is not None:
                x[row, rng.integers(cols)] = hard
            labels, soft = rng.integers(0, cols, rows), rng.random((rows, cols)).astype(dtype)
            soft /= soft.sum(axis=1, keepdims=True)
            weight, of_class = rng.random(rows).astype(dtype), rng.random(cols).astype(dtype) + 1
            if rows > 1:
                weight[row] = 0  # the row with NaN or infinity among them
            assert_twins("softmax", {"x": x})
            assert_twins("log_softmax", {"x": x})
            for target in (labels, soft):
                arrays = {"logits": x, "labels": target}
                weighted = {**arrays, "sample_weight": weight}
                assert_twins("softmax_cross_entropy", arrays, label_smoothing=0.1)
                for given in (arrays, weighted, {**weighted, "class_weight": of_class}):
                    assert_twins("softmax_cross_entropy", given)
            hinge = {"scores": x, "labels": labels, "sample_weight": weight}
            assert_twins("multiclass_hinge", hinge)


@BOTH
def test_rows_without_weight_are_left_out_whatever_they_hold(module: Any, isa: str) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 4, 6)).astype("float32")
    x[0], weight = [np.nan, np.inf, -np.inf, 0, 1, 2], np.array([0, 1, 2, 1], "float32")
    labels = np.array([3, 1, 0, 5])
    calls = [(name, target) for name in ("mean_squared_error", "mean_absolute_error", "huber")]
    calls += [("binary_cross_entropy", np.abs(np.tanh(target)))]
    calls += [("softmax_cross_entropy", labels), ("multiclass_hinge", labels)]
    calls += [("softmax_cross_entropy", np.abs(target))]
    for name, t in calls:
        loss, gradient = getattr(module, name)(x, t, sample_weight=weight)
        rest = getattr(module, name)(x[1:], t[1:], sample_weight=weight[1:])
        assert loss == pytest.approx(rest[0], rel=1e-6), name
        assert not gradient[0].any(), name
        np.testing.assert_allclose(gradient[1:], rest[1], rtol=1e-6, err_msg=name)


@DTYPES
@pytest.mark.parametrize("cols", [2, 10, 33, 2000])
def test_a_row_that_is_sure_keeps_its_small_loss(cols: int, dtype: str, isa: str) -> None:
    gap = {"float32": 60.0, "float64": 600.0}[dtype]
    for weights in ({}, {"class_weight": np.ones(cols, dtype)}):
        for label in (0, cols - 1):
            x = np.zeros((3, cols), dtype)
            x[:, label] = gap
            loss, dlogits = functional.softmax_cross_entropy(x, np.full(3, label), **weights)
            small = (cols - 1) * np.exp(-gap)
            assert loss == pytest.approx(small, rel=1e-5)
            np.testing.assert_allclose(dlogits[:, label], -small / 3, rtol=1e-5)
            np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-6 * small)


def test_long_rows_are_summed_without_loss(isa: str) -> None:
    cols, rng = 1_000_000, np.random.default_rng(0)
    x = rng.standard_normal((1, cols)).astype("float32")
    arrays = {"x": x}
    assert_twins("softmax", arrays)
    expected, got = reference.softmax(wide(x)), functional.softmax(x)
    assert np.abs(got / expected - 1).max() < 1e-6
    even = np.full((1, cols), 1 / cols, "float32")
    for name, target in (("softmax_cross_entropy", even), ("multiclass_hinge", np.array([7]))):
        loss, gradient = getattr(functional, name)(x, target)
        true, slope = getattr(reference, name)(wide(x), wide(target))
        assert loss == pytest.approx(true, rel=1e-6), name
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-12, err_msg=name)
    dy = np.ones_like(x) + x
    got = functional.softmax_backward(dy, got)
    np.testing.assert_allclose(
        got, reference.softmax_backward(wide(dy), expected), rtol=1e-4, atol=1e-11
    )


@BOTH
@pytest.mark.parametrize(
    ("dtype", "weight"),
    [("float64", 1e308), ("float64", 1e200), ("float32", 1e38), ("float32", 1e25)],
)
def test_weights_that_overflow_are_refused(module: Any, dtype: str, weight: float) -> None:
    x, labels, heavy = np.eye(3, dtype=dtype), np.arange(3), np.full(3, weight, dtype)
    for call in (
        lambda: module.softmax_cross_entropy(x, labels, sample_weight=heavy),
        lambda: module.softmax_cross_entropy(x, labels, class_weight=heavy),
        lambda: module.softmax_cross_entropy(x, x, sample_weight=heavy),
        lambda: module.multiclass_hinge(x, labels, sample_weight=heavy),
        lambda: module.mean_squared_error(x, x, sample_weight=heavy),
    ):
        with pytest.raises(ValueError, match="must add up to .* scale it down"):
            call()


@BOTH
def test_weights_whose_products_overflow_are_refused(module: Any) -> None:
    x, heavy = np.eye(3), np.full(3, 1e150)
    with pytest.raises(ValueError, match="the weights of all rows must add up to .* scale it down"):
        module.softmax_cross_entropy(x, np.arange(3), sample_weight=heavy, class_weight=heavy)
