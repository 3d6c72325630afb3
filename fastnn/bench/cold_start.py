"""What it costs to be there: from ``python -c`` to a trained digits model, and the bare import.

Every contender is an empty process that reads the same `.npy` files and trains the same network for
the same epochs (`fastnn.bench.digits`); they take turns on the same cores. The clock runs from before
the process is made until its model is trained.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastnn.bench.client import WorkerFailed, environment
from fastnn.bench.footprint import footprint
from fastnn.bench.pairs import paired_ratio
from fastnn.bench.report import duration

CONTENDERS = ("fastnn", "numpy", "sklearn", "torch", "jax")
EPOCHS, BATCH, RATE, MOMENTUM, HIDDEN = 20, 32, 0.05, 0.9, (64, 64)
ACCURACY = 0.93  # on the test rows; below it something else was trained
ROUNDS, FEWEST, SECONDS = 9, 3, 50.0
QUICK_ROUNDS, QUICK_FEWEST, QUICK_SECONDS = 3, 1, 20.0  # PyTorch alone may take six in each
TIMEOUT = 120.0
AIM = 5.0  # times sooner than PyTorch and scikit-learn

# Runs after each program, in its process; the memory is read before anything is imported for it.
EPILOGUE = """
try:
    with open("/proc/self/status") as status:
        memory = 1024 * int(status.read().split("VmHWM:")[1].split()[0])
