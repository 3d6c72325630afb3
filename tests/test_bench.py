"""The benchmark harness: its statistics, its protocol, its contenders' arithmetic."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import cli, functional, reference
from fastnn.bench import (
    breakdown,
    kernels,
    oracle,
    pairs,
    peak,
    report,
    roofline,
    threads,
    worker,
    workloads,
)
from fastnn.bench.client import (
    YNNPACK,
    NotApplicable,
    WorkerFailed,
    WorkerProcess,
    _jax_has,
    available_cpus,
    environment,
    unlimited,
)
from fastnn.bench.compare import LOSS_TOLERANCE, Team
from fastnn.bench.contenders import CONTENDERS, REQUIRES
from fastnn.bench.contenders.numpy_mlp import NumPy, NumPySteps
from fastnn.bench.kernels import Kernel
from fastnn.bench.workloads import Gemm, Workload
from fastnn.cli import bench

SMALL = {
    "relu": Workload("a", 6, (5, 7, 4, 3), dtype="float64"),
    "relu-bn": Workload("b", 6, (5, 7, 4, 3), batchnorm=True, dtype="float64"),
    "tanh-bn": Workload("c", 6, (5, 7, 4, 3), "tanh", batchnorm=True, dtype="float64"),
}
README_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "readme.py"
HASTY = pairs.Effort(round_seconds=0.001, min_pairs=3, max_pairs=3, budget=0.1)


# -- workloads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "megaflops"),
    # Counted by hand: two flop for each weight and row, three times but for the first layer's input.
    [("tiny", 26.2), ("small", 26.2), ("medium", 411), ("wide", 4598), ("deep", 14530),
     ("deep-bn", 14530), ("digits", 1.43), ("digits-bn", 1.43)],
)  # fmt: skip
def test_the_floor_is_the_arithmetic_of_the_products(name: str, megaflops: float) -> None:
    assert workloads.parse(name).flops / 1e6 == pytest.approx(megaflops, rel=0.005)


def test_the_set_up_needs_no_more_memory_than_what_it_gives() -> None:
    """Else the peak of a process would show how its weights were drawn, and not its training."""
    workload = Workload("mine", 2000, (500, 600, 10), batchnorm=True)
    for make in (workload.parameters, lambda: dict(zip("xy", workload.data(), strict=True))):
        make()  # what the first call imports
        tracemalloc.start()
        given = make()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.1 * sum(array.nbytes for array in given.values())
        assert {a.dtype.name for a in given.values()} <= {"float32", "int64"}


def test_grid_has_at_least_300_shapes_skinny_ones_included() -> None:
    grid = workloads.GEMM_GRID
    assert len(set(grid)) == len(grid) >= 300
    assert {min(side) for side in zip(*grid, strict=True)} == {1}
    assert {max(side) for side in zip(*grid, strict=True)} == {2048}
    assert sum(min(shape) <= 10 for shape in grid) >= 100
    assert set(workloads.GEMM_AIMS) <= set(grid)


@pytest.mark.parametrize("task", [*SMALL.values(), Gemm("dw", (3, 4, 5)), Kernel("relu", (2, 3))])
def test_tasks_survive_json(task: workloads.Task) -> None:
    message = json.loads(json.dumps(workloads.task_to_json(task)))
    assert workloads.task_from_json(message) == task


def test_parse_reads_what_describe_writes() -> None:
    for workload in workloads.WORKLOADS.values():
        again = workloads.parse(workload.describe())
        assert (again.flops, again.batchnorm) == (workload.flops, workload.batchnorm)
        assert again.activation == workload.activation


@pytest.mark.parametrize(
    "text", ["nothing", "0:3-4", "8:3", "8:3-0-2", "8:3-4:sigmoid", "1:3-4:bn+relu"]
)
def test_parse_refuses_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="workload") as caught:
        workloads.parse(text)
    assert "\n" not in str(caught.value)


# -- statistics --------------------------------------------------------------------------------


def test_a_paired_ratio_does_not_see_what_both_sides_share() -> None:
    rng = np.random.default_rng(0)
    clock = rng.uniform(1, 5, 200)  # the machine slows down and speeds up by five
    ratio = pairs.paired_ratio(1.3 * clock * rng.normal(1, 0.01, 200), clock)
    assert ratio.median == pytest.approx(1.3, rel=0.005)
    assert ratio.low <= ratio.median <= ratio.high < ratio.low + 0.01
    assert ratio.pairs == 200


def test_the_bootstrap_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        ratio = pairs.paired_ratio(rng.lognormal(0.0, 0.2, 31), np.ones(31), resamples=400)
        covered += ratio.low <= 1.0 <= ratio.high
    assert 180 <= covered <= 199  # 95% of 200, within three standard deviations


def test_disturbed_pairs_are_left_out_only_if_enough_others_remain() -> None:
    def rounds() -> pairs.Rounds:
        clean, met = pairs.Round(1.0, True), pairs.Round(9.0, False)
        return pairs.Rounds([clean, met, clean, clean], [clean, clean, met, clean])

    settled = rounds()
    assert settled.settle(enough=2) == 0
    assert settled.speedup() == pairs.Ratio(1.0, 1.0, 1.0, 2)
    kept = rounds()
    assert kept.settle(enough=3) == 0.5
    assert kept.speedup().pairs == 4


# -- contenders --------------------------------------------------------------------------------


def reference_step(workload: Workload) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and updated parameters by `fastnn.reference`, from the initial state."""
    p, (x, y) = workload.parameters(), workload.data()
    last = len(workload.sizes) - 2
    tape = []
    for i in range(last + 1):
        z = reference.dense_forward(x, p[f"w{i}"], p[f"b{i}"])
        if i == last:
            tape.append((x, z, None, None, None))
            break
        activation = workload.activation
        if workload.batchnorm:
            out, mean, rstd = reference.batchnorm_forward(
                z, p[f"gamma{i}"], p[f"beta{i}"], activation=activation
            )
        else:
            out, mean, rstd = getattr(reference, activation)(z), None, None
        tape.append((x, z, out, mean, rstd))
        x = out
    loss, dy = reference.softmax_cross_entropy(tape[-1][1], y)
    g = {}
    for i in range(last, -1, -1):
        x, z, out, mean, rstd = tape[i]
        if i < last:
            activation = workload.activation
            if workload.batchnorm:
                dy, g[f"gamma{i}"], g[f"beta{i}"] = reference.batchnorm_backward(
                    dy, z, p[f"gamma{i}"], mean, rstd, y=out, activation=activation
                )
            else:
                dy = getattr(reference, f"{activation}_backward")(dy, out)
        dy, g[f"w{i}"], g[f"b{i}"] = reference.dense_backward(dy, x, p[f"w{i}"])
    return float(loss), {name: p[name] - workload.lr * g[name] for name in p}


