"""Activations, forward and backward, from 64 elements to 16 MB."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "activations"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_activation(task, measure):
    measure(task)
