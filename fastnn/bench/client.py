"""The parent's side of a worker process: its environment, its start, questions and answers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

import fastnn
from fastnn.bench.workloads import Task, task_to_json


class WorkerFailed(RuntimeError):
    """A worker could not start, or could not do what it was asked; the message is one line."""


def available_cpus() -> list[int]:
    """The cores this process may use, in order; the first ones where that cannot be read."""
    with suppress(AttributeError, OSError):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(threads: int, isa: str | None = None) -> dict[str, str]:
    """The variables a worker starts with: equal threads, and the same instruction set for all.

    `isa` (by default what ``FASTNN_ISA`` says) limits the peers too when it is "avx2": oneDNN,
    MKL, OpenBLAS, PyTorch's own kernels, XLA and NumPy each have a variable of their own. The
    library that multiplies XLA's matrices chooses its kernels by itself, whatever XLA is told
    (seen with jaxlib 0.10.2: most samples of a product in 512-bit instructions), so it is
    switched off, which leaves XLA's AVX2 product. The baseline variant has no counterpart in the
    peers, and leaves them as they are.
    """
    env = dict(os.environ)
    for name in ("OMP", "MKL", "OPENBLAS", "FASTNN", "NUMEXPR", "VECLIB_MAXIMUM"):
        env[f"{name}_NUM_THREADS"] = str(threads)
    # A worker finds the package where its parent found it; where that is installed, as it finds all others.
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), env.get("PYTHONPATH"))))
    env["PYTHONWARNINGS"] = "ignore"
    env.setdefault("JAX_PLATFORMS", "cpu")
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    isa = isa or env.get("FASTNN_ISA")
    if isa:
        env["FASTNN_ISA"] = isa
    if isa == "avx2" and platform.machine() in ("x86_64", "AMD64"):
        env["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        env["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
        env["OPENBLAS_CORETYPE"] = "Haswell"
        env["ATEN_CPU_CAPABILITY"] = "avx2"
        flags = [env.get("XLA_FLAGS", ""), "--xla_cpu_max_isa=AVX2"]
        if _jax_has(YNNPACK):
            flags.append(f"--{YNNPACK}=")
        env["XLA_FLAGS"] = " ".join(flags).strip()
        env["NPY_DISABLE_CPU_FEATURES"] = " ".join(_numpy_features_beyond_avx2())
    return env


def unlimited() -> str | None:
    """What to tell the reader where FASTNN_ISA limits fastnn to what no peer can be limited to."""
    isa = os.environ.get("FASTNN_ISA")
    if not isa or isa == "avx2" or isa == fastnn.available_isas()[0]:
        return None
    return f"FASTNN_ISA={isa} limits fastnn alone: the peers have no setting for it"


# The option of XLA that chooses what goes to YNNPACK; an empty list: nothing.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"


def _jax_has(option: str) -> bool:
    """Whether the installed JAX knows an option of XLA; one that it does not know ends it."""
    spec = find_spec("jaxlib")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("*.so"):
        with open(library, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content.find(option.encode()) >= 0:
                return True
    return False


def _numpy_features_beyond_avx2() -> list[str]:
    """What NumPy would dispatch to beyond AVX2; it refuses names that it was not built with."""
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    dispatched = import_module(f"{core}._multiarray_umath").__cpu_dispatch__
    return [name for name in dispatched if name.startswith("AVX512") or name == "X86_V4"]


class NotApplicable(WorkerFailed):
    """A contender does not offer what was asked of it: nothing is wrong, it has no part in it."""


class WorkerProcess:
    """One contender in a process of its own.

    Parameters
    ----------
    name : str
        A name of `fastnn.bench.contenders.CONTENDERS`, or "machine".
    cpus : list of int
        The cores it is pinned to; as many threads as cores.
    isa : str, optional
        Instruction set for fastnn and the peers, see `environment`.
    log : writable file, optional
        Where the worker's stderr goes; by default nowhere.

    Raises
    ------
    WorkerFailed
        The framework behind `name` cannot be imported or set up.
    """

    def __init__(
        self, name: str, cpus: list[int], isa: str | None = None, log: IO[str] | None = None
    ) -> None:
        self.name = name
        self.cpus = cpus
        self.threads = threads = len(cpus)
        command = [sys.executable, "-m", "fastnn.bench.worker"]
        self.process = subprocess.Popen(
            [*command, name, ",".join(map(str, cpus)), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log or subprocess.DEVNULL,
            env=environment(threads, isa),
            text=True,
            bufsize=1,
        )
        try:
            hello = self._read()
        except WorkerFailed:
            self.close()
            raise
        self.label: str = hello["label"]
        self.versions: dict[str, str] = hello["versions"]
        self.unpinned: str | None = hello["unpinned"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one message and wait, asleep, for the answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed on our side
            raise WorkerFailed(f"{self.name}: the worker process is gone") from None
        return self._read()

    def build(self, task: Task) -> None:
        """Build `task`, or raise `NotApplicable` with the reason."""
        answer = self.ask("build", task=task_to_json(task))
        if "refused" in answer:
            raise NotApplicable(f"{self.name}: {answer['refused']}")

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise WorkerFailed(f"{self.name}: the worker process ended with status {code}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed(f"{self.name}: {answer['failed']}")
        return answer

    def close(self) -> None:
        """End the process, by asking or, after five seconds, by force."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