@pytest.mark.parametrize("workload", SMALL.values(), ids=SMALL)
def test_numpy_contender_equals_the_reference(workload: Workload) -> None:
    steps = NumPySteps(workload)
    loss, updated = reference_step(workload)
    assert steps.losses(1)[0] == pytest.approx(loss, rel=1e-12)
    for name, value in updated.items():
        np.testing.assert_allclose(steps.p[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("workload", SMALL.values(), ids=SMALL)
def test_restore_brings_back_the_same_losses(workload: Workload) -> None:
    steps = NumPySteps(workload)
    losses = steps.losses(4)
    assert losses[3] < losses[0]
    steps.restore()
    assert steps.losses(4) == losses


def tiny_calls(dtype: str = "float32") -> list[Gemm | Kernel]:
    """Every use of a product, and every kernel, at a size that takes no time."""
    calls: list[Gemm | Kernel] = [Gemm(use, (6, 5, 4), dtype) for use in workloads.GEMM_USES]
    calls += [Kernel(op, (6, 8), dtype) for op in kernels.OPERANDS]
    for op in kernels.OPERANDS:
        if op.startswith("batchnorm"):
            calls += [Kernel(op, (3, 4, 5, 2), dtype), Kernel(op, (3, 5, 2, 4), dtype, axis=-1)]
    return calls


@pytest.mark.parametrize("task", tiny_calls(), ids=lambda task: task.name)
def test_numpy_calls_give_the_right_answer(task: Gemm | Kernel) -> None:
    if NumPy(1).refuses(task):
        assert task.op in ("gelu", "gelu_backward")  # NumPy has no erf
        return
    arrays = oracle.inputs(task)
    results = NumPy(1).call(task, arrays)()
    assert oracle.error_of(task, arrays, results) < oracle.TOLERANCE["float32"]
    wrong = [r + 1e-3 for r in map(np.asarray, results)]
    assert oracle.error_of(task, arrays, wrong) > oracle.TOLERANCE["float32"]


@pytest.mark.parametrize("peer", [n for n in CONTENDERS if n not in ("numpy", "reference")])
def test_every_contender_computes_the_same_losses(peer: str) -> None:
    """In a process of its own, as in a benchmark; float64, so that only the formulas can differ."""
    if peer == "fastnn":
        pytest.importorskip("fastnn.step", exc_type=ImportError)
    elif find_spec(REQUIRES[peer]) is None:
        pytest.skip(f"{REQUIRES[peer]} is not installed")
    done = 0
    with WorkerProcess(peer, available_cpus()[-1:]) as worker:
        for name, workload in SMALL.items():
            try:
                worker.build(workload)
            except NotApplicable:
                continue
            losses = worker.ask("check", steps=5)["losses"]
            expected = NumPySteps(workload).losses(5)
            np.testing.assert_allclose(losses, expected, LOSS_TOLERANCE["float64"], err_msg=name)
            assert worker.ask("time", steps=3)["steps"] >= 3
            assert worker.ask("check", steps=5)["losses"] == pytest.approx(losses, rel=1e-12)
            done += 1
    assert done == (1 if peer == "sklearn" else 3)


@pytest.mark.parametrize("peer", ["fastnn", "reference", "torch", "jax"])
def test_calls_of_every_contender_give_the_right_answer(peer: str) -> None:
    if find_spec(REQUIRES.get(peer, "numpy")) is None:
        pytest.skip(f"{REQUIRES[peer]} is not installed")
    refused, done = [], 0
    with WorkerProcess(peer, available_cpus()[-1:]) as worker:
        for task in tiny_calls():
            try:
                worker.build(task)
            except NotApplicable:
                refused.append(task.name)
                continue
            error = worker.ask("check")["error"]
            assert error < oracle.TOLERANCE[task.dtype], (task.name, error)
            done += 1
    assert done > 60 and not refused


# -- processes ---------------------------------------------------------------------------------


def test_a_worker_is_pinned_and_measures() -> None:
    with WorkerProcess("numpy", available_cpus()[-1:]) as worker:
        assert worker.unpinned is None or not hasattr(os, "sched_setaffinity")
        assert worker.versions == {"numpy": np.__version__}
        if hasattr(os, "sched_getaffinity"):
            assert os.sched_getaffinity(worker.process.pid) == set(available_cpus()[-1:])
        worker.build(Gemm("forward", (8, 8, 8)))
        assert worker.ask("check")["error"] < oracle.TOLERANCE["float32"]
        count = worker.ask("calibrate", seconds=0.01)["steps"]
        assert count > 1 and worker.ask("time", steps=count)["seconds"] > 0
    assert worker.process.returncode == 0


def test_failures_are_one_line_and_the_worker_goes_on() -> None:
    with WorkerProcess("numpy", available_cpus()[-1:]) as worker:
        with pytest.raises(WorkerFailed, match="nothing is built") as caught:
            worker.ask("time", steps=1)
        assert "\n" not in str(caught.value)
        with pytest.raises(NotApplicable, match="numpy: has no mish here"):
            worker.build(Kernel("mish", (2, 2)))
        worker.build(Gemm("forward", (2, 2, 2)))
    with pytest.raises(WorkerFailed, match="gone|ended"):
        worker.ask("check")


def test_a_peer_that_cannot_be_imported_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('broken\\nby hand')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    notes: list[str] = []
    with Team("numpy", ["sklearn"], available_cpus()[-1:], notes.append) as team:
        assert team.peers == []
        record = team.measure(Gemm("forward", (4, 4, 4)), HASTY)
    assert record["peers"] == {}
    assert any("sklearn: ImportError: broken; going on without it" in note for note in notes)


def test_through_fit_the_losses_are_those_of_the_steps() -> None:
    workload = Workload("mine", 32, (6, 5, 3), batchnorm=True, dtype="float64", fit=True)
    with WorkerProcess("fastnn", available_cpus()[-1:]) as worker:
        worker.build(workload)
        losses = worker.ask("check", steps=4)["losses"]
        timed = worker.ask("time", steps=1)
    assert losses == pytest.approx(NumPySteps(workload).losses(4), rel=1e-9)
    assert timed["steps"] == 30 * 57  # epochs, and steps of 1,797 rows in batches of 32


def test_a_contender_with_another_loss_is_not_timed() -> None:
    workload = SMALL["relu"]
    with pytest.raises(WorkerFailed, match="another loss in step 2: 2.1, ours 2: not timed"):
        Team._same(workload, [1.0, 2.0], [1.0, 2.1])
    with pytest.raises(WorkerFailed, match="nan"):
        Team._same(workload, [1.0], [float("nan")])
    Team._same(workload, [1.0], [1.0 + 1e-12])


def test_measuring_pairs_two_processes(tmp_path: Path) -> None:
    notes: list[str] = []
    with Team("numpy", [], available_cpus()[-1:], notes.append) as team:
        # The same contender twice: the ratio of a thing to itself is 1.
        team.peers = [team._stack.enter_context(WorkerProcess("numpy", available_cpus()[-1:]))]
        team.peers[0].name = "twin"
        effort = pairs.Effort(round_seconds=0.01, min_pairs=9, max_pairs=9, budget=1.0)
        record = team.measure(Workload("mine", 64, (64, 64, 10)), effort)
        versions, ceilings = team.versions, team.ceilings
    twin = record["peers"]["twin"]["speedup"]
    assert twin["pairs"] >= 9
    assert twin["low"] <= twin["median"] <= twin["high"]
    assert 0.2 < twin["median"] < 5
    assert record["flops"] == 2 * 64 * (2 * 64 * 64 + 3 * 64 * 10)
    assert set(ceilings["bandwidth"]) == {"L1", "L2", "L3", "memory"}

    settings = {"cpus": [0], "threads": 1, "quick": True}
    content = report.document(report.machine(), settings, versions, ceilings, [record], notes)
    report.write_json(tmp_path / "out.json", content)
    assert json.loads((tmp_path / "out.json").read_text())["results"] == [record]
    report.write_csv(tmp_path / "out.csv", [record])
    with open(tmp_path / "out.csv", newline="") as file:
        ours, theirs = csv.DictReader(file)
    assert (ours["contender"], theirs["contender"]) == ("numpy", "twin")
    assert float(theirs["speedup"]) == twin["median"]
    lines = "\n".join(report.rows(record, {}))
    assert "mine" in lines and f"{twin['median']:.2f}×" in lines


def test_the_instruction_set_is_limited_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_ISA", "avx2")
    env = environment(2)
    assert env["OMP_NUM_THREADS"] == env["FASTNN_NUM_THREADS"] == "2"
    if "ONEDNN_MAX_CPU_ISA" not in env:
        pytest.skip("not an x86-64 machine")
    assert "--xla_cpu_max_isa=AVX2" in env["XLA_FLAGS"]
    # An option that the installed JAX does not know would end it.
    assert (YNNPACK in env["XLA_FLAGS"]) == _jax_has(YNNPACK)
    assert not _jax_has("xla_cpu_no_such_option")
    code = "import numpy as np; print(np.tanh(np.ones(9, np.float32))[0])"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**env, "PYTHONWARNINGS": "error"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr


# -- the terminal ------------------------------------------------------------------------------


def gemm_record(task: Gemm, share: float, ratio: float, seconds: float = 1e-3) -> Any:
    return {
        "name": task.name,
        "seconds": seconds,
        "peak_fraction": {"median": share},
        "peers": {"numpy": {"speedup": {"median": ratio, "low": ratio, "high": ratio}}},
    }


def test_gemm_figures_by_shape_use_and_group() -> None:
    records = [
        gemm_record(Gemm("forward", (1000, 500, 500)), 0.9, 1.5),
        gemm_record(Gemm("dx", (1000, 500, 500)), 0.8, 0.96),
        gemm_record(Gemm("dw", (1000, 500, 500)), 0.7, 0.89),
        gemm_record(Gemm("dw", (1, 500, 10)), 0.1, 2.0),
    ]
    figures = json.loads(json.dumps(report.gemm_figures(records)))
    assert figures["aims"] == [
        {"shape": [1000, 500, 500], "aim": 0.94, "forward": 0.9, "dx": 0.8, "dw": 0.7}
    ]
    found = {(row["group"], row["use"]): row for row in figures["numpy"]}
    assert found["all", "all"]["shapes"] == 4 and found["all", "all"]["level"] == 0.5
    row = found["larger", "dw"]
    assert (row["shapes"], row["level"], row["below"]) == (1, 0.0, 1)
    assert row["median"] == row["lowest"] == pytest.approx(0.89, rel=1e-3)  # the call apart
    assert found["1 row", "all"]["shapes"] == 1
    assert figures["lowest"][0]["name"] == "dw 1000x500x500"
    text = "\n".join(report.gemm_lines(figures))
    assert "90.0%    80.0%    70.0%      94%" in text
    assert "lowest: dw 1000x500x500 0.89×, dx" in text


def test_the_allowance_for_a_call_never_makes_a_win() -> None:
    task = Gemm("dw", (1, 1, 1))
    assert report.apart_from_the_call(gemm_record(task, 1, 0.5, seconds=0.6e-6)) == 1.0
    assert report.apart_from_the_call(gemm_record(task, 1, 0.5, seconds=1.2e-6)) < 0.7
    assert report.apart_from_the_call(gemm_record(task, 1, 2.0, seconds=0.6e-6)) == 2.0


def kernel_record(task: Kernel, seconds: float, copy: float | None = None, **ratios: float) -> Any:
    return {
        "name": task.name,
        "seconds": seconds,
        "bytes": task.bytes,
        "copy_fraction": copy and {"median": copy},
        "peers": {name: {"speedup": {"median": ratio}} for name, ratio in ratios.items()},
    }


def test_kernels_are_judged_by_what_is_asked_at_their_size() -> None:
    small, cached = Kernel("sigmoid", (1, 64)), Kernel("sigmoid", (128, 512))
    large, norm = Kernel("tanh", (4096, 1024)), Kernel("batchnorm_backward", (4096, 1024))
    tasks = [small, cached, large, norm]
    records = [
        kernel_record(small, 0.9e-6, numpy=0.7, torch=0.1),  # 0.3 µs apart: as fast as NumPy
        kernel_record(cached, 5e-5, numpy=9.0, torch=1.4),
        kernel_record(large, 4e-3, 0.91, numpy=0.99, torch=1.2),
        kernel_record(norm, 4e-3, 0.5, numpy=2.0, torch=1.09, jax=9.0),
    ]
    figures = report.kernel_figures(records, tasks)
    found = {(row["name"], row["of"]): (row["found"], row["reached"]) for row in figures["asked"]}
    assert found == {
        ("sigmoid 1x64", "numpy's call"): (1.0, True),
        ("sigmoid 1x64", "call"): (pytest.approx(1 / 0.9), True),
        ("sigmoid 128x512", "fastest"): (1.4, False),
        ("tanh 4096x1024", "fastest"): (0.99, False),
        ("tanh 4096x1024", "copy"): (0.91, True),
        ("batchnorm_backward 4096x1024", "fastest"): (1.09, True),
        ("batchnorm_backward 4096x1024", "torch"): (1.09, False),
    }
    assert len(figures["missed"]) == 3
    text = "\n".join(report.kernel_lines(figures))
    assert text.startswith("4 of 7 figures reached")
    assert "tanh 4096x1024: 1× the fastest asked, 0.99 found" in text
    assert "- 1.5× the fastest" in report.kernel_row(records[1], cached)


def test_every_kernel_is_measured_at_every_size_and_something_is_asked_of_it() -> None:
    assert len({kernel.name for kernel in kernels.KERNELS}) == len(kernels.KERNELS)
    assert all(kernels.asked(kernel) for kernel in kernels.KERNELS)
    sizes = {kernel.size for kernel in kernels.KERNELS if kernel.op == "gelu_backward"}
    assert sizes == {64, 512, 4096, 65536, 500_000, 4096 * 1024}
    # Nothing that fastnn.functional has is forgotten, but for what is measured elsewhere, and max_norm, whose
    # pass over the weights is part of no step that anything is asked of.
    for name in set(functional.__all__) - {"dense_forward", "dense_backward", "max_norm"}:
        assert name in kernels.OPERANDS, name


def test_step_figures_stand_beside_what_is_asked() -> None:
    records = [
        {"name": "wide", "seconds": 0.03, "peak_fraction": {"median": 0.5},
         "peers": {"jax": {"speedup": {"median": 1.25}}, "torch": {"refused": "x"}}},
        {"name": "digits-fit", "seconds": 12e-6, "peak_fraction": None, "peers": {}},
        {"name": "8:3-4:relu", "seconds": 1e-6, "peak_fraction": None, "peers": {}},
    ]  # fmt: skip
    text = "\n".join(report.step_lines(report.step_figures(records)))
    assert "50.0% / 87.0%" in text and "1.25 / 1.20" in text and "? / 1.03" in text
    assert "12.0 / 11.0" in text
    assert "8:3-4" not in text
    text = "\n".join(report.step_lines(report.step_figures(records, "avx2")))
    assert "50.0% / 88.0%" in text and "1.25 / " not in text and "1.25" in text


def test_scaling_figures() -> None:
    def record(name: str, speedup: float) -> Any:
        return {"name": name, "peers": {threads.ONE: {"speedup": {"median": speedup}}}}

    figures = threads.scaling_figures([record("wide", 1.85), record("digits", 0.99)])
    assert [row["reached"] for row in figures["scaling"]] == [False, True]
    assert "1.90 asked   missed" in "\n".join(threads.scaling_lines(figures))


@pytest.mark.parametrize("seconds", [2e-9, 9.994e-7, 0.9999e-3, 0.5, 12.0])
def test_durations_read_back(seconds: float) -> None:
    number, unit = report.duration(seconds).split()
    scale = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert float(number) * scale == pytest.approx(seconds, rel=6e-3)
    assert len(number) <= 5


def test_a_round_of_one_step_is_warmed_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    runner = worker.StepRunner(NumPy(1), SMALL["relu"])
    monkeypatch.setattr(runner.steps, "run", lambda count: runs.append(count) or count)
    runner.time(1)
    assert runs == [1, 1]
    runner.time(1, warm=False)
    assert runs == [1, 1, 1]
    runner.time(3, warm=False)
    assert runs == [1, 1, 1, 1, 3]


def test_breakdown_of_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--breakdown", "nothing.safetensors"]) == 2
    assert "nothing.safetensors: there is no such model file" in capsys.readouterr().err


def test_breakdown_accounts_for_the_step() -> None:
    workload = workloads.parse("8:12-10-6-3:bn+relu")
    found = breakdown.breakdown(workload)
    rows = found["parts"]
    products = [row for row in rows if " dense " in row["kernel"] and " db" not in row["kernel"]]
    assert sum(row["flops"] for row in products) == workload.flops
    assert sum("batch norm" in row["kernel"] for row in rows) == 2 * (len(workload.sizes) - 2)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert all(row["bytes"] > 0 and row["ceiling"] >= 0 for row in rows)
    for row in rows:
        assert row["seconds"] == pytest.approx(
            sum(seconds for _, seconds in row["operations"]), rel=0.5, abs=1e-6
        )
    # What must move, in float32: x, w, b and y of the first layer; each batch norm's arrays once.
    moved = {row["kernel"]: row["bytes"] for row in rows}
    assert moved["0 dense forward"] == 4 * (8 * 12 + 12 * 10 + 10 + 8 * 10)
    assert moved["0 dense dw"] == 4 * (8 * 12 + 12 * 10 + 8 * 10)
    assert moved["1 batch norm backward"] == 4 * (4 * 8 * 10 + 6 * 10)
    # w and v in and out, the gradient in; the flat buffers have a little room between arrays
    count = sum(a.size for a in workload.parameters().values())
    assert 4 * 5 * count <= moved["update"] < 4 * 5 * 1.5 * count
    assert found["seconds"] > 0
    lines = list(report.breakdown_lines({"name": "x", **found}))
    assert lines[1].startswith("kernel") and lines[-1].startswith("sum of the kernels")


def test_the_roofline_is_the_longer_of_arithmetic_and_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breakdown, "bandwidth", lambda size: 1e10)
    assert breakdown.roofline(10**9, 8, 1e11) == (0.01, "FMA")
    assert breakdown.roofline(0, 10**9, 1e11) == (0.1, "copy")


def test_every_layer_has_its_parameters() -> None:
    for workload in workloads.WORKLOADS.values():
        shapes = {name: a.shape for name, a in workload.parameters().items()}
        for i, (d, h) in enumerate(pairwise(workload.sizes)):
            assert shapes[f"w{i}"] == (d, h)
            norm = workload.batchnorm and i < len(workload.sizes) - 2
            assert (f"gamma{i}" in shapes) == norm


# -- the command -------------------------------------------------------------------------------


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
    monkeypatch.setattr(threads, "SCALING_QUICK", [SMALL["relu"], Kernel("tanh", (2, 4))])
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
    record = threads.neighbour("fastnn", SMALL["relu"], available_cpus()[-2:], 0.05)
    assert record["steps"] >= threads.SLICES
    assert record["ratio"] == record["totals"]["disturbed"] / record["totals"]["one"]
    assert "1.1×" in threads.neighbour_row(record, "fastnn")


BENCHMARKS = README_SCRIPT.parent
in_a_checkout = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="an installed package has no benchmarks/"
)


