"""What every contender offers to the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Task, Workload


class Steps(Protocol):
    """A training step, built and ready: forward, loss, backward and update on one fixed batch."""

    def restore(self) -> None:
        """Set the initial parameters, running statistics and momentum again."""

    def losses(self, count: int) -> list[float]:
        """Run `count` steps and return the loss of each, before its update."""

    def run(self, count: int) -> int:
        """Run at least `count` steps to the end of their arithmetic; return how many."""


# A call and the arrays it gave. The call is timed; the second part is for the check.
Call = Callable[[], Any]


class Contender:
    """A framework inside a worker process.

    Parameters
    ----------
    threads : int
        How many threads it may use. The process is pinned to as many cores already.
    """

    label = ""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """Names and versions of what does the work."""
        raise NotImplementedError

    def refuses(self, task: Task) -> str | None:
        """Why the task cannot be run in this framework, or None."""
        return None

    def steps(self, workload: Workload) -> Steps:
        """Build the training step of `workload`."""
        raise NotImplementedError

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        """A function without arguments that computes `task` and returns a tuple of outputs."""
        raise NotImplementedError
