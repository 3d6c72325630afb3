"""From an empty process to a trained model, and what lies on the disk."""

from __future__ import annotations

import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import cli
from fastnn.bench import cold_start, footprint
from fastnn.bench.client import WorkerFailed, available_cpus
from fastnn.bench.contenders import REQUIRES

CPU = available_cpus()[-1:]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    cold_start.write_digits(folder)
    return folder


@pytest.mark.parametrize("name", cold_start.CONTENDERS)
def test_every_program_learns_the_digits(name: str, digits: Path) -> None:
    if find_spec(REQUIRES.get(name, "numpy")) is None:
        pytest.skip(f"{name} is not installed")
    found = cold_start.run_program(cold_start.source(name), digits, CPU)
    assert found["accuracy"] >= cold_start.ACCURACY
    assert 0 < found["imported"] < found["trained"] < found["exit"] < cold_start.TIMEOUT
    assert found["memory"] > 5e6


def test_without_scikit_learn_there_are_rows_of_the_same_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "find_spec", lambda _: None)
    assert "for want of scikit-learn" in cold_start.write_digits(tmp_path)
    x, y = np.load(tmp_path / "x_train.npy"), np.load(tmp_path / "y_train.npy")
    assert x.shape == (1438, 64) and x.dtype == np.float32 and 0 <= x.min() < x.max() <= 1
    assert set(y) == set(range(10))


def test_an_affinity_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.sched_getaffinity", denied, raising=False)
    monkeypatch.setattr("os.sched_setaffinity", denied, raising=False)
    assert "cannot pin to cores [0]: Operation not permitted" in str(cold_start.can_pin([0]))


def programs(monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    monkeypatch.setattr(cold_start, "source", sources.get)


STAGES = "import time\nimported = trained = time.monotonic()\naccuracy = {}\n"


def test_who_fails_or_learns_nothing_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    programs(
        monkeypatch, fastnn=STAGES.format(0.99), numpy=STAGES.format(0.99),
        torch=STAGES.format(0.5), jax="raise ImportError('broken by hand')",
    )  # fmt: skip
    notes: list[str] = []
    names = ["fastnn", "numpy", "torch", "jax"]
    record = cold_start.cold_start(names, CPU, notes.append, rounds=3)
    assert record["peers"]["numpy"]["speedup"]["pairs"] == 3
    assert "right on 50.0% only" in record["peers"]["torch"]["refused"]
    assert record["peers"]["jax"] == {"refused": "ImportError: broken by hand"}
    assert len(notes) == 2 and list(record["phases"]) == ["fastnn", "numpy"]
    with pytest.raises(WorkerFailed, match="jax: ImportError"):
        cold_start.cold_start(["jax"], CPU, notes.append)


def test_who_fails_in_a_later_round_is_left_out_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    once = (
        f"import os\nassert not os.path.exists({str(flag)!r}), 'twice'\nopen({str(flag)!r}, 'w')\n"
    )
    good = STAGES.format(0.99)
    programs(monkeypatch, fastnn=good, numpy=good, torch=once + good)
    notes: list[str] = []
    record = cold_start.cold_start(["fastnn", "torch", "numpy"], CPU, notes.append, rounds=3)
    assert notes == ["torch: AssertionError: twice; going on without it"]
    assert list(record["phases"]) == ["fastnn", "numpy"]
    assert record["peers"]["numpy"]["speedup"]["pairs"] == 3
    assert record["peers"]["torch"] == {"refused": "AssertionError: twice"}


def test_no_round_begins_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, fastnn=STAGES.format(0.99) + "time.sleep(0.2)", numpy=STAGES.format(0.99))
    record = cold_start.cold_start(["fastnn", "numpy"], CPU, print, fewest=1, seconds=0.0)
    assert record["peers"]["numpy"]["speedup"]["pairs"] == 1


