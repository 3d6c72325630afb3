"""Activations, forward and backward, from 64 elements to 16 MB."""

import pytest

from fastnn.bench.kernels import KERNELS

TASKS = [task for task in KERNELS if not task.op.startswith("batchnorm")]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_activation(task, measure):
    measure(task)
