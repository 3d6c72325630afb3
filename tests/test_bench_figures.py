"""What the benchmark makes of its measurements: figures, judgements, the breakdown of a step."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from fastnn import cli, functional
from fastnn.bench import breakdown, kernels, report, threads, worker, workloads
from fastnn.bench.contenders.numpy_mlp import NumPy
from fastnn.bench.kernels import Kernel
from fastnn.bench.workloads import Gemm, Workload


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
    runner = worker.StepRunner(NumPy(1), Workload("a", 6, (5, 7, 4, 3)))
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
