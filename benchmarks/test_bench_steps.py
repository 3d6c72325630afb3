"""Whole training steps: forward, loss, backward and update."""

import pytest

from fastnn.bench.workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_step(workload, measure):
    measure(workload)
