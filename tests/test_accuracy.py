"""Worst errors in ulp, on every instruction set: a sample in seconds, all of float32 as a slow test.

The functions, their bounds and the references are those of `benchmarks/accuracy.py`, which prints the
table; here the references are held against mpmath, and the kernels against their bounds.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn

pytest.importorskip("mpmath", reason="the references are checked with mpmath")
SOURCE = Path(__file__).parents[1] / "benchmarks" / "accuracy.py"
if not SOURCE.exists():
    pytest.skip("benchmarks/ is not here: not a checkout", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("fastnn_accuracy", SOURCE)
assert _spec is not None and _spec.loader is not None
accuracy = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = accuracy
_spec.loader.exec_module(accuracy)

wide_enough = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="numpy.longdouble is no wider than float64 here"
)
each_function = pytest.mark.parametrize("function", accuracy.FUNCTIONS.values(), ids=str)


def assert_within(function: Any, dtype: Any, numbers: Any) -> None:
    for isa, worst in accuracy.sweep(function, numbers, fastnn.available_isas()).items():
        assert worst.error <= function.bound(dtype), f"{isa}: {worst}"


@each_function
@pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=wide_enough)], ids=lambda d: d.__name__
)
def test_the_reference_is_true(function: Any, dtype: Any) -> None:
    worst = accuracy.reference_error(function, dtype)
    assert worst.error < 0.02, str(worst)


def test_errors_are_counted_in_the_last_place_of_the_truth() -> None:
    below_one = np.nextafter(np.float32(1), np.float32(0))
    tiny = np.finfo(np.float32).smallest_subnormal
    cases = [  # y, truth, error
        (below_one, 1.0, 0.5),  # the last place of 1 is twice that of the number below it
        (1.0, float(below_one), 1.0),
        (tiny, 0.0, 1.0),
        (0.0, 0.25 * float(tiny), 0.25),
        (np.inf, 3.5e38, 0.0),
        (np.inf, 2.0**128 - 1.25 * 2.0**104, 1.25),
        (3.4e38, np.inf, np.inf),
        (np.nan, np.nan, 0.0),
        (1.0, np.nan, np.inf),
        (np.nan, 1.0, np.inf),
        (-np.inf, np.inf, np.inf),
    ]
    y, true, expected = (np.array(column) for column in zip(*cases, strict=True))
    with np.errstate(all="ignore"):
        got = accuracy.errors(y.astype(np.float32), true)
    np.testing.assert_array_equal(got, expected)


@each_function
def test_float32_sample(function: Any) -> None:
    assert_within(function, np.float32, accuracy.float32_numbers(4099))


@wide_enough
@each_function
def test_float64_sample(function: Any) -> None:
    assert_within(function, np.float64, accuracy.float64_numbers(200_000))


@pytest.mark.slow
@each_function
def test_every_float32(function: Any) -> None:
    assert_within(function, np.float32, accuracy.float32_numbers(1))


@pytest.mark.slow
@wide_enough
@each_function
def test_float64_in_depth(function: Any) -> None:
    assert_within(function, np.float64, accuracy.float64_numbers(100_000_000))
