"""The benchmark harness: its statistics, its protocol, its contenders' arithmetic."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fastnn import reference
from fastnn.bench import kernels, oracle, pairs, report, workloads
from fastnn.bench.client import (
    YNNPACK,
    NotApplicable,
    WorkerFailed,
    WorkerProcess,
    _jax_has,
    available_cpus,
    environment,
)
from fastnn.bench.compare import LOSS_TOLERANCE, Team
from fastnn.bench.contenders import CONTENDERS, REQUIRES
from fastnn.bench.contenders.numpy_mlp import NumPy, NumPySteps
from fastnn.bench.kernels import Kernel
from fastnn.bench.workloads import Gemm, Workload

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
