"""`fastnn bench`: fastnn beside NumPy and whatever peers are installed."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastnn.cli.arguments import names, whole
from fastnn.preprocessing.columns import unknown

if TYPE_CHECKING:
    from fastnn.bench.compare import Record, Team
    from fastnn.bench.pairs import Effort
    from fastnn.bench.workloads import Task

HELP = "measure training steps and kernels beside NumPy, PyTorch, JAX and scikit-learn"

DESCRIPTION = """\
Measure whole training steps (forward, loss, backward, update) of fastnn and of whatever peers
are installed, on the same cores, one process each, in short alternated rounds.

  fastnn bench                         all workloads, about ten minutes
  fastnn bench --quick                 the headline, under a minute
  fastnn bench medium wide --threads 2
  fastnn bench 128:784-512-10:bn+relu  any network, as batch:sizes:activation
  fastnn bench --gemm                  matrix products: fraction of the FMA peak, ratio to NumPy
  fastnn bench --kernels               activations and batch norm
  fastnn bench --breakdown wide        where the time of a step goes
  FASTNN_ISA=avx2 fastnn bench wide    everyone limited to AVX2

Contenders start from the same weights and must compute the same losses, else they are not timed.
A speedup is the median of paired ratios, with its 95% bootstrap interval."""

QUICK_WORKLOADS = ("small", "medium", "wide", "digits")
# Not in a run without --peers: their start or their compiling takes longer than the rest.
SLOW_TO_START = ("torch-compile",)
STEPS_ONLY = ("torch-compile", "jax-scan", "sklearn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help="tiny, small, medium, wide, deep, deep-bn, digits, digits-bn, or "
        "batch:sizes:activation (default: all)",
    )
    parser.add_argument(
        "--peers",
        type=names,
        help="numpy, reference, torch, torch-compile, jax, jax-scan, sklearn, with commas between "
        "them, or none (default: all that are installed, torch-compile only in a full run)",
    )
    parser.add_argument(
        "--against", default="fastnn", metavar="NAME", help="whom to pair the peers with (fastnn)"
    )
    parser.add_argument("--threads", type=whole(1), default=1, help="threads for everyone (1)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--gemm", action="store_true", help="measure matrix products")
    kind.add_argument("--kernels", action="store_true", help="measure activations and batch norm")
    kind.add_argument("--breakdown", action="store_true", help="time each kernel of a step")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--csv", metavar="FILE", help="write a table to FILE")
    parser.add_argument("--log", metavar="FILE", help="what the contenders' processes complain of")


def run(arguments: argparse.Namespace) -> int:
    from fastnn.bench import report
    from fastnn.bench.client import available_cpus
    from fastnn.bench.compare import Team
    from fastnn.bench.contenders import CONTENDERS

    for name in [arguments.against, *(arguments.peers or [])]:
        if name not in CONTENDERS and name != "none":
            raise ValueError(unknown("contender", name, tuple(CONTENDERS)))
    tasks, effort = _tasks(arguments)
    notes: list[str] = []
    results: list[Record] = []

    def note(line: str) -> None:
        notes.append(line)
        print(f"fastnn bench: {line}", file=sys.stderr, flush=True)

    cpus = available_cpus()
    if arguments.threads > len(cpus):
        note(f"{arguments.threads} threads asked for, {len(cpus)} core(s) to run on: using those")
    cpus = cpus[-arguments.threads :]  # the last ones: interrupts mostly go to the first
    with ExitStack() as stack:
        log = (
            stack.enter_context(open(arguments.log, "w", encoding="utf-8"))
            if arguments.log
            else None
        )
        info = report.machine()
        team = stack.enter_context(Team(arguments.against, _peers(arguments), cpus, note, log=log))
        settings = {"cpus": cpus, "threads": len(cpus), "quick": arguments.quick, **asdict(effort)}

        def save() -> None:
            if arguments.json:
                head = (info, settings, team.versions, team.ceilings)
                report.write_json(arguments.json, report.document(*head, results, notes))
            if arguments.csv:
                report.write_csv(arguments.csv, results)

        save()  # a folder that cannot be written shows now, not after ten minutes
        print("\n".join(report.header(info, settings, team.versions, team.ceilings)), flush=True)
        if arguments.breakdown:
            _breakdown(team, tasks, results)
        else:
            try:
                _compare(team, tasks, effort, results)
            finally:
                save()
        if arguments.gemm:
            print("\n".join(report.gemm_summary(results)))
        save()
    return 0


def _tasks(arguments: argparse.Namespace) -> tuple[list[Task], Effort]:
    """What to measure, and how long."""
    from fastnn.bench import pairs, workloads

    calls = arguments.gemm or arguments.kernels
    if calls and arguments.workloads:
        raise ValueError(
            f"--gemm and --kernels measure lists of their own: leave out {arguments.workloads[0]!r}"
        )
    effort = pairs.QUICK_CALLS if arguments.quick else pairs.CALLS
    if arguments.gemm:
        shapes = list(workloads.GEMM_AIMS) if arguments.quick else workloads.GEMM_GRID
        uses = workloads.GEMM_USES
        return [workloads.Gemm(use, s, arguments.dtype) for s in shapes for use in uses], effort
    if arguments.kernels:
        quick = [k for k in workloads.KERNELS if k.shape in ((128, 512), (1000, 500))]
        chosen = quick if arguments.quick else workloads.KERNELS
        return [replace(kernel, dtype=arguments.dtype) for kernel in chosen], effort
    wanted = arguments.workloads or (QUICK_WORKLOADS if arguments.quick else workloads.WORKLOADS)
    effort = pairs.QUICK_STEPS if arguments.quick else pairs.STEPS
    return [workloads.parse(name, arguments.dtype) for name in wanted], effort


def _peers(arguments: argparse.Namespace) -> list[str]:
    """Those asked for, or those whose framework is there to be imported."""
    from fastnn.bench.contenders import CONTENDERS, REQUIRES

    if arguments.breakdown:
        return []
    if arguments.peers is not None:
        return [name for name in arguments.peers if name != "none"]
    if arguments.gemm:
        return ["numpy"]
    skipped: tuple[str, ...]
    skipped = STEPS_ONLY if arguments.kernels else SLOW_TO_START if arguments.quick else ()
    return [
        name
        for name in CONTENDERS
        if name not in (*skipped, "fastnn", "reference") and find_spec(REQUIRES.get(name, "numpy"))
    ]


def _compare(team: Team, tasks: list[Task], effort: Effort, results: list[Record]) -> None:
    """Measure each task and print its rows; what ours cannot do is said and passed over."""
    from fastnn.bench import report
    from fastnn.bench.client import WorkerFailed

    labels = {worker.name: worker.label for worker in (team.ours, *team.peers)}
    print(report.heading(team.ours.label))
    for task in tasks:
        try:
            results.append(team.measure(task, effort))
        except WorkerFailed as error:
            team.note(f"{task.name}: {error}")
            continue
        print("\n".join(report.rows(results[-1], labels)), flush=True)
    if not results:
        raise RuntimeError("nothing could be measured; --log FILE keeps what the processes said")


def _breakdown(team: Team, tasks: list[Task], results: list[Record]) -> None:
    """Print where the time of each network's step goes."""
    from fastnn.bench import report

    for task in tasks:
        results.append(team.breakdown(task))
        print("\n".join(report.breakdown_lines(results[-1])), flush=True)
