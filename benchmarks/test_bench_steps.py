"""Whole training steps (forward, loss, backward and update), and epochs of them through `fit`."""

import pytest

from fastnn.bench.workloads import WORKLOADS

STEPS = {name: workload for name, workload in WORKLOADS.items() if not workload.fit}
EPOCHS = {name: workload for name, workload in WORKLOADS.items() if workload.fit}


@pytest.mark.parametrize("workload", STEPS.values(), ids=STEPS)
def test_step(workload, measure):
    measure(workload)


@pytest.mark.parametrize("workload", EPOCHS.values(), ids=EPOCHS)
def test_epochs(workload, measure):
    """fastnn shuffles, keeps a history and draws a bar; the others run as many bare steps."""
    measure(workload)
