"""Batch norm in training, forward and backward, alone and fused with ReLU."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "batch norm"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_batchnorm(task, measure):
    measure(task)
