"""`fastnn bench`: fastnn beside NumPy and whatever peers are installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli.arguments import names, whole
from fastnn.preprocessing.columns import unknown

if TYPE_CHECKING:
    from fastnn.bench.compare import Measurable, Record, Team
    from fastnn.bench.pairs import Effort
    from fastnn.bench.workloads import SavedModel, Workload

HELP = "measure training steps and kernels beside NumPy, PyTorch, JAX and scikit-learn"

DESCRIPTION = """\
Measure whole training steps (forward, loss, backward, update) of fastnn and of whatever peers
are installed, on the same cores, one process each, in short alternated rounds.

  fastnn bench                         all workloads, about ten minutes
  fastnn bench --quick                 the headline, under a minute
  fastnn bench medium wide --threads 2
  fastnn bench 128:784-512-10:bn+relu  any network, as batch:sizes:activation
  fastnn bench --gemm                  matrix products: fraction of the FMA peak, ratio to NumPy
  fastnn bench --gemm aims             only the shapes with an aim; or a use, or shapes as NxDxH
  fastnn bench --kernels               activations, losses and batch norm
  fastnn bench --kernels sigmoid gelu  only those, forward and backward; or shapes as 128x512
  fastnn bench --scaling               two threads beside one
  fastnn bench --neighbour             two threads beside another busy process
  fastnn bench --breakdown wide        where the time of a step goes, kernel by kernel
  fastnn bench --breakdown runs/digits/model.safetensors --batch 32
  FASTNN_ISA=avx2 fastnn bench wide    everyone limited to AVX2

