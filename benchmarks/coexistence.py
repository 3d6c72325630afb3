"""What another library in the process costs: a step of fastnn with it and without it, alternated.

    python benchmarks/coexistence.py                     every library that is installed, one thread
    python benchmarks/coexistence.py --threads 2 torch   this one, on two threads

A process for each order of the imports, and one for either library alone; all of them several times,
since where the memory of a process lies is chance. Both libraries have worked before anything is timed,
so that their thread pools are there; before each round these have time to fall asleep, for a thread that
still waits for work of the round before keeps a core from the next one. A row gives the median of the
paired ratios of times, with a 95% interval (processes are drawn first, then pairs of theirs): above 1 the
step is slower beside the other library. The last column is the other way round: a step of that library
with fastnn in its process. "numpy" is the control: fastnn brings NumPy itself, so what differs is chance.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from time import sleep
from typing import Any

import numpy as np

from fastnn.bench.client import available_cpus, environment

SECONDS, PAIRS, PROCESSES = 0.02, 25, 5
PAUSE = 0.02  # longer than the pool of any of these spins
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
            preexec_fn=pin if hasattr(os, "sched_setaffinity") else None,
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


# order of the imports and whose step -> a row of paired ratios for each process
Ratios = dict[tuple[str, str], list[list[float]]]


def measure(library: str, workload: str, threads: int, ratios: Ratios) -> None:
    """PAIRS more ratios of each kind of step, beside the other library to alone, in new processes."""
    ours, theirs = OURS, THEIRS[library]
    with ExitStack() as stack:
        alone_ours, alone_theirs, after, before = (
            stack.enter_context(closing(Process(parts, threads, workload)))
            for parts in ([ours], [theirs], [theirs, ours], [ours, theirs])
        )
        kinds = [
            (order, whose, beside, alone)
            for order, beside in (("imported first", after), ("imported after", before))
            for whose, alone in (("ours", alone_ours), ("theirs", alone_theirs))
        ]
        for order, whose, *_ in kinds:
            ratios.setdefault((order, whose), []).append([])
        for pair in range(-1, PAIRS):
            for order, whose, beside, alone in kinds:
                first, second = (beside, alone) if pair % 2 else (alone, beside)
                one, other = first.time(whose), second.time(whose)
                if pair >= 0:
                    ratios[order, whose][-1].append(one / other if pair % 2 else other / one)


def interval(ratios: list[list[float]], draws: int = 2000) -> tuple[float, float, float]:
    """Median, and the 95% interval of a bootstrap that draws processes, then pairs of each."""
    table, rng = np.asarray(ratios), np.random.default_rng(0)
    processes, pairs = table.shape
    rows = rng.integers(0, processes, (draws, processes, 1))
    medians = np.median(table[rows, rng.integers(0, pairs, (draws, processes, pairs))], axis=(1, 2))
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(np.median(table)), float(low), float(high)


def shown(ratios: list[list[float]]) -> str:
    middle, low, high = interval(ratios)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=", ".join(THEIRS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workload", nargs="+", default=WORKLOADS, help="of fastnn bench")
    options: Any = parser.parse_args(arguments)
    if unknown := set(options.libraries) - set(THEIRS):
        parser.error(f"unknown {', '.join(unknown)}: expected {', '.join(THEIRS)}")
    for library in options.libraries or THEIRS:
        if find_spec(library) is None:
            print(f"{library}: not installed", file=sys.stderr)
            continue
        for workload in options.workload:
            ratios: Ratios = {}
            for _ in range(PROCESSES):
                measure(library, workload, options.threads, ratios)
            for order in "imported first", "imported after":
                print(
                    f"{library:8}{order:16}{workload:10} ours {shown(ratios[order, 'ours'])}, "
                    f"theirs {shown(ratios[order, 'theirs'])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
