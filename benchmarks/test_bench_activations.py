"""Activations, forward and backward, from 64 elements to 16 MB."""

import pytest

from fastnn.bench.kernels import ACTIVATIONS, KERNELS

TASKS = [task for task in KERNELS if task.op.removesuffix("_backward") in ACTIVATIONS]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_activation(task, measure):
    measure(task)
