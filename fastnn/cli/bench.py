"""`fastnn bench`: fastnn beside NumPy and whatever peers are installed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastnn.cli.arguments import names, number, whole
from fastnn.preprocessing.columns import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.bench.compare import Measurable, Record, Team
    from fastnn.bench.outputs import Outputs
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
  fastnn bench --growth batch          time and memory, 1 to 16,384 rows; or width, depth, threads
  fastnn bench --cold-start            from python -c to a trained model; sizes on the disk
  fastnn bench --out runs/bench        also bench.json, bench.csv and bench.png
  fastnn bench --compare runs/bench/bench.json
  FASTNN_ISA=avx2 fastnn bench wide    everyone limited to AVX2

Contenders start from the same weights and must compute the same losses, else they are not timed.
A speedup is the median of paired ratios, with its 95% bootstrap interval."""

QUICK_WORKLOADS = ("digits", "small", "medium", "wide")  # the longest has what the others leave
QUICK_SECONDS = 48.0  # from the start of the command until the last step is timed
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
        "them, or none (default: all that are installed, with --quick those that start soon)",
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
    parser.add_argument(
        "--aims",
        action="store_true",
        help="after training steps also what fastnn's developers ask of each, beside what was found",
    )
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
    kind.add_argument(
        "--growth",
        choices=("batch", "width", "depth", "threads"),
        help="measure how time and memory of a step grow along an axis",
    )
    kind.add_argument(
        "--cold-start",
        action="store_true",
        help="measure from python -c to a trained model, and the sizes on the disk",
    )
    parser.add_argument(
        "--seconds", type=number(1.0), metavar="S", help="time for --growth (150) or --cold-start"
    )
    parser.add_argument(
        "--compare", metavar="OLD.json", help="show what became slower, beyond the noise, since OLD"
    )
    parser.add_argument("--out", metavar="DIR", help="write figures (JSON, CSV) and picture there")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--csv", metavar="FILE", help="write a table to FILE")
    parser.add_argument("--png", metavar="FILE", help="write the picture to FILE (also .svg, .pdf)")
    parser.add_argument("--log", metavar="FILE", help="what the contenders' processes complain of")


def run(arguments: argparse.Namespace) -> int:
    from fastnn.bench import regressions
    from fastnn.bench.client import available_cpus, unlimited
    from fastnn.bench.contenders import CONTENDERS

    for name in [arguments.against, *(arguments.peers or [])]:
        if name not in CONTENDERS and name != "none":
            raise ValueError(unknown("contender", name, tuple(CONTENDERS)))
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        print(f"fastnn bench: {line}", file=sys.stderr, flush=True)

    tasks, effort = _tasks(arguments)
    cpus = _cores(arguments, available_cpus(), note)
    outputs = _outputs(arguments, note)  # what cannot be written shows now, not after ten minutes
    if arguments.peers == []:
        note("--peers names nobody: taken as none")
    if _peers(arguments) and (said := unlimited()):
        note(said)
    old = regressions.load(arguments.compare) if arguments.compare else None
    run = _Run(arguments, cpus, notes, note, outputs)
    with ExitStack() as stack:
        if arguments.log:
            run.log = stack.enter_context(open(arguments.log, "w", encoding="utf-8"))
        try:
            if arguments.cold_start:
                _cold_start(run)
            elif arguments.growth:
                _growth(run)
            else:
                _with_team(run, tasks, effort)
        except BaseException:  # Ctrl-C too: what there is, is kept
            if run.results:
                outputs.write(run.document(), picture=False)
            raise
    if old is not None:
        outputs.write(run.document(), picture=False)  # kept, whatever the comparison meets
        run.figures["compared"] = regressions.changes(old, run.document())
        print("\n".join(regressions.lines(run.figures["compared"], arguments.compare)))
    outputs.write(run.document())
    print(outputs.written())
    return 0


