"""One process per contender: ``python -m fastnn.bench.worker NAME CPUS THREADS``.

It pins itself before it imports anything that starts threads, then answers one line of JSON on
stdout for each line of JSON on stdin, and sleeps in between:

=====================================  =====================================================
``{"do": "build", "task": {…}}``       ``{"seconds": …}``, or ``{"refused": why}``
``{"do": "check", "steps": k}``        ``{"losses": […]}`` of a step, ``{"error": …}`` of a call
``{"do": "calibrate", "seconds": s}``  ``{"steps": n}``: so many take about that long
``{"do": "time", "steps": n}``         ``{"seconds": …, "steps": …, "share": …}``; the share of the
                                       round in which the process was on a core; ``"warm": false``
                                       leaves out the untimed step before a single one
``{"do": "peak", "dtype": …}``         ``{"flops": …}`` of all threads together
``{"do": "copy", "size": bytes}``      ``{"bandwidth": …}`` of all threads together
``{"do": "cpu"}``                      ``{"seconds": …}`` of processor time so far
``{"do": "memory", "reset": true}``    ``{"peak": …}`` bytes of memory held at most since the last reset
``{"do": "spin", "on": true}``         ``{}``; be a busy neighbour until ``"on": false``
``{"do": "bandwidth"}``                ``{"bandwidths": {…}}``
``{"do": "breakdown", "task": …}``     ``{"parts": […], "seconds": …, …}``
``{"do": "quit"}``                     nothing; so does the end of stdin
=====================================  =====================================================

The first line it writes says who it is. A failure is answered with ``{"failed": one line}``; the
traceback goes to stderr. The name ``machine`` has no contender: it measures the ceilings.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import re
import sys
import threading
import time
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.bench.contenders import Contender

log = logging.getLogger(__name__)

# A batch that is learnt by heart stops giving gradients, and the momentum of a dead unit decays
# into subnormal numbers (0.9^830), which cost some frameworks a hundred times more. So the initial
# state is restored, untimed, after this many steps.
STEPS_BETWEEN_RESTORES = 400


def pin(cpus: list[int]) -> str | None:
    """Keep this process on `cpus`; returns why that was not possible, or None."""
    if not hasattr(os, "sched_setaffinity"):
        return f"{sys.platform} cannot pin a process to cores"
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        return f"cannot pin to cores {cpus}: {error.strerror}"
    return None


class StepRunner:
    """Checks and times a training step."""

    def __init__(self, contender: Contender, task: Any) -> None:
        self.steps = contender.steps(task)

    def check(self, count: int) -> dict[str, Any]:
        self.steps.restore()
        return {"losses": self.steps.losses(count)}

    def time(self, count: int, warm: bool = True) -> tuple[float, int]:
        """Time at least `count` steps; one untimed step before them brings back the caches (before
        a single one only if `warm`)."""
        spent, done = 0.0, 0
        while done < count:
            self.steps.restore()
            if warm or count > 1:
                self.steps.run(1)
            chunk = min(count - done, STEPS_BETWEEN_RESTORES)
            start = time.perf_counter()
            done += self.steps.run(chunk)
            spent += time.perf_counter() - start
        return spent, done


class CallRunner:
    """Checks and times a single call."""

    def __init__(self, contender: Contender, task: Any) -> None:
        from fastnn.bench import oracle

        self.task = task
        self.arrays = oracle.inputs(task)
        self.call = contender.call(task, self.arrays)

    def check(self, count: int) -> dict[str, Any]:
        from fastnn.bench import oracle

        return {"error": oracle.error_of(self.task, self.arrays, tuple(self.call()))}

    def time(self, count: int, warm: bool = True) -> tuple[float, int]:
        call = self.call
        if warm or count > 1:
            call()
        start = time.perf_counter()
        for _ in repeat(None, count):
            call()
        return time.perf_counter() - start, count


class Worker:
    """Answers messages for one contender."""

    def __init__(self, name: str, threads: int) -> None:
        self.threads = threads
        self.contender: Contender | None = None
        self.runner: StepRunner | CallRunner | None = None
        self.spinning = threading.Event()
        if name != "machine":
            from fastnn.bench.contenders import create

            self.contender = create(name, threads)

    def hello(self) -> dict[str, Any]:
        if self.contender is None:
            return {"label": "machine", "versions": {}}
        return {"label": self.contender.label, "versions": self.contender.versions()}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        handler = getattr(self, f"do_{message.pop('do')}")
        answer: dict[str, Any] = handler(**message)
        return answer

    def do_build(self, task: dict[str, Any]) -> dict[str, Any]:
        from fastnn.bench.workloads import Workload, task_from_json

        if self.contender is None:
            return {"refused": "the machine worker builds nothing"}
        parsed = task_from_json(task)
        self.runner = None
        gc.collect()  # frees the memory of the task before
        refusal = self.contender.refuses(parsed)
        if refusal:
            return {"refused": refusal}
        runner = StepRunner if isinstance(parsed, Workload) else CallRunner
        start = time.perf_counter()
        self.runner = runner(self.contender, parsed)
        return {"seconds": time.perf_counter() - start}

    @property
    def built(self) -> StepRunner | CallRunner:
        if self.runner is None:
            raise RuntimeError("nothing is built: send a build message first")
        return self.runner

    def do_check(self, steps: int = 1) -> dict[str, Any]:
        return self.built.check(steps)

    def do_calibrate(self, seconds: float) -> dict[str, Any]:
        """Double the count until a quarter of `seconds` is reached, then scale."""
        count = 1
        while True:
            spent, done = self.built.time(count)
            if spent >= seconds / 4:
                return {"steps": max(1, round(done * seconds / spent))}
            count = done * 2

    def do_time(self, steps: int, warm: bool = True) -> dict[str, Any]:
        cpu, wall = time.process_time(), time.perf_counter()
        spent, done = self.built.time(steps, warm)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"seconds": spent, "steps": done, "share": cpu / wall}

    def do_peak(self, dtype: str, seconds: float = 0.02) -> dict[str, Any]:
        from fastnn.bench.peak import fma_peak

        return {"flops": fma_peak(dtype, seconds, self.threads)}

    def do_spin(self, on: bool) -> dict[str, Any]:
        """Keep the core busy with multiply-adds, in a thread, from now on or no longer."""
        if on and not self.spinning.is_set():
            self.spinning.set()
            threading.Thread(target=self._spin, daemon=True).start()
        elif not on:
            self.spinning.clear()
        return {}

    def do_memory(self, reset: bool = False) -> dict[str, Any]:
        if reset:
            self.runner = None  # else what was built before counts for what comes
            gc.collect()
        return {"peak": peak_memory(reset)}

    def do_cpu(self) -> dict[str, Any]:
        return {"seconds": time.process_time()}

    def _spin(self) -> None:
        from fastnn._kernels.machine import fma_work

        while self.spinning.is_set():
            fma_work("float32", 1_000_000)  # about a millisecond

    def do_copy(self, size: int, seconds: float = 0.02) -> dict[str, Any]:
        from fastnn.bench.peak import copy_bandwidth

        return {"bandwidth": copy_bandwidth(size, seconds, self.threads)}

    def do_bandwidth(self, seconds: float = 0.05) -> dict[str, Any]:
        from fastnn.bench.peak import bandwidths

        return {"bandwidths": bandwidths(seconds, self.threads)}

    def do_breakdown(self, task: dict[str, Any]) -> dict[str, Any]:
        from fastnn.bench.breakdown import breakdown
        from fastnn.bench.workloads import task_from_json

        return breakdown(task_from_json(task))  # type: ignore[arg-type]


def peak_memory(reset: bool = False) -> int | None:
    """The most bytes of memory that this process held, since the last reset where Linux lets us
    forget what was before, else ever; None where it cannot be read."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"))
        if reset:
            with suppress(OSError, AttributeError):  # glibc keeps what was freed, for the next time
                ctypes.CDLL(None).malloc_trim(0)
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if found:
            return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else 1024 * held


def one_line(error: BaseException) -> str:
    """The kind of an exception and the first line of its message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def main(name: str, cpus: str, threads: str) -> None:
    # Only the protocol writes to the real stdout: whatever a framework prints goes to stderr.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")

    unpinned = pin([int(cpu) for cpu in cpus.split(",")])
    try:
        worker = Worker(name, int(threads))
        say({**worker.hello(), "unpinned": unpinned})
    except (Exception, SystemExit) as error:
        log.exception("cannot set up %s", name)
        say({"failed": one_line(error)})
        return
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "quit":
            return
        try:
            say(worker.answer(message))
        except Exception as error:
            log.exception("cannot answer %s", line.strip())
            say({"failed": one_line(error)})


if __name__ == "__main__":
    main(*sys.argv[1:])
