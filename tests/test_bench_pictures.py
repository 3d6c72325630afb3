"""The pictures of the benchmark, and the places where a run leaves its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.bench import kernels, report, roofline
from fastnn.bench.kernels import Kernel
from fastnn.bench.outputs import Outputs
from fastnn.bench.workloads import WORKLOADS, Gemm

INFO = {"cpu": "a CPU", "python": "3.11", "date": "today", "system": "Linux"}


def speedup(median: float) -> dict[str, Any]:
    return {"seconds": 1e-3, "speedup": {"median": median, "low": 0.9 * median,
                                         "high": 1.1 * median, "pairs": 30}}  # fmt: skip


def step(name: str, **peers: float) -> dict[str, Any]:
    return {
        "name": name, "ours": "fastnn", "dtype": "float32", "seconds": 1e-4,
        "network": WORKLOADS[name].describe(), "peak_fraction": {"median": 0.5},
        "peers": {n: speedup(r) for n, r in peers.items()} | {"sklearn": {"refused": "no"}},
    }  # fmt: skip


def document(results: list[Any], figures: Any = None) -> dict[str, Any]:
    ceilings = {"fma": {"float32": 1e11}, "bandwidth": {"L1": 2e11, "memory": 1e10}}
    versions = {"fastnn": {"fastnn": "1", "isa": "avx2"}, "torch": {"torch": "2"}}
    return report.document(INFO, {"threads": 1}, versions, ceilings, results, [], figures or {})


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


# -- the roofline ------------------------------------------------------------------------------


def test_every_kernel_has_a_dot_and_a_family() -> None:
    assert roofline.ARITHMETIC.keys() == kernels.OPERANDS.keys()
    assert {roofline.family(task) for task in roofline.TASKS} == set(roofline.FAMILIES)
    assert {task.op for task in roofline.TASKS if isinstance(task, Kernel)} == set(kernels.OPERANDS)


def test_dots_count_arithmetic_and_bytes() -> None:
    tasks = [Gemm("dw", (2, 3, 4)), Kernel("adam_update", (5, 2), "float64")]
    records = [{"name": task.name, "seconds": 1e-6} for task in tasks]
    product, update = roofline.dots(records, tasks)
    assert (product["flops"], product["bytes"]) == (2 * 2 * 3 * 4, 4 * (6 + 12 + 8))
    assert update["bytes"] == 7 * 10 * 8 and update["flops"] == 12 * 10  # w, dw, m, v; w, m, v


# -- pictures ----------------------------------------------------------------------------------


def test_overview_has_a_bar_for_each_ratio_and_a_dot_for_each_kernel() -> None:
    pictures = pytest.importorskip("fastnn.bench.pictures")
    tasks = [Kernel("relu", (8, 8)), Kernel("gelu", (8, 8)), Gemm("dx", (9, 9, 9))]
    dots = roofline.dots([{"name": task.name, "seconds": 1e-8} for task in tasks], tasks)
    found = document([step("tiny", torch=4.0, numpy=0.5), step("digits", torch=30.0)],
                     {"roofline": dots})  # fmt: skip
    figure = pictures.overview(json.loads(json.dumps(found)))
    bars, roof = figure.axes
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars.patches)
    assert edges == [(0.5, 1.0), (1.0, 4.0), (1.0, 30.0)]
    assert texts(bars) == ["4.00×  PyTorch", "0.50×  NumPy", "30.0×  PyTorch"]
    drawn = np.concatenate([line.get_xydata() for line in roof.lines if line.get_marker() == "o"])
    expected = sorted((dot["flops"] / dot["bytes"], dot["flops"] / 10) for dot in dots)
    np.testing.assert_allclose(sorted(map(tuple, drawn)), expected)
    assert {"relu", "gelu", "dx 9x9x9", "FMA peak 100 GF/s"} <= set(texts(roof))
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.overview(document([]))


def test_growth_curves_pass_through_the_points() -> None:
    pictures = pytest.importorskip("fastnn.bench.pictures")
    results = [
        {"name": f"batch {n}", "ours": "fastnn", "axis": "batch", "value": n, "seconds": n * 1e-4,
         "memory": {"fastnn": 40e6 + n, "torch": None},
         "peers": {"torch": speedup(2.0) if n > 1 else {"refused": "another loss"}}}
        for n in (1, 2, 4)
    ]  # fmt: skip
    speed, memory = pictures.growth_curves(document(results)).axes
    curves = {len(line.get_xdata()): line for line in speed.lines}
    assert list(curves[3].get_ydata()) == pytest.approx([1e4, 5e3, 2.5e3])
    assert list(curves[2].get_xdata()) == [2, 4]
    assert texts(speed) == ["PyTorch", "fastnn"] and texts(memory) == ["fastnn"]
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.growth_curves(document([step("tiny")]))


# -- outputs -----------------------------------------------------------------------------------


def outputs(tmp_path: Path, **options: Any) -> Outputs:
    return Outputs(options.pop("folder", str(tmp_path / "new")), "bench", note=print, **options)


def test_a_folder_takes_all_files(tmp_path: Path) -> None:
    pictures = pytest.importorskip("fastnn.bench.pictures")
    places = outputs(tmp_path, draw=pictures.overview)
    assert "nothing written" in places.written()
    found = document([step("tiny", torch=4.0)])
    places.write(found)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "bench.csv", "bench.json", "bench.png",
    ]  # fmt: skip
    assert json.loads((tmp_path / "new" / "bench.json").read_text())["results"] == found["results"]
    assert places.written().count("bench.") == 3
    places.write(document([]))  # nothing to draw: the older picture stays


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write in the folder .*choose another"):
        outputs(tmp_path, folder=str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match=r"a\.json .*choose another place"):
        outputs(tmp_path, folder=None, json=str(tmp_path / "nowhere" / "a.json"))
    with pytest.raises(IsADirectoryError, match="is a folder"):
        outputs(tmp_path, folder=None, csv=str(tmp_path))
    with pytest.raises(ValueError, match=r"must end in one of \.png"):
        outputs(tmp_path, folder=None, png="a.gif", draw=dict)
    with pytest.raises(ValueError, match="no picture"):
        outputs(tmp_path, folder=None, png="a.png")
    assert not outputs(tmp_path, folder=None)


def test_without_matplotlib_a_folder_still_takes_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ImportError("pictures need matplotlib")

    monkeypatch.setattr("fastnn.plots.canvas.new_figure", missing)
    notes: list[str] = []
    places = Outputs(str(tmp_path), "bench", draw=dict, note=notes.append)
    assert places.png is None and places.json is not None
    assert notes == ["pictures need matplotlib; going on without the picture"]
    with pytest.raises(ImportError, match="matplotlib"):
        outputs(tmp_path, png=str(tmp_path / "a.png"), draw=dict)