class _Run:
    """What a run has to work with, and what it has found so far."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        cpus: list[int],
        notes: list[str],
        note: Callable[[str], None],
        outputs: Outputs,
    ) -> None:
        from fastnn.bench import report

        self.arguments, self.cpus, self.note, self.outputs = arguments, cpus, note, outputs
        self.notes, self.started = notes, time.monotonic()
        self.log: IO[str] | None = None
        self.info = report.machine()
        self.settings: Record = {
            "cpus": cpus, "threads": len(cpus), "quick": arguments.quick, "unpinned": None,
        }  # fmt: skip
        self.versions: Record = {}
        self.ceilings: Record = {"fma": {}, "bandwidth": {}}
        self.results: list[Record] = []
        self.figures: Record = {}

    def document(self) -> Record:
        from fastnn.bench import report

        return report.document(
            self.info, self.settings, self.versions, self.ceilings, self.results, self.notes,
            self.figures,
        )  # fmt: skip

    def meet(self, team: Team) -> None:
        """Take over what the team knows, and print the lines above the tables."""
        from fastnn.bench import report

        self.versions, self.ceilings = team.versions, team.ceilings
        self.settings["unpinned"] = team.ours.unpinned
        lines = report.header(self.info, self.settings, self.versions, self.ceilings)
        print("\n".join(lines), flush=True)


def _outputs(arguments: argparse.Namespace, note: Callable[[str], None]) -> Outputs:
    """The files to write, tried out."""
    from fastnn.bench.outputs import Outputs

    stem, draw = "bench", "overview"
    if arguments.growth:
        stem, draw = f"growth-{arguments.growth}", "growth_curves"
    elif arguments.cold_start:
        stem, draw = "cold-start", "cold_start_bars"
    for kind in ("gemm", "kernels", "scaling", "neighbour", "breakdown"):
        if getattr(arguments, kind):
            stem = kind
            draw = draw if kind in ("gemm", "kernels") else ""

    def picture(document: Record) -> Figure:
        from fastnn.bench import pictures

        figure: Figure = getattr(pictures, draw)(document)
        return figure

    return Outputs(
        arguments.out,
        stem,
        json=arguments.json,
        csv=arguments.csv,
        png=arguments.png,
        draw=picture if draw else None,
        note=note,
    )


def _with_team(run: _Run, tasks: list[Any], effort: Effort) -> None:
    """Everything that one team on the same cores measures."""
    from fastnn.bench.compare import Team

    arguments = run.arguments
    run.settings |= asdict(effort)
    peers = _peers(arguments)
    with Team(arguments.against, peers, run.cpus, run.note, log=run.log) as team:
        run.meet(team)
        if arguments.breakdown:
            _breakdown(team, tasks, run.results)
        elif arguments.neighbour:
            _neighbour(arguments, team, tasks, run.results)
        else:
            end = run.started + QUICK_SECONDS if arguments.quick else None
            run.figures |= _compare(arguments, team, tasks, effort, run.results, end)
            run.figures |= _dots(run, team, tasks)


def _dots(run: _Run, team: Team, tasks: list[Any]) -> Record:
    """The kernels for the picture of the roof: those just measured, or, after training steps where a
    picture is wanted, each of them for a moment, ours alone."""
    from fastnn.bench import pairs, roofline
    from fastnn.bench.client import WorkerFailed

    arguments = run.arguments
    if arguments.gemm or arguments.kernels:
        return {"roofline": roofline.dots(run.results, tasks)}
    if not run.outputs.png or arguments.scaling or arguments.against != "fastnn":
        return {}
    records = []
    kernels = [replace(task, dtype=arguments.dtype) for task in roofline.TASKS]
    for task in kernels:
        try:
            records.append(team.measure(task, pairs.ALONE, alone=True))
        except WorkerFailed as error:
            team.note(f"{task.name}: {error}")
    return {"roofline": roofline.dots(records, kernels)}


def _growth(run: _Run) -> None:
    """Print what a step costs along an axis."""
    from fastnn.bench import growth

    arguments = run.arguments
    peers = _peers(arguments)
    points = growth.growth(
        arguments.growth, arguments.against, peers, run.cpus, run.note,
        threads=arguments.threads, dtype=arguments.dtype,
        seconds=arguments.seconds or (growth.SECONDS / 4 if arguments.quick else growth.SECONDS),
        log=run.log,
    )  # fmt: skip
    names: list[str] = []
    for team, record in points:
        run.settings["threads"] = len(team.ours.cpus)  # in the end the most of them
        if not run.results:
            run.meet(team)
            names = [worker.name for worker in (team.ours, *team.peers)]
            print(growth.heading(arguments.growth, names), flush=True)
        run.results.append(record)
        print(growth.row(record, names), flush=True)
    if not run.results:
        raise RuntimeError("nothing could be measured; --log FILE keeps what the processes said")
    run.figures["growth"] = growth.curves(run.results)


def _cold_start(run: _Run) -> None:
    """Print what it takes from nothing to a trained model, and what lies on the disk."""
    from fastnn.bench import cold_start, footprint, report

    arguments = run.arguments
    if arguments.against not in cold_start.CONTENDERS:
        raise ValueError(
            f"{arguments.against} has no program for a cold start: leave out --against, or choose one "
            f"of {', '.join(cold_start.CONTENDERS)}"
        )
    names = [arguments.against]
    for name in _peers(arguments):
        if name in cold_start.CONTENDERS:
            names += [name] * (name not in names)
        elif arguments.peers is not None:  # asked for by name
            run.note(f"{name} has no program for a cold start; going on without it")
    run.settings["unpinned"] = cold_start.can_pin(run.cpus)
    run.versions = {name: footprint.versions(name) for name in names}
    print("\n".join(report.header(run.info, run.settings, run.versions, run.ceilings)), flush=True)
    quick = arguments.quick
    record = cold_start.cold_start(
        names, run.cpus, run.note,
        rounds=cold_start.QUICK_ROUNDS if quick else cold_start.ROUNDS,
        fewest=cold_start.QUICK_FEWEST if quick else cold_start.FEWEST,
        seconds=arguments.seconds or (cold_start.QUICK_SECONDS if quick else cold_start.SECONDS),
    )  # fmt: skip
    run.results.append(record)
    timed = [name for name in names if name in record["phases"]]
    run.figures["footprint"] = cold_start.footprints(
        timed, run.cpus, run.note, rounds=1 if quick else 3
    )
    print("\n".join(cold_start.lines(record, run.figures["footprint"])), flush=True)


def _cores(
    arguments: argparse.Namespace, available: list[int], note: Callable[[str], None]
) -> list[int]:
    """As many as there are threads; the last ones: interrupts mostly go to the first."""
    pair = arguments.scaling or arguments.neighbour
    if arguments.growth == "threads":
        if len(available) < 2:
            note("this process may use one core: --growth threads has one point")
        return available
    if pair and len(available) < 2:
        raise ValueError(
            "--scaling and --neighbour need two cores, this process may use one: allow it another "
            "(taskset -c 0,1, or the cpuset of its container), or measure without them"
        )
    threads = 2 if pair else arguments.threads
    if threads > len(available):
        note(f"{threads} threads asked for, {len(available)} core(s) to run on: using those")
    return available[-threads:]


def _tasks(arguments: argparse.Namespace) -> tuple[list[Any], Effort]:
    """What to measure, and how long."""
    from fastnn.bench import kernels, pairs, threads, workloads

    quick, wanted = arguments.quick, arguments.workloads
    for kind in ("scaling", "growth", "cold_start"):
        if wanted and getattr(arguments, kind):
            option = "--" + kind.replace("_", "-")
            raise ValueError(f"{option} measures a list of its own: leave out {wanted[0]!r}")
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
    for name in wanted if arguments.breakdown else ():
        if name.endswith(".safetensors") and not Path(name).is_file():
            raise FileNotFoundError(f"{name}: there is no such model file")
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
    skipped: tuple[str, ...] = ()
    if arguments.quick or arguments.kernels or arguments.growth:
        skipped = SLOW_TO_START
    if arguments.kernels:
        skipped += STEPS_ONLY
    if arguments.growth or arguments.quick:
        skipped += ("jax-scan",)
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
    end: float | None = None,
) -> Record:
    """Measure each task and print its row, then the figures drawn from all; what ours cannot do is
    said and passed over. Where there is an `end`, training steps share the time until then."""
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
        print(report.heading(team.ours.label), flush=True)
    for i, task in enumerate(tasks):
        if end is not None and calls and i and time.monotonic() > end:
            team.note(f"the time of --quick is over: {len(tasks) - i} of {len(tasks)} left out")
            break
        if end is not None and not calls:
            share = (end - time.monotonic()) / (len(tasks) - i)
            effort = replace(effort, limit=max(0.75 * share, 1.0))  # the rest: building, compiling
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
    if arguments.aims or lines is not report.step_lines:
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

    print(threads.neighbour_heading(), flush=True)
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
