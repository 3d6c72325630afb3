"""The command `fastnn bench`: what it runs, prints and writes, and what it answers to mistakes."""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fastnn
from fastnn import cli
from fastnn.bench import kernels, pairs, peak, roofline, threads
from fastnn.bench.client import WorkerProcess, available_cpus, unlimited
from fastnn.bench.kernels import Kernel
from fastnn.bench.workloads import Workload
from fastnn.cli import bench

SMALL = Workload("a", 6, (5, 7, 4, 3), dtype="float64")
HASTY = pairs.Effort(round_seconds=0.001, min_pairs=3, max_pairs=3, budget=0.1)


def run_here(*arguments: str) -> int:
    """The command in this process, so that a test can shorten its lists; the workers are others."""
    return cli.main(["bench", *arguments, "--quick"])


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "QUICK_CALLS", HASTY)
    monkeypatch.setattr(pairs, "QUICK_STEPS", HASTY)


@pytest.mark.usefixtures("hasty")
def test_command_compares_with_peers_and_with_an_older_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(roofline, "TASKS", roofline.TASKS[:3])
    run = ["8:12-10-3:bn+tanh", "--peers", "numpy", "--threads", "1000"]
    assert run_here(*run, "--out", str(tmp_path)) == 0
    shown = capsys.readouterr()
    assert "8:12-10-3:bn+tanh" in shown.out and f"written: {tmp_path}" in shown.out
    assert "1000 threads asked for" in shown.err
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["settings"]["threads"] == len(available_cpus())
    (record,) = content["results"]
    assert record["seconds"] > 0 and len(record["losses"]) == 5
    assert len(content["figures"]["roofline"]) == 3
    assert len((tmp_path / "bench.csv").read_text().splitlines()) >= 2
    assert (tmp_path / "bench.png").stat().st_size > 10_000

    for measure in (record["peak_fraction"], record["peers"]["numpy"]["speedup"]):
        measure.update({key: 1000.0 * measure[key] for key in ("median", "low", "high")})
    old = tmp_path / "old.json"
    old.write_text(json.dumps(content))
    assert run_here(*run, "--compare", str(old)) == 0
    shown = capsys.readouterr()
    assert "slower  8:12-10-3:bn+tanh" in shown.out and "1 slower, 0 faster" in shown.out
    assert "nothing written (--out DIR" in shown.out


@pytest.mark.usefixtures("hasty")
def test_a_run_that_cannot_pin_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("fastnn.cli.bench._cores", lambda *_: [4711])
    pictures = pytest.importorskip("fastnn.bench.pictures")
    path = tmp_path / "a.json"
    arguments = ["--gemm", "2x3x4", "dx", "--json", str(path), "--csv", str(tmp_path / "a.csv")]
    assert run_here(*arguments) == 0
    shown = capsys.readouterr()
    assert "NOT PINNED (cannot pin to cores [4711]" in shown.out
    assert "nothing is pinned, the figures are less certain" in shown.err
    document = json.loads(path.read_text())
    assert "4711" in document["settings"]["unpinned"]
    assert "1 thread, not pinned, Python" in pictures.conditions(document)
    (row, *_) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert row["pinned"] == "no"


@pytest.mark.usefixtures("hasty")
def test_a_machine_that_tells_nothing_is_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreadable(*_: object, **__: object) -> Any:
        raise OSError("not here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", unreadable)
        patch.setattr(os, "getloadavg", unreadable)
        patch.setattr(os, "sched_getaffinity", unreadable, raising=False)
        patch.setattr(os, "cpu_count", lambda: None)
        patch.setattr("platform.processor", lambda: "")
        assert available_cpus() == [0]
        assert run_here("--gemm", "2x3x4", "dx") == 0
    shown = capsys.readouterr().out
    assert "unknown, " in shown and "dx 2x3x4" in shown


@pytest.mark.usefixtures("hasty")
def test_a_comparison_that_fails_takes_no_figures_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("broken by hand")

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    run = ["--gemm", "2x3x4", "dx", "--peers", "none"]
    assert run_here(*run, "--json", str(old)) == 0
    monkeypatch.setattr("fastnn.bench.regressions.changes", broken)
    with suppress(RuntimeError):
        run_here(*run, "--json", str(new), "--compare", str(old))
    assert json.loads(new.read_text())["results"]


def test_single_core_is_told_what_needs_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastnn.bench.client.available_cpus", lambda: [0])
    assert run_here("--scaling") == run_here("--neighbour") == 2
    assert capsys.readouterr().err.count("allow it another (taskset -c 0,1") == 2
    notes: list[str] = []
    options = argparse.Namespace(growth="threads", scaling=False, neighbour=False)
    assert bench._cores(options, [0], notes.append) == [0]
    assert notes == ["this process may use one core: --growth threads has one point"]


@pytest.mark.usefixtures("hasty")
def test_aims_are_shown_to_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("digits", "--peers", "", "--aims") == 0
    shown = capsys.readouterr()
    assert "found / asked" in shown.out and "taken as none" in shown.err
    assert run_here("digits", "--peers", "none") == 0
    assert "asked" not in capsys.readouterr().out


def test_no_peer_follows_to_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    best, *others = fastnn.available_isas()
    monkeypatch.setenv("FASTNN_ISA", best)
    assert unlimited() is None
    for isa in others:
        monkeypatch.setenv("FASTNN_ISA", isa)
        assert (unlimited() is None) == (isa == "avx2")