def test_what_is_importable_but_listed_nowhere_has_no_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = pytest.importorskip("fastnn.bench.pictures")

    def footprint_of(name: str) -> dict[str, Any]:
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        return {"wheel": 2e6, "installed": 4e6, "with_requirements": 6e7}

    monkeypatch.setattr(cold_start, "footprint", footprint_of)
    programs(monkeypatch, fastnn=STAGES.format(0.99), numpy=STAGES.format(0.98))
    notes: list[str] = []
    record = cold_start.cold_start(["fastnn", "numpy"], CPU, notes.append, rounds=3)
    sizes = cold_start.footprints(["fastnn", "numpy"], CPU, notes.append, rounds=1)
    assert (
        list(sizes) == ["fastnn"] and len(notes) == 1 and "going on without its sizes" in notes[0]
    )
    text = "\n".join(cold_start.lines(record, sizes))
    assert "bare `import fastnn`" in text and "98.0%" in text
    machine = {"cpu": "a CPU", "python": "3.11", "date": "today"}
    pictures.cold_start_bars(
        {"machine": machine, "settings": {"threads": 1}, "versions": {}, "results": [record],
         "figures": {"footprint": sizes}}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--against", "reference", "--peers", "none"], 2, "reference has no program for a cold"),
        (
            ["--peers", "torch-compile"],
            0,
            "torch-compile has no program for a cold start; going on",
        ),
    ],
)
def test_command_says_who_has_no_program(
    arguments: list[str], status: int, says: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    programs(monkeypatch, fastnn=STAGES.format(0.99))
    monkeypatch.setattr(footprint, "compressed", lambda paths: 1e6)
    assert cli.main(["bench", "--cold-start", "--quick", *arguments]) == status
    assert says in capsys.readouterr().err


def test_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    programs(monkeypatch, fastnn=STAGES.format(0.99), numpy=STAGES.format(0.98))
    monkeypatch.setattr(footprint, "compressed", lambda paths: 1e6)  # it takes three seconds
    out = ["--out", str(tmp_path)]
    assert cli.main(["bench", "--cold-start", "--peers", "numpy", "--quick", *out]) == 0
    assert (tmp_path / "cold-start.png").stat().st_size > 10_000
    text = capsys.readouterr().out
    assert "98.0%" in text and "import holds" in text


# -- sizes -------------------------------------------------------------------------------------


def test_footprint_counts_files_and_requirements() -> None:
    found = footprint.footprint("fastnn")
    root = Path(footprint.__file__).parents[1]
    libraries = sum(path.stat().st_size for path in root.rglob("*.so"))
    assert libraries < found["installed"] < found["with_requirements"]
    assert found["wheel"] < 0.6 * found["installed"]
    assert {"numpy", "safetensors", "tqdm"} <= set(found["requires"])
    assert not {"pytest", "matplotlib"} & set(found["requires"])  # of extras


def test_an_installed_wheel_is_counted_as_the_peers_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its list of files: the OpenMP run-time beside the package, metadata and licences too."""
    files = {
        "fastnn/__init__.py": 10, "fastnn/report/page.html": 20, "fastnn/_kernels/gemm.so": 300,
        "fastnn.libs/libgomp-1.so.1": 4000, "fastnn-0.1.dist-info/METADATA": 50_000,
        "fastnn-0.1.dist-info/RECORD": 0, "fastnn/__pycache__/x.pyc": 1,
    }  # fmt: skip
    for name, size in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "fastnn-0.1.dist-info/METADATA").write_text("Name: fastnn\nVersion: 0.1\n")
    (tmp_path / "fastnn-0.1.dist-info/RECORD").write_text("".join(f"{n},,\n" for n in files))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(footprint, "PACKAGE", tmp_path / "fastnn")
    counted = {str(path.relative_to(tmp_path)) for path in footprint._files("fastnn")}
    assert counted == files.keys() - {"fastnn/__pycache__/x.pyc"}
    # a checkout that runs beside that wheel is counted by itself, with the page of `train --report`
    monkeypatch.undo()
    root = Path(footprint.__file__).parents[1]
    monkeypatch.syspath_prepend(str(tmp_path))
    here = footprint._files("fastnn")
    assert root / "report" / "page.html" in here
    assert not any(path.is_relative_to(tmp_path) for path in here)


def test_a_requirement_that_is_not_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    required = {"a": ["numpy>=1", "no-such-thing-42; sys_platform == 'x'", "pytest; extra == 't'"]}
    monkeypatch.setattr(footprint, "_requires", lambda name: required.get(name, ()))
    assert footprint.closure(["a"]) == {"a", "numpy"}


def test_samples_estimate_what_a_wheel_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "lib.so"
    path.write_bytes(rng.integers(0, 12, 3_000_000, np.uint8).tobytes())
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.write(path)
    size = (tmp_path / "a.whl").stat().st_size
    assert footprint.compressed([path]) == pytest.approx(size, rel=0.01)
    monkeypatch.setattr(footprint, "WHOLE", 1000)
    monkeypatch.setattr(footprint, "SAMPLE", 100_000)
    assert footprint.compressed([path]) == pytest.approx(size, rel=0.03)


def test_versions_are_those_of_the_distributions() -> None:
    assert footprint.versions("numpy") == {"numpy": metadata.version("numpy")}
    found: dict[str, Any] = footprint.versions("fastnn")
    assert found.keys() == {"fastnn", "isa"}
