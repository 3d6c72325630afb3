"""Shared by the benchmarks: who takes part, and results that are checked before they are timed.

    pytest benchmarks                        # fastnn, its NumPy reference and whoever is installed
    pytest benchmarks -k "gemm and not torch"
    pytest benchmarks/test_bench_steps.py --benchmark-json steps.json

pytest-benchmark runs everything in one process, one contender after the other, which is good for
profiling and for following a change of our own. Two frameworks in one process disturb each other;
the comparison that counts is made by `fastnn bench`, in processes of their own, in turns. Both use
the shapes, the contenders and the checks of `fastnn.bench`.
"""

from __future__ import annotations

import one_thread

# isort: split
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from fastnn.bench import oracle
from fastnn.bench.compare import LOSS_TOLERANCE
from fastnn.bench.contenders import CONTENDERS, REQUIRES, create
from fastnn.bench.contenders.fastnn_mlp import FitSteps
from fastnn.bench.contenders.numpy_mlp import NumPySteps
from fastnn.bench.kernels import Kernel
from fastnn.bench.worker import STEPS_BETWEEN_RESTORES, one_line
from fastnn.bench.workloads import WORKLOADS, Gemm, Task, Workload

CHECKED_STEPS = 3
# Of digits in a fit: as many steps as `fastnn.bench.worker` makes before it restores the parameters.
FitSteps.epochs = STEPS_BETWEEN_RESTORES // WORKLOADS["digits-fit"].epoch_steps
_created: dict[str, Any] = {}


def pytest_report_header() -> str:
    return one_thread.UNPINNED or "one thread each, pinned to one core"


@pytest.fixture(params=CONTENDERS)
def contender(request: pytest.FixtureRequest) -> Any:
    """Each contender that is installed and can be imported, with one thread."""
    name = request.param
    if find_spec(REQUIRES.get(name, "numpy")) is None:
        pytest.skip(f"{REQUIRES[name]} is not installed")
    if name not in _created:
        try:
            _created[name] = create(name, threads=1)
        except Exception as error:  # what a broken installation raises
            pytest.skip(f"{REQUIRES[name]} cannot be used: {one_line(error)}")
    return _created[name]


@pytest.fixture
def measure(contender: Any, benchmark: Any) -> Callable[[Task], None]:
    """Check `task` on the contender, then time it, in a group of its own name."""

    def run(task: Task) -> None:
        if refusal := contender.refuses(task):
            pytest.skip(f"{contender.label} {refusal}")
        benchmark.group = f"{task.name} {task.dtype}"
        benchmark.extra_info["contender"] = contender.label
        if isinstance(task, Workload):
            _time_steps(contender, task, benchmark)
        else:
            _time_call(contender, task, benchmark)

    return run


def _time_steps(contender: Any, workload: Workload, benchmark: Any) -> None:
    steps = contender.steps(workload)
    expected = NumPySteps(workload).losses(CHECKED_STEPS)
    assert steps.losses(CHECKED_STEPS) == pytest.approx(expected, LOSS_TOLERANCE[workload.dtype])
    # A round is an epoch, or those of a fit: as many steps for everyone in a group.
    count = workload.epoch_steps * (FitSteps.epochs if workload.fit else 1)
    steps.restore()
    assert steps.run(count) == count
    benchmark.extra_info["steps_per_round"] = count
    benchmark.pedantic(
        lambda: steps.run(count), setup=steps.restore, rounds=10, warmup_rounds=1, iterations=1
    )


def _time_call(contender: Any, task: Gemm | Kernel, benchmark: Any) -> None:
    arrays = oracle.inputs(task)
    call = contender.call(task, arrays)
    assert oracle.error_of(task, arrays, tuple(call())) <= oracle.TOLERANCE[task.dtype]
    benchmark(call)
