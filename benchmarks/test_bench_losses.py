"""Losses, value and gradient in one call, and the operations on rows: softmax and maxout."""

import pytest

from fastnn.bench.kernels import KERNELS, LOSSES, ROWWISE

TASKS = [task for task in KERNELS if task.op.removesuffix("_backward") in (*LOSSES, *ROWWISE)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_loss(task, measure):
    measure(task)