Contenders start from the same weights and must compute the same losses, else they are not timed.
A speedup is the median of paired ratios, with its 95% bootstrap interval."""

QUICK_WORKLOADS = ("small", "medium", "wide", "digits")
# Not in a run without --peers: their start or their compiling takes longer than the rest.
SLOW_TO_START = ("torch-compile",)
STEPS_ONLY = ("jax-scan", "sklearn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help="tiny, small, medium, wide, deep, deep-bn, digits, digits-bn, digits-fit, "
        "digits-bn-fit (through fit), or batch:sizes:activation (default: all); with --breakdown "
        "also a model file; with --gemm and --kernels, which of them",
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
    parser.add_argument(
        "--batch", type=whole(1), default=128, help="rows a step for --breakdown of a file (128)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--gemm", action="store_true", help="measure matrix products")
    kind.add_argument(
        "--kernels", action="store_true", help="measure activations, losses and batch norm"
    )
    kind.add_argument("--scaling", action="store_true", help="measure two threads beside one")
    kind.add_argument(
        "--neighbour", action="store_true", help="measure two threads beside a busy process"
    )
    kind.add_argument(
        "--breakdown", action="store_true", help="time each kernel of a step, on one thread"
    )
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
    figures: Record = {}

    def note(line: str) -> None:
        notes.append(line)
        print(f"fastnn bench: {line}", file=sys.stderr, flush=True)

    cpus = _cores(arguments, available_cpus(), note)
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
                report.write_json(arguments.json, report.document(*head, results, notes, figures))
            if arguments.csv:
                report.write_csv(arguments.csv, results)

        save()  # a folder that cannot be written shows now, not after ten minutes
        print("\n".join(report.header(info, settings, team.versions, team.ceilings)), flush=True)
        try:
            if arguments.breakdown:
                _breakdown(team, tasks, results)
            elif arguments.neighbour:
                _neighbour(arguments, team, tasks, results)
            else:
                figures.update(_compare(arguments, team, tasks, effort, results))
        finally:
            save()
    return 0


def _cores(
    arguments: argparse.Namespace, available: list[int], note: Callable[[str], None]
) -> list[int]:
    """As many as there are threads; the last ones: interrupts mostly go to the first."""
    pair = arguments.scaling or arguments.neighbour
    if pair and len(available) < 2:
        raise ValueError("--scaling and --neighbour need two cores, this process may use one")
    threads = 2 if pair else arguments.threads
    if threads > len(available):
        note(f"{threads} threads asked for, {len(available)} core(s) to run on: using those")
    return available[-threads:]


def _tasks(arguments: argparse.Namespace) -> tuple[list[Any], Effort]:
    """What to measure, and how long."""
    from fastnn.bench import kernels, pairs, threads, workloads

    quick, wanted = arguments.quick, arguments.workloads
    if wanted and arguments.scaling:
        raise ValueError(f"--scaling measures a list of its own: leave out {wanted[0]!r}")
    effort = pairs.QUICK_CALLS if quick else pairs.CALLS
    if arguments.gemm:
        return workloads.gemms(wanted, arguments.dtype, quick), effort
    if arguments.kernels:
        return kernels.chosen(wanted, arguments.dtype, quick), effort
    effort = pairs.QUICK_STEPS if quick else pairs.STEPS
    if arguments.scaling:
        listed = threads.SCALING_QUICK if quick else threads.SCALING
        return [replace(task, dtype=arguments.dtype) for task in listed], effort
    default: Iterable[str] = QUICK_WORKLOADS if quick else workloads.WORKLOADS
    if arguments.neighbour:
        default = threads.NEIGHBOUR_WORKLOADS
    if arguments.breakdown and arguments.threads > 1:
        raise ValueError("--breakdown is of one thread: leave out --threads")
    return [
        workloads.SavedModel(name, arguments.batch)
        if arguments.breakdown and Path(name).is_file()
        else workloads.parse(name, arguments.dtype)
        for name in wanted or default
    ], effort


def _peers(arguments: argparse.Namespace) -> list[str]:
    """Those asked for, or those whose framework is there to be imported."""
    from fastnn.bench.contenders import CONTENDERS, REQUIRES

    if arguments.breakdown or arguments.scaling or arguments.neighbour:
        return []
    if arguments.peers is not None:
        return [name for name in arguments.peers if name != "none"]
    if arguments.gemm:
        return ["numpy"]
    skipped: tuple[str, ...]
    skipped = SLOW_TO_START if arguments.quick or arguments.kernels else ()
    if arguments.kernels:
        skipped += STEPS_ONLY
    return [
        name
        for name in CONTENDERS
        if name not in (*skipped, "fastnn", "reference") and find_spec(REQUIRES.get(name, "numpy"))
    ]


def _compare(
    arguments: argparse.Namespace,
    team: Team,
    tasks: list[Measurable],
    effort: Effort,
    results: list[Record],
) -> Record:
    """Measure each task and print its row, then the figures drawn from all; what ours cannot do is
    said and passed over."""
    from fastnn.bench import report, threads
    from fastnn.bench.client import WorkerFailed
    from fastnn.bench.kernels import Kernel

    if arguments.scaling:
        team.add(arguments.against, team.ours.cpus[-1:], threads.ONE)
    labels = {worker.name: worker.label for worker in (team.ours, *team.peers)}
    if arguments.scaling:
        labels[threads.ONE] = threads.ONE
    calls = arguments.gemm or arguments.kernels
    if not calls:
        print(report.heading(team.ours.label))
    for task in tasks:
        try:
            record = team.measure(task, effort)
        except WorkerFailed as error:
            team.note(f"{task.name}: {error}")
            continue
        results.append(record)
        if arguments.kernels:
            assert isinstance(task, Kernel)
            print(report.kernel_row(record, task), flush=True)
        elif arguments.gemm:
            print(report.gemm_row(record), flush=True)
        else:
            print("\n".join(report.rows(record, labels)), flush=True)
    if not results:
        raise RuntimeError("nothing could be measured; --log FILE keeps what the processes said")
    if arguments.gemm:
        figures, lines = report.gemm_figures(results), report.gemm_lines
    elif arguments.kernels:
        kernels = [task for task in tasks if isinstance(task, Kernel)]
        figures, lines = report.kernel_figures(results, kernels), report.kernel_lines
    elif arguments.scaling:
        figures, lines = threads.scaling_figures(results), threads.scaling_lines
    else:
        isa = team.versions.get("fastnn", {}).get("isa", "")
        figures, lines = report.step_figures(results, isa), report.step_lines
    print("\n".join(lines(figures)), flush=True)
    return figures


def _breakdown(team: Team, tasks: list[Workload | SavedModel], results: list[Record]) -> None:
    """Print where the time of each network's step goes."""
    from fastnn.bench import report

    for task in tasks:
        results.append(team.breakdown(task))
        print("\n".join(report.breakdown_lines(results[-1])), flush=True)


def _neighbour(
    arguments: argparse.Namespace, team: Team, tasks: list[Workload], results: list[Record]
) -> None:
    """Print what two threads take beside a busy process, for ours and any peers asked for."""
    from fastnn.bench import threads
    from fastnn.bench.client import WorkerFailed

    print(threads.neighbour_heading())
    names = [arguments.against, *(name for name in arguments.peers or () if name != "none")]
    for task in tasks:
        for name in names:
            try:
                record = threads.neighbour(
                    name, task, team.ours.cpus, 1.0 if arguments.quick else 10.0
                )
            except WorkerFailed as error:
                team.note(f"{task.name}: {error}")
                continue
            results.append(record)
            print(threads.neighbour_row(record, name), flush=True)
