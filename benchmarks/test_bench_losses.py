"""Losses, value and gradient in one call."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "losses"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_loss(task, measure):
    measure(task)
