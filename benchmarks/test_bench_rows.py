"""Operations on rows: softmax and its logarithm, maxout, forward and backward."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "rows"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_rows(task, measure):
    measure(task)
