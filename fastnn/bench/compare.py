"""A team of workers on the same cores: started, checked against each other, measured in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Self

from fastnn.bench.client import NotApplicable, WorkerFailed, WorkerProcess
from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import TOLERANCE
from fastnn.bench.pairs import Effort, alternate
from fastnn.bench.workloads import Gemm, SavedModel, Task, Workload, task_to_json

CHECKED_STEPS = 5
# Relative difference of the losses of the first steps. Rounding differs between the contenders
# and grows from step to step, most through ten layers of batch norm; a wrong constant or a
# forgotten update shows at once as 1e-2 and more.
LOSS_TOLERANCE = {"float32": 1e-3, "float64": 1e-9}

Record = dict[str, Any]
Measurable = Workload | Gemm | Kernel


class Team:
    """Worker processes for `ours` and the `peers`, and one for the ceilings.

    Parameters
    ----------
    ours : str
        The contender that all others are paired with.
    peers : sequence of str
        Names of `fastnn.bench.contenders.CONTENDERS`. One that cannot be started is left out,
        and `note` is told why.
    cpus : list of int
        Cores for everyone, as many as threads.
    note : callable
        Receives one line for everything the reader of the figures must know.
    isa : str, optional
        Instruction set for all.
    log : writable file, optional
        Receives what the workers write to stderr.

    Raises
    ------
    WorkerFailed
        `ours` cannot be started.
    """

    def __init__(
        self,
        ours: str,
        peers: Sequence[str],
        cpus: list[int],
        note: Callable[[str], None],
        isa: str | None = None,
        log: IO[str] | None = None,
    ) -> None:
        self.note = note
        self._stack = ExitStack()

        def start(name: str, cpus: list[int] = cpus) -> WorkerProcess:
            return self._stack.enter_context(WorkerProcess(name, cpus, isa, log))

        self._start = start
        try:
            self.ours = start(ours)
            self.machine: WorkerProcess | None = start("machine")
            self.peers: list[WorkerProcess] = []
            for name in peers:
                if name == ours:
                    continue
                try:
                    self.peers.append(start(name))
                except WorkerFailed as error:
                    note(f"{error}; going on without it")
        except BaseException:
            self._stack.close()
            raise
        if self.ours.unpinned:
            note(f"{self.ours.unpinned}: nothing is pinned, the figures are less certain")
        self.ceilings = self._measure_ceilings()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, name: str, cpus: list[int], known_as: str) -> WorkerProcess:
        """Start one more peer, on cores of its own choice, under another name."""
        worker = self._start(name, cpus)
        worker.name = known_as
        self.peers.append(worker)
        return worker

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """What each contender runs on."""
        return {worker.name: worker.versions for worker in (self.ours, *self.peers)}

    def _measure_ceilings(self) -> Record:
        """FMA peak of both types and copy bandwidth, before anything else."""
        assert self.machine is not None
        ceilings: Record = {"bandwidth": self.machine.ask("bandwidth")["bandwidths"]}
        try:
            ceilings["fma"] = {
                dtype: self.machine.ask("peak", dtype=dtype, seconds=0.1)["flops"]
                for dtype in ("float32", "float64")
            }
        except WorkerFailed as error:
            self.note(f"{error}; going on without fractions of it")
            self.machine.close()
            self.machine = None
            ceilings["fma"] = {}
        return ceilings

    def measure(self, task: Measurable, effort: Effort, alone: bool = False) -> Record:
        """Build, check and time `task` on everyone who does it, or on ours `alone`.

        Returns
        -------
        dict
            ``name``, ``seconds`` (median per step or call of ours), ``flops`` with
            ``peak_fraction`` or ``bytes`` with ``copy_fraction`` (where they do not fit in the
            caches; else None), ``disturbed`` (the share of the pairs in which another process was
            on the core), and under ``peers`` for each name either ``seconds`` and
            ``speedup`` (median, low, high, pairs), or the reason for their absence: ``refused``
            where it failed or computed something else, ``not_applicable`` where it has no such
            thing.

        Raises
        ------
        WorkerFailed
            Ours cannot do it, or gives a wrong result.
        """
        absent: dict[str, dict[str, str]] = {}
        right_answer = self._prepare(self.ours, task)
        ready = []
        for peer in () if alone else self.peers:
            try:
                self._same(task, right_answer, self._prepare(peer, task))
                ready.append(peer)
            except WorkerFailed as error:
                kind = "not_applicable" if isinstance(error, NotApplicable) else "refused"
                absent[peer.name] = {kind: str(error).removeprefix(f"{peer.name}: ")}
        measured = alternate(self.ours, ready, effort, self._ceiling(task, effort))
        record: Record = {"name": task.name, "dtype": task.dtype, "ours": self.ours.name}
        if isinstance(task, Workload):
            record |= {"network": task.describe(), "losses": right_answer}
        record["seconds"] = measured.our_seconds()
        if isinstance(task, Kernel):
            fraction = measured.peak_fraction(task.bytes)
            record |= {"bytes": task.bytes, "copy_fraction": fraction and asdict(fraction)}
        else:
            fraction = measured.peak_fraction(task.flops)
            record |= {"flops": task.flops, "peak_fraction": fraction and asdict(fraction)}
        record["disturbed"] = measured.disturbed
        record["peers"] = {
            name: {"seconds": rounds.their_seconds(), "speedup": asdict(rounds.speedup())}
            for name, rounds in measured.peers.items()
        } | absent
        return record

    def _ceiling(self, task: Measurable, effort: Effort) -> Callable[[], float] | None:
        """What measures, just before each round of ours, what the machine could do."""
        machine = self.machine
        if machine is None or (isinstance(task, Workload) and task.fit):
            return None  # a fit ends with a shorter batch
        if isinstance(task, Kernel):
            if not task.in_memory:
                return None
            return lambda: float(machine.ask("copy", size=task.bytes)["bandwidth"])
        seconds = min(0.02, effort.round_seconds)
        return lambda: float(machine.ask("peak", dtype=task.dtype, seconds=seconds)["flops"])

    def breakdown(self, task: Workload | SavedModel) -> Record:
        """Where the time of a step of ours goes, see `fastnn.bench.breakdown`.

        Raises
        ------
        WorkerFailed
            Ours is not fastnn, or the step has a part that cannot be compiled.
        """
        if self.ours.name != "fastnn" or not self.ceilings["fma"]:
            raise WorkerFailed("a breakdown needs fastnn's compiled kernels")
        answer = self.ours.ask("breakdown", task=task_to_json(task))
        return {"name": task.name, "ours": "fastnn", "peers": {}, **answer}

    def _prepare(self, worker: WorkerProcess, task: Task) -> Any:
        """Build and check one contender; returns its first losses, or the error of its result."""
        worker.build(task)
        answer = worker.ask("check", steps=CHECKED_STEPS)
        if isinstance(task, Workload):
            return answer["losses"]
        if not answer["error"] <= TOLERANCE[task.dtype]:
            raise WorkerFailed(
                f"{worker.name}: wrong result, off by {answer['error']:.1e} where "
                f"{TOLERANCE[task.dtype]:.0e} is allowed: not timed"
            )
        return answer["error"]

    @staticmethod
    def _same(task: Task, ours: Any, theirs: Any) -> None:
        """Refuse to time what does not compute the same losses."""
        if not isinstance(task, Workload):
            return
        limit = LOSS_TOLERANCE[task.dtype]
        for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if not abs(a - b) <= limit * abs(a):
                raise WorkerFailed(
                    f"another loss in step {step + 1}: {b:.7g}, ours {a:.7g}: not timed"
                )
