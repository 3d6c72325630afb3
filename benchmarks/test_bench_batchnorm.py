"""Batch norm in training, forward and backward, alone and fused with ReLU."""

import pytest

from fastnn.bench.kernels import KERNELS

TASKS = [task for task in KERNELS if task.op.startswith("batchnorm")]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_batchnorm(task, measure):
    measure(task)
