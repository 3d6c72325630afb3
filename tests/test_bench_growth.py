"""How the cost of a step grows along an axis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastnn import cli
from fastnn.bench import growth, pairs
from fastnn.bench.client import WorkerProcess, available_cpus
from fastnn.bench.compare import Team
from fastnn.bench.workloads import Workload

CPU = available_cpus()[-1:]


def test_the_axes_go_as_far_as_they_say() -> None:
    ends = {axis: [value for value, _ in growth.points(axis, 2)] for axis in growth.AXES}
    assert (ends["batch"][0], ends["batch"][-1]) == (1, 16384)
    assert (ends["width"][0], ends["width"][-1]) == (16, 4096)
    assert (ends["depth"][0], ends["depth"][-1]) == (1, 50)
    assert ends["threads"] == [1, 2]
    for value, workload in growth.points("depth", 1):
        assert len(workload.sizes) == value + 2


def test_command_measures_time_and_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    few = [(n, Workload(f"batch {n}", n, (6, 5, 3), lr=growth.SLOW)) for n in (1, 16)]
    monkeypatch.setattr(growth, "points", lambda axis, cores: few)
    arguments = ["--growth", "batch", "--peers", "numpy", "--seconds", "5", "--dtype", "float64"]
    assert cli.main(["bench", *arguments, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "growth-batch.json").read_text())
    assert [record["value"] for record in content["results"]] == [1, 16]
    assert all(record["dtype"] == "float64" for record in content["results"])
    for curve in content["figures"]["growth"].values():
        assert min(curve["megabytes"]) > 10 and min(curve["steps_per_second"]) > 0
    assert (tmp_path / "growth-batch.png").stat().st_size > 10_000
    assert "16 " in capsys.readouterr().out


def test_what_does_not_fit_into_the_time_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = [(n, Workload(f"width {n}", 4, (n, 3))) for n in (1, 2, 3)]
    monkeypatch.setattr(growth, "points", lambda axis, cores: few)
    notes: list[str] = []
    found = list(growth.growth("width", "numpy", [], CPU, notes.append, seconds=0.0))
    assert [record["value"] for _, record in found] == [1]
    assert notes == ["0 s are over: width 2, 3 left out"]


def test_the_threads_are_those_of_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(growth.WORKLOADS, "wide", Workload("wide", 4, (3, 3)))
    cpus = available_cpus()
    found = list(growth.growth("threads", "numpy", [], cpus, print, seconds=0.1))
    assert [len(team.ours.cpus) for team, _ in found] == [
        value for value, _ in growth.points("threads", len(cpus))
    ][: len(found)]


def test_memory_is_the_peak_since_it_was_last_asked() -> None:
    with WorkerProcess("numpy", CPU) as worker:
        worker.ask("memory", reset=True)
        before = worker.ask("memory")["peak"]
        worker.build(Workload("big", 4000, (1000, 10)))
        grown = worker.ask("memory", reset=True)["peak"]
        assert grown - before > 4000 * 1000 * 4
        worker.ask("memory", reset=True)  # which lets go of what was built
        if Path("/proc/self/clear_refs").exists():
            assert worker.ask("memory")["peak"] < grown - 4000 * 1000 * 4


def test_a_limit_ends_with_the_pairs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = pairs.Effort(0.001, min_pairs=1000, max_pairs=1000, budget=100.0, limit=0.0)
    with Team("numpy", ["numpy"], CPU, print) as team:
        team.peers = [team._start("numpy")]
        team.peers[0].name = "twin"
        record = team.measure(Workload("mine", 4, (6, 5, 3)), effort)
    assert record["peers"]["twin"]["speedup"]["pairs"] == pairs.FEWEST_PAIRS
    assert np.isfinite(record["seconds"])