except (OSError, IndexError):
    import resource, sys
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory *= 1 if sys.platform == "darwin" else 1024
import json
stages = {name: globals().get(name) for name in ("imported", "trained", "accuracy", "memory")}
print("\\n" + json.dumps(stages))
"""


def write_digits(folder: Path) -> str:
    """Write the four `.npy` files and say what they hold: scikit-learn's digits, or, where it is not
    installed, rows of the same shape drawn from ten clouds."""
    if find_spec("sklearn") is not None:
        from fastnn.datasets import digits

        data = digits(0.2)
        x, y = data.X_train, data.y_train
        x_test, y_test = data.X_test, data.y_test
        assert y_test is not None
        said = "the digits of scikit-learn"
    else:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, 1797)
        rows = np.clip(rng.uniform(0, 16, (10, 64))[labels] + rng.normal(0, 3, (1797, 64)), 0, 16)
        x, y, x_test, y_test = rows[:1438], labels[:1438], rows[1438:], labels[1438:]
        said = "1,797 rows in ten clouds, for want of scikit-learn's digits"
    for name, rows in (("x_train", x), ("x_test", x_test)):
        np.save(folder / f"{name}.npy", rows.astype(np.float32) / 16)
    for name, labels in (("y_train", y), ("y_test", y_test)):
        np.save(folder / f"{name}.npy", labels.astype(np.int64))
    return said


def source(name: str) -> str:
    """The program of a contender."""
    return (Path(__file__).parent / "digits" / f"{name}_digits.py").read_text(encoding="utf-8")


def run_program(program: str, folder: Path, cpus: list[int]) -> dict[str, Any]:
    """Run a program in an empty process, in turn with nothing else on `cpus`.

    Returns
    -------
    dict
        ``imported``, ``trained`` and ``exit``, seconds since before the process was made;
        ``accuracy``; ``memory``, the most bytes it held. What the program does not set is None.

    Raises
    ------
    WorkerFailed
        It failed; with the last line it wrote to stderr.
    """

    def pin() -> None:
        os.sched_setaffinity(0, cpus)

    settings = (EPOCHS, BATCH, RATE, MOMENTUM, *HIDDEN)
    start = time.monotonic()
    try:
        found = subprocess.run(
            [sys.executable, "-c", program + EPILOGUE, *map(str, settings)],
            cwd=folder,
            env=environment(len(cpus)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            preexec_fn=pin if can_pin(cpus) is None else None,
        )
    except subprocess.TimeoutExpired:
        raise WorkerFailed(f"not done after {TIMEOUT:.0f} s") from None
    end = time.monotonic()
    if found.returncode:
        said = found.stderr.strip().splitlines() or [f"ended with status {found.returncode}"]
        raise WorkerFailed(said[-1])
    answer: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    for stage in ("imported", "trained"):
        if answer[stage] is not None:
            answer[stage] -= start
    return answer | {"exit": end - start}


def can_pin(cpus: list[int]) -> str | None:
    """Why processes cannot be kept on `cpus`, or None. Tried in a process of its own."""
    if not hasattr(os, "sched_setaffinity"):
        return f"{sys.platform} cannot pin a process to cores"
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        os.sched_setaffinity(0, before)
    except OSError as error:
        return f"cannot pin to cores {cpus}: {error.strerror or error}"
    return None


def cold_start(
    names: Sequence[str],
    cpus: list[int],
    note: Callable[[str], None],
    *,
    rounds: int = ROUNDS,
    fewest: int = FEWEST,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Let the contenders take turns, after one round that is not counted (it fills the file cache).

    Parameters
    ----------
    names : sequence of str
        Of `CONTENDERS`; the first one is paired with all others.
    cpus : list of int
        As many threads as cores.
    note : callable
        Is told who failed, and is then left out.
    rounds, fewest : int
    seconds : float
        No round begins that would end after them, judging by the one before, but `fewest` there are.

    Returns
    -------
    dict
        A record as `fastnn.bench.compare.Team.measure` gives it, with ``phases`` (for each
        contender the median ``imported``, ``trained`` and ``exit``), ``memory``, ``accuracy`` and
        ``data`` (what was learnt).

    Raises
    ------
    WorkerFailed
        The first contender failed.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    refused: dict[str, dict[str, str]] = {}
    ours = names[0]

    def leave_out(name: str, error: WorkerFailed) -> None:
        if name == ours:
            raise WorkerFailed(f"{name}: {error}") from None
        runs.pop(name, None)
        refused[name] = {"refused": str(error)}
        note(f"{name}: {error}; going on without it")

    with tempfile.TemporaryDirectory(prefix="fastnn-digits-") as path:
        folder = Path(path)
        data = write_digits(folder)
        for name in names:
            try:
                found = run_program(source(name), folder, cpus)
                if not found["accuracy"] >= ACCURACY:
                    raise WorkerFailed(f"right on {found['accuracy']:.1%} only: not timed")
                runs[name] = []
            except WorkerFailed as error:
                leave_out(name, error)
        start = now = time.monotonic()
        for turn in range(rounds):
            took, now = time.monotonic() - now, time.monotonic()
            if turn >= fewest and now - start + took > seconds:
                break
            for name in list(runs) if turn % 2 else reversed(list(runs)):
                try:
                    runs[name].append(run_program(source(name), folder, cpus))
                except WorkerFailed as error:
                    leave_out(name, error)
    trained = {name: [run["trained"] for run in each] for name, each in runs.items()}
    middle = {
        name: {key: median(run[key] for run in each) for key in ("imported", "trained", "exit")}
        for name, each in runs.items()
    }
    return {
        "name": "cold start",
        "dtype": "float32",
        "ours": ours,
        "seconds": middle[ours]["trained"],
        "phases": middle,
        "memory": {name: median(run["memory"] for run in each) for name, each in runs.items()},
        "accuracy": {name: each[0]["accuracy"] for name, each in runs.items()},
        "data": data,
        "peers": {
            name: {
                "seconds": middle[name]["trained"],
                "speedup": asdict(paired_ratio(trained[name], trained[ours])),
            }
            for name in runs
            if name != ours
        }
        | refused,
    }


def footprints(
    names: Sequence[str], cpus: list[int], note: Callable[[str], None], rounds: int = 5
) -> dict[str, Any]:
    """For each contender its sizes (`footprint`), and the time and memory of ``import`` alone.

    ``import_seconds`` is what the process takes longer than one that imports nothing, and
    ``import_bytes`` what it holds more. Who cannot be imported or has no list of files is left out, and
    `note` is told.
    """
    sizes: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            sizes[name] = footprint(name)
        except PackageNotFoundError:
            note(f"{name}: nothing lists what was installed; going on without its sizes")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("", *sizes)}
    with tempfile.TemporaryDirectory() as path:
        for _ in range(rounds):
            for name in list(found):
                program = f"import {name}\n" if name else ""
                stamp = f"{program}import time\nimported = time.monotonic()"
                try:
                    found[name].append(run_program(stamp, Path(path), cpus))
                except WorkerFailed as error:
                    if not name:
                        raise
                    del found[name], sizes[name]
                    note(f"{name}: {error}; going on without its sizes")

    def middle(name: str, key: str) -> float:
        return median(run[key] for run in found[name])

    return {
        name: {
            **size,
            "import_seconds": middle(name, "imported") - middle("", "imported"),
            "import_bytes": middle(name, "memory") - middle("", "memory"),
        }
        for name, size in sizes.items()
    }


def import_time(seconds: float) -> str:
    """For people: what is within the noise of starting a process has no digits.

    >>> import_time(0.0123), import_time(-2e-4)
    ('12.3 ms', '< 1 ms')
    """
    return duration(seconds) if seconds >= 1e-3 else "< 1 ms"


BARE = "of fastnn it is a bare `import fastnn`, which loads neither NumPy nor kernels before they are used"


def lines(record: dict[str, Any], sizes: dict[str, Any]) -> Iterator[str]:
    """Both tables for the terminal."""
    epochs = f"{EPOCHS} epochs of {BATCH} rows, hidden layers {'-'.join(map(str, HIDDEN))}"
    yield f"from python -c to a model trained on {record['data']}, {epochs}"
    row = "{:<12} {:>10} {:>10} {:>10} {:>9} {:>17} {:>6} {:>8} {:>9}"
    ours = record["ours"]
    yield row.format("", "imported", "trained", "ended", f"{ours} is", "95% interval", "pairs",
                     "memory", "accuracy")  # fmt: skip
    for name, phases in record["phases"].items():
        s = record["peers"].get(name, {}).get("speedup")
        yield row.format(
            name,
            *(duration(phases[stage]) for stage in ("imported", "trained", "exit")),
            f"{s['median']:.1f}×" if s else "",
            f"{s['low']:.1f} to {s['high']:.1f}"
            if s and s["pairs"] > 2
            else "",  # of two it says nothing
            s["pairs"] if s else "",
            f"{record['memory'][name] / 1e6:.0f} MB",
            f"{record['accuracy'][name]:.1%}",
        )
    yield f"asked: {AIM:g} times sooner than PyTorch and scikit-learn"
    row = "{:<12} {:>10} {:>12} {:>19} {:>13} {:>14}"
    yield row.format("", "wheel", "installed", "with requirements", "import takes", "import holds")
    for name, size in sizes.items():
        yield row.format(
            name,
            *(f"{size[key] / 1e6:.1f} MB" for key in ("wheel", "installed", "with_requirements")),
            import_time(size["import_seconds"]),
            f"{size['import_bytes'] / 1e6:.1f} MB",
        )
    yield "wheel: its files deflated, large ones by samples; imports beside a Python that imports nothing;"
    yield BARE
