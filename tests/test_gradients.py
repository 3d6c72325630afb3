"""The gradient of every kernel against central differences in float64, on each instruction set."""

from __future__ import annotations

import pytest
from cases import CASES, Case
from gradients import assert_gradients

from fastnn import functional

CHECKED = [case for case in CASES if case.gradient is not None and hasattr(functional, case.name)]


@pytest.mark.parametrize("case", CHECKED, ids=str)
def test_gradient_is_numerical_gradient(case: Case, isa: str) -> None:
    assert_gradients(case, functional)
