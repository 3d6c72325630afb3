"""Numerical gradients, for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, copies

STEP = 1e-5


def numerical(case: Case, module: Any, a: dict[str, Any], name: str, dy: Any) -> np.ndarray:
    """Central differences of sum(dy * value) with respect to the argument `name`, in float64."""
    x = a[name]
    slope = np.empty_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for step in (STEP, -STEP):
            moved = copies(a)
            moved[name][index] += step
            ends.append(np.sum(dy * case.value(module, moved), dtype=np.longdouble))
        slope[index] = (ends[0] - ends[1]) / (2 * STEP)
    return slope


def assert_gradients(case: Case, module: Any) -> None:
    """Assert that the case's gradients are the numerical ones to 1e-7.

    The measure is |approx - grad| / ((|approx| + |grad|) / 2) in Euclidean norms, with a random
    upstream gradient.
    """
    assert case.gradient is not None
    a = case.example(case.gradient_shape, np.float64)
    value = case.value(module, a)
    rng = np.random.default_rng(7)
    dy = rng.standard_normal(np.shape(value))
    if np.ndim(value) == 0:
        dy = float(dy)
    for name, gradient in case.gradient(module, copies(a), dy).items():
        approx = numerical(case, module, a, name, dy)
        size = (np.linalg.norm(approx) + np.linalg.norm(gradient)) / 2
        error = np.linalg.norm(approx - gradient) / size if size > 1e-12 else 0.0
        assert error < 1e-7, f"{case}, gradient of {name}: relative error {error:.2e}"
