"""Updates of parameters, from SGD to AdamW, and clipping of gradients."""

import pytest

from fastnn.bench.kernels import KERNELS
from fastnn.bench.roofline import family

TASKS = [task for task in KERNELS if family(task) == "updates"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_update(task, measure):
    measure(task)
