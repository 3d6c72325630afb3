"""Dropout, forward and backward: everyone draws random numbers of its own."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "dropout"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_dropout(task, measure):
    measure(task)
