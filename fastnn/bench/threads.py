"""What a second thread brings, and what it costs: alone, on small work, and beside a busy neighbour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

from fastnn.bench.client import WorkerFailed, WorkerProcess
from fastnn.bench.compare import Record
from fastnn.bench.kernels import Kernel
from fastnn.bench.report import duration
from fastnn.bench.workloads import WORKLOADS, Gemm, Workload

ONE = "one thread"

# Two threads are to be so many times as fast as one on these, and never slower on the others.
SCALING_AIMS = {"wide": 1.9, "deep": 1.9}
# A paired median below this is slower; above it, it is the noise of a machine with neighbours.
NEVER_SLOWER = 0.98

SCALING: tuple[Workload | Gemm | Kernel, ...] = (
    *(WORKLOADS[name] for name in ("wide", "deep", "deep-bn", "medium", "small", "tiny")),
    WORKLOADS["digits"],
    WORKLOADS["digits-bn"],
    *(Gemm("forward", (n, 128, 128)) for n in (1, 16, 64, 256)),
    *(Kernel("sigmoid", shape) for shape in ((1, 64), (8, 512), (128, 512))),
    *(Kernel("batchnorm_forward", shape) for shape in ((64, 128), (128, 512))),
)
SCALING_QUICK = tuple(task for task in SCALING if task.name in ("medium", "tiny", "digits"))


def scaling_figures(records: Sequence[Record]) -> Record:
    """How many times as fast two threads are, beside what is asked."""
    rows = []
    for record in records:
        speedup = record["peers"].get(ONE, {}).get("speedup")
        if speedup is not None:
            aim = SCALING_AIMS.get(record["name"])
            least = NEVER_SLOWER if aim is None else aim
            rows.append(
                {
                    "name": record["name"],
                    "speedup": speedup["median"],
                    "asked": aim or 1.0,
                    "reached": speedup["median"] >= least,
                }
            )
    return {"scaling": rows}


def scaling_lines(figures: Record) -> Iterator[str]:
    """`scaling_figures` as a table."""
    yield "two threads, times as fast as one"
    for row in figures["scaling"]:
        mark = "" if row["reached"] else "   missed"
        yield f"{row['name']:<32} {row['speedup']:>6.2f}×   {row['asked']:.2f} asked{mark}"


NEIGHBOUR_AIM = 1.1  # times the undisturbed time of one thread
NEIGHBOUR_WORKLOADS = ("medium", "wide")
SLICES = 5


def neighbour(
    name: str, workload: Workload, cpus: list[int], seconds: float, log: IO[str] | None = None
) -> Record:
    """Total wall time of the same steps: one thread undisturbed, then two threads, undisturbed and
    while another process spins on one of their two cores.

    Parameters
    ----------
    name : str
        A contender.
    workload : Workload
    cpus : list of int
        Two cores; the neighbour sits on the last, one thread on the first.
    seconds : float
        About how long one thread takes for all steps. They are cut into `SLICES` turns, so that a
        drift of the machine meets all three.

    Raises
    ------
    WorkerFailed
        The contender cannot be started, or cannot run it.
    """
    if len(cpus) != 2:
        raise WorkerFailed(f"two cores are needed, there are {len(cpus)}")
    with (
        WorkerProcess(name, cpus[:1], log=log) as one,
        WorkerProcess(name, cpus, log=log) as two,
        WorkerProcess("machine", cpus[1:], log=log) as spinner,
    ):
        one.build(workload)
        two.build(workload)
        steps = one.ask("calibrate", seconds=seconds / SLICES)["steps"]
        two.ask("time", steps=1)
        totals = dict.fromkeys(("one", "two", "disturbed"), 0.0)

        def run(worker: WorkerProcess, key: str) -> None:
            answer = worker.ask("time", steps=steps)
            totals[key] += answer["seconds"] * steps / answer["steps"]

        for _ in range(SLICES):
            run(one, "one")
            run(two, "two")
            spinner.ask("spin", on=True)
            run(two, "disturbed")
            spinner.ask("spin", on=False)
        return {
            "name": workload.name,
            "dtype": workload.dtype,
            "ours": name,
            "peers": {},
            "steps": steps * SLICES,
            "seconds": totals["disturbed"] / (steps * SLICES),
            "totals": totals,
            "ratio": totals["disturbed"] / totals["one"],
        }


def neighbour_heading() -> str:
    """The line above `neighbour_row`."""
    return _NEIGHBOUR.format("", "", "steps", "one thread", "two", "two, busy", "busy/one", "asked")


_NEIGHBOUR = "{:<10} {:<14} {:>7} {:>11} {:>9} {:>10} {:>9} {:>7}"


def neighbour_row(record: Record, label: str) -> str:
    """One workload of one contender; the times are totals."""
    totals: dict[str, Any] = record["totals"]
    return _NEIGHBOUR.format(
        record["name"],
        label,
        record["steps"],
        duration(totals["one"]),
        duration(totals["two"]),
        duration(totals["disturbed"]),
        f"{record['ratio']:.2f}×",
        f"{NEIGHBOUR_AIM:.1f}×",
    )