def test_a_copy_by_two_threads_is_of_the_same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, sizes = peak.copy_bandwidth, []

    def part(size: int, seconds: float) -> float:
        sizes.append(size)
        return 1e9

    monkeypatch.setattr(peak, "copy_bandwidth", part)
    assert alone(1 << 20, 0.01, threads=2) == 2e9 and sizes == [1 << 19] * 2


@pytest.mark.usefixtures("hasty")
def test_gemm_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["64x784x128", "1x4x10", "dx", "dw"]
    assert run_here("--gemm", *words, "--json", str(tmp_path / "a.json")) == 0
    figures = json.loads((tmp_path / "a.json").read_text())["figures"]
    (row,) = figures["aims"]
    assert row["shape"] == [64, 784, 128] and 0 < row["dx"] < 2
    assert figures["numpy"][0]["shapes"] == 4 and row["forward"] is None
    assert "64, 784, 128" in capsys.readouterr().out


@pytest.mark.usefixtures("hasty")
def test_kernels_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen = [Kernel("tanh", (2, 4)), Kernel("tanh_backward", (8, 512)), Kernel("relu", (2, 4))]
    monkeypatch.setattr(kernels, "KERNELS_QUICK", chosen)
    assert run_here("--kernels", "tanh", "--peers", "numpy", "--json", str(tmp_path / "a")) == 0
    content = json.loads((tmp_path / "a").read_text())
    assert [record["name"] for record in content["results"]] == ["tanh 2x4", "tanh_backward 8x512"]
    assert len(content["figures"]["asked"]) == 2
    assert "of 2 figures reached" in capsys.readouterr().out


@pytest.mark.usefixtures("hasty")
def test_quick_calls_end_with_their_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("fastnn.cli.bench.QUICK_SECONDS", 0.0)
    path = tmp_path / "a.json"
    assert run_here("--kernels", "tanh", "--peers", "none", "--json", str(path)) == 0
    assert len(json.loads(path.read_text())["results"]) == 1
    assert "the time of --quick is over: 5 of 6 left out" in capsys.readouterr().err
    # so every kernel comes at one size before any comes at the next
    first = kernels.KERNELS_QUICK[: len(kernels.OPERANDS)]
    assert {kernel.op for kernel in first} == set(kernels.OPERANDS)


def test_breakdown_command_for_a_model_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = fastnn.Sequential(
        [fastnn.Dense(5), fastnn.BatchNorm(), fastnn.Tanh(), fastnn.Dense(2)],
        input_dim=3, dtype="float64", seed=0,
    )  # fmt: skip
    model.compile(loss="mean_squared_error")
    path = str(tmp_path / "model.safetensors")
    model.save(path)
    assert run_here("--breakdown", path, "--batch", "9", "--json", str(tmp_path / "a.json")) == 0
    text = capsys.readouterr().out
    assert f"{path}, batch 9, float64" in text and "3 dense forward" in text
    (record,) = json.loads((tmp_path / "a.json").read_text())["results"]
    moved = {part["kernel"]: part["bytes"] for part in record["parts"]}
    assert moved["0 dense forward"] == 8 * (9 * 3 + 3 * 5 + 5 + 9 * 5)
    assert moved["loss"] == 3 * 8 * 9 * 2  # prediction, target, gradient


two_cores = pytest.mark.skipif(len(available_cpus()) < 2, reason="needs two cores")


@two_cores
@pytest.mark.usefixtures("hasty")
def test_scaling_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "SCALING_QUICK", [SMALL, Kernel("tanh", (2, 4))])
    assert run_here("--scaling", "--dtype", "float64") == 0
    text = capsys.readouterr().out
    assert text.count(threads.ONE) >= 2 and "times as fast as one" in text


@two_cores
def test_neighbour_is_there_only_while_it_is_asked_for() -> None:
    with WorkerProcess("machine", available_cpus()[-1:]) as spinner:
        busy = []
        for on in (False, True, False):
            spinner.ask("spin", on=on)
            time.sleep(0.02)
            before = spinner.ask("cpu")["seconds"]
            time.sleep(0.2)
            busy.append(spinner.ask("cpu")["seconds"] - before)
    assert busy[0] < 0.05 < busy[1] and busy[2] < 0.05
    record = threads.neighbour("fastnn", SMALL, available_cpus()[-2:], 0.05)
    assert record["steps"] >= threads.SLICES
    assert record["ratio"] == record["totals"]["disturbed"] / record["totals"]["one"]
    assert "1.1×" in threads.neighbour_row(record, "fastnn")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "unknown workload 'nothing'"),
        (["digit-bn"], "unknown workload 'digit-bn' (did you mean 'digits-bn'"),
        (["tiny", "--peers", "tensorflow"], "tensorflow"),
        (["tiny", "--scaling"], "leave out 'tiny'"),
        (["tiny", "--gemm"], "unknown product 'tiny'"),
        (
            ["tiny", "--against", "numpy", "--peers", "none", "--json", "/nowhere/a.json"],
            "/nowhere",
        ),
        (["tiny", "--breakdown", "--against", "numpy"], "breakdown needs fastnn"),
        (["tiny", "--breakdown", "--threads", "2"], "one thread"),
        (["sigmiod", "--kernels"], "no kernel or shape 'sigmiod'"),
        (["tiny", "--growth", "depth"], "leave out 'tiny'"),
        (["--growth", "height"], "invalid choice: 'height'"),
        (["tiny", "--compare", "/nowhere/old.json"], "/nowhere/old.json"),
        (["tiny", "--breakdown", "--png", "a.png"], "leave out --png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and says in errors[0]
