"""Batch norm in training, forward and backward, beside PyTorch, JAX and NumPy on one pinned core.

    python benchmarks/batchnorm.py                    # every shape, half a minute
    python benchmarks/batchnorm.py 4096x1024 32x64x56x56 --peers torch
    FASTNN_ISA=avx2 python benchmarks/batchnorm.py    # everyone limited to AVX2

Each contender has a process of its own, writes into arrays that are given (`out=`) where it takes
them, and is checked against `fastnn.reference` in float64 before it is timed, in short rounds that
alternate with ours. A ratio is the median of the paired rounds; the last column is what was aimed
at, and whether it is reached: 1.5 times the fastest of all in cache, and beyond it PyTorch by 1.25
(forward) and 1.1 (backward), for images by 1.5.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

from fastnn.bench.client import WorkerFailed, available_cpus
from fastnn.bench.compare import Record, Team
from fastnn.bench.contenders import REQUIRES
from fastnn.bench.pairs import CALLS, Effort
from fastnn.bench.report import duration
from fastnn.bench.workloads import BATCHNORM_SHAPES, Kernel

OPERATIONS = ("batchnorm_forward", "batchnorm_relu_forward", "batchnorm_backward")
IN_CACHE = 4 << 20  # bytes of one array
ROW = "{:<38} {:>10} {:>7} {:>28}  {}"


def aim(task: Kernel, record: Record) -> tuple[float, str]:
    """The ratio to be reached, and to whom: PyTorch, or whoever is the fastest."""
    timed = {name: peer["seconds"] for name, peer in record["peers"].items() if "seconds" in peer}
    fastest = min(timed, key=timed.__getitem__)
    peer = "torch" if "torch" in timed else fastest
    if len(task.shape) > 2:
        return 1.5, peer
    if 4 * math.prod(task.shape) < IN_CACHE:
        return 1.5, fastest
    return (1.1 if task.op == "batchnorm_backward" else 1.25), peer


def cells(task: Kernel, record: Record) -> Iterator[str]:
    """One line of the table."""
    yield task.name
    yield duration(record["seconds"])
    yield f"{record['bytes'] / record['seconds'] / 1e9:.1f}"
    ratios = {
        name: peer["speedup"]["median"]
        for name, peer in record["peers"].items()
        if "speedup" in peer
    }
    yield "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    if not ratios:
        yield ""
        return
    wanted, peer = aim(task, record)
    reached = "yes" if ratios[peer] >= wanted else "NO"
    yield f"{wanted}x {peer}: {reached}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = ["x".join(map(str, shape)) for shape in BATCHNORM_SHAPES]
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(names)}")
    parser.add_argument("--peers", default="torch,jax,numpy", help="default: those installed")
    parser.add_argument("--operations", default=",".join(OPERATIONS))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--cpu", type=int, default=available_cpus()[-1], help="the core to use")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds a task, at least")
    options = parser.parse_args(arguments)
    if unknown := set(options.shapes) - set(names):
        parser.error(f"unknown shape {', '.join(sorted(unknown))}: expected of {', '.join(names)}")
    peers = [p for p in options.peers.split(",") if find_spec(REQUIRES.get(p, "numpy"))]
    effort = replace(CALLS, min_pairs=15, budget=options.budget)

    def note(line: str) -> None:
        print(f"benchmarks/batchnorm.py: {line}", file=sys.stderr)

    with Team("fastnn", peers, [options.cpu], note) as team:
        print(f"core {options.cpu}, {options.dtype}, {team.versions}")
        print(ROW.format("", "fastnn", "GB/s", "times faster than", "aim"))
        for operation in options.operations.split(","):
            for shape, name in zip(BATCHNORM_SHAPES, names, strict=True):
                if not options.shapes or name in options.shapes:
                    measure(team, Kernel(operation, shape, options.dtype), effort)
    return 0


def measure(team: Team, task: Kernel, effort: Effort) -> None:
    """Time one task and print its line."""
    try:
        record = team.measure(task, effort)
    except WorkerFailed as error:
        print(f"{task.name}: {error}")
        return
    for name, peer in record["peers"].items():
        if "refused" in peer:
            print(f"{task.name}: {name} {peer['refused']}")
    print(ROW.format(*cells(task, record)), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
