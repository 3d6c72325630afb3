"""How the cost of a training step grows: with the batch, the width, the depth and the threads.

One network is made larger along one axis, and at each point fastnn and the peers are measured as
everywhere in this package: checked, alternated on the same cores, in processes of their own. Beside
the time stands the peak of the memory that each process held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any

from fastnn.bench.client import WorkerFailed
from fastnn.bench.compare import Record, Team
from fastnn.bench.pairs import Effort
from fastnn.bench.report import duration
from fastnn.bench.workloads import WORKLOADS, Workload

AXES = ("batch", "width", "depth", "threads")
# What the axis of a picture says, and the network that grows.
TITLES = {
    "batch": ("rows in a batch", "784-256-256-10, ReLU"),
    "width": ("units in each layer", "batch 128, two hidden layers, ReLU"),
    "depth": ("hidden layers", "batch 128, layers of 256, tanh"),
    "threads": ("threads", WORKLOADS["wide"].describe()),
}
SECONDS = 150.0  # for a whole axis
# A batch of one row is learnt by heart in a single step at the usual rate; what follows is
# arithmetic on numbers that vanish, which no training does.
SLOW = 1e-4


def points(axis: str, cores: int) -> list[tuple[int, Workload]]:
    """The values along an axis, each with its network.

    >>> [value for value, _ in points("threads", cores=6)]
    [1, 2, 4, 6]
    >>> points("depth", cores=1)[2][1].describe()
    '128:256-256-256-256-10:tanh'
    """
    if axis == "batch":
        sizes = (784, 256, 256, 10)
        return [(n, Workload(f"batch {n}", n, sizes, lr=SLOW)) for n in _doubling(1, 16384)]
    if axis == "width":
        sides = _doubling(16, 4096)
        return [(h, Workload(f"width {h}", 128, (h, h, h, 10), lr=SLOW)) for h in sides]
    if axis == "depth":
        return [
            (n, Workload(f"depth {n}", 128, (*[256] * (n + 1), 10), "tanh"))
            for n in (1, 2, 3, 5, 8, 12, 20, 30, 50)
        ]
    return [(n, WORKLOADS["wide"]) for n in sorted({*_doubling(1, cores), cores})]


def _doubling(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def growth(
    axis: str,
    ours: str,
    peers: Sequence[str],
    cpus: Sequence[int],
    note: Callable[[str], None],
    *,
    threads: int = 1,
    dtype: str = "float32",
    seconds: float = SECONDS,
    log: IO[str] | None = None,
) -> Iterator[tuple[Team, Record]]:
    """Measure each point of an axis, in about so many seconds altogether.

    Parameters
    ----------
    axis : str
        One of `AXES`.
    ours, peers, note, log
        As in `Team`.
    cpus : sequence of int
        All cores that may be used.
    threads : int
        For everyone, except along the axis of the threads.
    seconds : float
        Points get equal shares of what is left. A point that cannot be begun in time is left out,
        and `note` is told.

    Yields
    ------
    Team, dict
        The team, and what `Team.measure` gives, with ``axis``, ``value`` and ``memory``: for each
        contender the most bytes that its process ever held while it did this.

    Raises
    ------
    WorkerFailed
        Ours cannot be started.
    """
    todo = points(axis, len(cpus))
    end = float("inf")  # the clock starts when everyone is there
    with ExitStack() as stack:
        team: Team | None = None
        for i, (value, workload) in enumerate(todo):
            if axis == "threads":
                stack.close()
                team = None
            if team is None:
                count = value if axis == "threads" else threads
                team = stack.enter_context(Team(ours, peers, list(cpus)[-count:], note, log=log))
            end = min(end, time.monotonic() + seconds)
            left = end - time.monotonic()
            if left <= 0 and i:
                names = ", ".join(str(value) for value, _ in todo[i:])
                note(f"{seconds:.0f} s are over: {axis} {names} left out")
                return
            try:
                record = _measure(team, workload, dtype, left / (len(todo) - i))
            except WorkerFailed as error:
                note(f"{axis} {value}: {error}")
                continue
            yield team, record | {"axis": axis, "value": value}


def _measure(team: Team, workload: Workload, dtype: str, seconds: float) -> Record:
    """One point. Half of its time is for building, compiling and checking."""
    effort = Effort(0.03, min_pairs=5, max_pairs=15, budget=seconds / 4, limit=seconds / 2)
    workers = (team.ours, *team.peers)
    for worker in workers:
        worker.ask("memory", reset=True)
    task = Workload(**{**vars(workload), "dtype": dtype})
    record = team.measure(task, effort)
    memory = {worker.name: worker.ask("memory")["peak"] for worker in workers}
    timed = {team.ours.name, *(n for n, p in record["peers"].items() if "speedup" in p)}
    return record | {"memory": {name: memory[name] for name in memory if name in timed}}


CELL = "{:>12} {:>8}"


def heading(axis: str, names: Sequence[str]) -> str:
    """The line above `row`."""
    return f"{axis:<9}" + "".join(CELL.format(name, "MB") for name in names)


def row(record: Record, names: Sequence[str]) -> str:
    """One point: time of a step and peak memory of everyone."""
    line = f"{record['value']:<9,}"
    for name in names:
        seconds = seconds_of(record, name)
        memory = record["memory"].get(name)
        line += CELL.format(
            "" if seconds is None else duration(seconds),
            f"{memory / 1e6:,.0f}" if memory else "",
        )
    return line.rstrip()


def seconds_of(record: Record, name: str) -> float | None:
    """The time of a step of one contender, or None where it was not timed."""
    if name == record["ours"]:
        return float(record["seconds"])
    found = record["peers"].get(name, {}).get("seconds")
    return None if found is None else float(found)


def curves(records: Sequence[Record]) -> dict[str, dict[str, list[Any]]]:
    """For each contender ``value``, ``steps_per_second`` and ``megabytes``, of the points it has."""
    found: dict[str, dict[str, list[Any]]] = {}
    for record in records:
        for name in (record["ours"], *record["peers"]):
            seconds = seconds_of(record, name)
            if seconds is None:
                continue
            curve = found.setdefault(name, {"value": [], "steps_per_second": [], "megabytes": []})
            curve["value"].append(record["value"])
            curve["steps_per_second"].append(1 / seconds)
            memory = record["memory"].get(name)
            curve["megabytes"].append(None if memory is None else memory / 1e6)
    return found
