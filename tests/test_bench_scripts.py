"""The scripts of `benchmarks/`: the guard by instruction counts, the lists of kernels, README's tables."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import cli
from fastnn.bench import kernels, pairs, workloads
from fastnn.bench.kernels import Kernel

README_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "readme.py"
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
    monkeypatch.setattr(
        pairs, "QUICK_STEPS", pairs.Effort(0.001, min_pairs=3, max_pairs=3, budget=0.1)
    )
    path = str(tmp_path / "speed.json")
    assert (
        cli.main(["bench", "digits", "digits-fit", "--peers", "numpy", "--json", path, "--quick"])
        == 0
    )
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
