"""The norm of an array, against that of exact numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.norms import BLOCK, norm


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-40, 1e25])
def test_it_is_that_of_the_numbers(dtype, scale):
    rng = np.random.default_rng(0)
    arrays = [
        (scale * rng.standard_normal(shape)).astype(dtype)
        for shape in ((3, BLOCK + 7), (5,), (0, 4))
    ]
    exact = math.sqrt(math.fsum(float(v) ** 2 for array in arrays for v in array.ravel()))
    assert norm(*arrays) == pytest.approx(exact, rel=1e-6 if dtype == np.float32 else 1e-14)
    assert norm(arrays[0][:, ::3]) == pytest.approx(
        np.linalg.norm(arrays[0][:, ::3].astype(np.float64)), rel=1e-6
    )


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite_show():
    assert math.isnan(norm(np.array([1.0, np.nan], np.float32)))
    assert norm(np.array([1.0, -np.inf], np.float32)) == math.inf
    assert norm(np.zeros(3, np.float32)) == norm() == 0.0