def load(path: Path) -> Any:
    """A module from its file."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@in_a_checkout
def test_a_call_that_is_no_longer_counted_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instructions = load(BENCHMARKS / "instructions.py")
    stored = {**instructions.tools(), "counts": {"avx2": {"relu": 1000, "gone": 5}}}
    (found,) = instructions.compare(stored, {"avx2": {"relu": 1001}})
    assert "gone" in found and "was not counted" in found
    monkeypatch.setattr("shutil.which", {"valgrind": "valgrind", "cc": "/nowhere/cc"}.get)
    monkeypatch.setattr(sys, "argv", ["instructions.py"])
    with pytest.raises(SystemExit, match="a C compiler is needed, and /nowhere/cc cannot be run"):
        instructions.main()


@in_a_checkout
def test_each_kernel_belongs_to_one_file_of_benchmarks() -> None:
    found: list[Kernel] = []
    for path in sorted(BENCHMARKS.glob("test_bench_*.py")):
        found += getattr(load(path), "TASKS", [])
    assert len(found) == len(kernels.KERNELS) and set(found) == set(kernels.KERNELS)
    steps = load(BENCHMARKS / "test_bench_steps.py")
    assert {**steps.STEPS, **steps.EPOCHS} == workloads.WORKLOADS


@in_a_checkout
def test_readme_tables_and_pictures_from_the_json_of_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    readme = load(README_SCRIPT)
    monkeypatch.setattr(pairs, "QUICK_STEPS", HASTY)
    path = str(tmp_path / "speed.json")
    assert run_here("digits", "digits-fit", "--peers", "numpy", "--json", path) == 0
    page = tmp_path / "README.md"
    begin, end = readme.markers("speed")
    page.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main([path]) == 0
    lines = page.read_text().splitlines()
    assert "![" in lines[-5] and "](docs/images/speed.png)" in lines[-5]
    assert 5_000 < (tmp_path / "docs" / "images" / "speed.png").stat().st_size < 60_000
    assert lines[0] == "above" and lines[-1] == "below" and "old" not in lines
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert [len(row) for row in rows] == [4] * 4  # heading, rule, two workloads
    assert rows[2][0].startswith(" digits: `32:64-64-64-10:relu`") and "×" in rows[2][3]
    conditions = lines[-3]
    assert np.__version__ in conditions and fastnn.isa() in conditions and "UTC" in conditions
    assert readme.main([str(tmp_path / "none.json")]) == 2


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
