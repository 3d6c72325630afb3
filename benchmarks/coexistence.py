"""What another library in the process costs: a step of fastnn with it and without it, alternated.

    python benchmarks/coexistence.py                     every library that is installed, one thread
    python benchmarks/coexistence.py --threads 2 torch   this one, on two threads

A process for each order of the imports, and one for either library alone; all of them several times,
since where the memory of a process lies is chance. Both libraries have worked before anything is timed,
so that their thread pools are there; before each round these have time to fall asleep, for a thread that
still waits for work of the round before keeps a core from the next one. Threads that wake share a core at
times, until the system notices, some milliseconds later: so each round begins with as many steps again that
are not timed.

Neighbours only ever lengthen a round, and on two threads one of them is enough to double it: medians of
two threads say nothing on a shared machine. So each process is judged by the fastest fifth of its rounds,
which another library that took time from every step would lengthen as well. A row gives the median over
the processes of the ratio beside the other library to alone, with all of them from the lowest to the
highest: above 1 the step is slower beside the other library. The last column is the other way round: a
step of that library with fastnn in its process. "numpy" is the control: fastnn brings NumPy itself, so
what differs is chance.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from statistics import median
from time import sleep
from typing import Any

import numpy as np

from fastnn.bench.client import available_cpus, environment
from fastnn.bench.cold_start import can_pin

SECONDS, ROUNDS, PROCESSES = 0.015, 30, 5
PAUSE = 0.05  # longer than the pool of any of these spins: that of OpenBLAS 2^26 cycles
WORKLOADS = ("digits-bn", "medium")

OURS = """
import fastnn as fnn
from fastnn.bench.contenders.fastnn_mlp import FastNNSteps
from fastnn.bench.workloads import WORKLOADS
fnn.set_num_threads({threads})
ours = FastNNSteps(WORKLOADS["{workload}"]).run
ours(3)
"""
THEIRS = {
    "numpy": """
import numpy
d = numpy.ones((300, 300))
def theirs(steps):
    for _ in range(steps):
        numpy.tanh(d @ d)
theirs(3)
""",
    "torch": """
import torch
torch.set_num_threads({threads})
a = torch.rand(300, 300, requires_grad=True)
def theirs(steps):
    for _ in range(steps):
        torch.tanh(a @ a).sum().backward()
theirs(3)
""",
    "jax": """
import jax
b = jax.numpy.ones((300, 300))
grad = jax.jit(jax.grad(lambda b: jax.numpy.tanh(b @ b).sum()))
def theirs(steps):
    for _ in range(steps):
        grad(b).block_until_ready()
theirs(3)
""",
    "sklearn": """
import numpy
from sklearn.cluster import KMeans
c = numpy.random.default_rng(0).standard_normal((2000, 20))
def theirs(steps):
    for _ in range(steps):
        KMeans(8, n_init=1, max_iter=5, tol=0, random_state=0).fit(c)
theirs(3)
""",
}
SERVE = """
import sys, time, numpy
numpy.seterr(all="ignore")
counts = {{}}
for line in sys.stdin:
    work = globals()[line.strip()]
    if work not in counts:
        start = time.perf_counter()
        work(3)
        counts[work] = max(1, int(3 * {seconds} / (time.perf_counter() - start)))
    work(counts[work])
    start = time.perf_counter()
    work(counts[work])
    print((time.perf_counter() - start) / counts[work], flush=True)
"""


class Process:
    """A Python in which some libraries have been imported in some order, and which times steps."""

    def __init__(self, parts: list[str], threads: int, workload: str) -> None:
        code = "".join([*parts, SERVE]).format(threads=threads, workload=workload, seconds=SECONDS)
        cpus = available_cpus()[:threads]

        def pin() -> None:
            os.sched_setaffinity(0, cpus)

        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(threads),
            preexec_fn=pin if can_pin(cpus) is None else None,
            text=True,
            bufsize=1,
        )

    def time(self, whose: str) -> float:
        """Seconds for a step of "ours" or "theirs"."""
        assert self.process.stdin is not None and self.process.stdout is not None
        sleep(PAUSE)
        self.process.stdin.write(f"{whose}\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a process ended with status {self.process.wait()}, see above")
        return float(answer)

    def close(self) -> None:
        self.process.communicate()


# order of the imports and whose step -> the ratio of each pair of processes
Ratios = dict[tuple[str, str], list[float]]


def measure(library: str, workload: str, threads: int, ratios: Ratios) -> None:
    """One more ratio of each kind of step, beside the other library to alone, in new processes."""
    ours, theirs = OURS, THEIRS[library]
    with ExitStack() as stack:
        alone_ours, alone_theirs, after, before = (
            stack.enter_context(closing(Process(parts, threads, workload)))
            for parts in ([ours], [theirs], [theirs, ours], [ours, theirs])
        )
        teams = {
            "ours": {"alone": alone_ours, "imported first": after, "imported after": before},
            "theirs": {"alone": alone_theirs, "imported first": after, "imported after": before},
        }
        for whose, team in teams.items():
            times: dict[str, list[float]] = {name: [] for name in team}
            for turn in range(-1, ROUNDS):
                for name in team if turn % 2 else reversed(team):
                    seconds = team[name].time(whose)
                    if turn >= 0:
                        times[name].append(seconds)
            fast = {name: float(np.quantile(found, 0.1)) for name, found in times.items()}
            for order in list(team)[1:]:
                ratios.setdefault((order, whose), []).append(fast[order] / fast["alone"])


def shown(ratios: list[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=", ".join(THEIRS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of each kind")
    parser.add_argument("--workload", nargs="+", default=WORKLOADS, help="of fastnn bench")
    options: Any = parser.parse_args(arguments)
    if unknown := set(options.libraries) - set(THEIRS):
        parser.error(f"unknown {', '.join(unknown)}: expected {', '.join(THEIRS)}")
    if unpinned := can_pin(available_cpus()[: options.threads]):
        print(f"{unpinned}: nothing is pinned, the figures are less certain")
    for library in options.libraries or THEIRS:
        if find_spec(library) is None:
            print(f"{library}: not installed", file=sys.stderr)
            continue
        for workload in options.workload:
            ratios: Ratios = {}
            for _ in range(options.processes):
                measure(library, workload, options.threads, ratios)
            for order in "imported first", "imported after":
                print(
                    f"{library:8}{order:16}{workload:10} ours {shown(ratios[order, 'ours'])}, "
                    f"theirs {shown(ratios[order, 'theirs'])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
