"""What `fastnn bench --compare` calls slower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastnn.bench import regressions


def figure(median: float, width: float = 0.01) -> dict[str, Any]:
    return {"median": median, "low": median * (1 - width), "high": median * (1 + width)}


def run(numpy: str = "2.0", cpu: str = "x", **tasks: tuple[float, float, float]) -> dict[str, Any]:
    """A document; of each task the share of the peak and the ratios to NumPy and PyTorch."""
    return {
        "format": 1,
        "machine": {"cpu": cpu, "python": "3.11"},
        "settings": {"threads": 1},
        "versions": {"fastnn": {"isa": "avx2"}, "numpy": {"numpy": numpy}, "torch": {"torch": "2"}},
        "results": [
            {"name": name, "dtype": "float32", "peak_fraction": figure(peak),
             "peers": {"numpy": {"speedup": figure(a)}, "torch": {"speedup": figure(b)}}}
            for name, (peak, a, b) in tasks.items()
        ],
    }  # fmt: skip


def verdicts(old: Any, new: Any) -> dict[str, str]:
    return {task["name"]: task["verdict"] for task in regressions.changes(old, new)["tasks"]}


def test_slower_is_what_most_measures_say_beyond_interval_and_noise() -> None:
    old = run(a=(0.5, 2.0, 3.0), b=(0.5, 2.0, 3.0), c=(0.5, 2.0, 3.0), d=(0.5, 2.0, 3.0))
    new = run(a=(0.4, 1.6, 2.4), b=(0.4, 2.0, 3.0), c=(0.6, 2.4, 3.6), d=(0.485, 1.94, 2.91))
    assert verdicts(old, new) == {"a": "slower", "b": "same", "c": "faster", "d": "same"}
    assert verdicts(new, new) == dict.fromkeys("abcd", "same")
    text = "\n".join(regressions.lines(regressions.changes(old, new), "old.json"))
    assert "slower  a" in text and "0.80×" in text and "of the peak 0.80" in text
    assert "1 slower, 1 faster, 2 within the noise" in text


def test_wide_intervals_are_noise() -> None:
    old, new = run(a=(0.5, 2.0, 3.0)), run(a=(0.45, 1.8, 2.7))
    assert verdicts(old, new) == {"a": "slower"}
    (record,) = new["results"]
    record["peak_fraction"] = figure(0.45, 0.2)
    record["peers"]["numpy"]["speedup"] = figure(1.8, 0.2)
    assert verdicts(old, new) == {"a": "same"}


def test_a_peer_of_another_version_does_not_count() -> None:
    old, new = run(a=(0.5, 2.0, 3.0)), run("2.1", a=(0.5, 1.0, 3.0))
    found = regressions.changes(old, new)
    assert [m["of"] for m in found["tasks"][0]["measures"]] == ["peak", "torch"]
    assert any("another version of numpy" in note for note in found["notes"])


def test_other_conditions_are_said_and_tasks_of_one_run_listed() -> None:
    found = regressions.changes(run(a=(1, 1, 1)), run(cpu="y", b=(1, 1, 1)))
    assert found["notes"] == ["another cpu: x then, y now"]
    assert found["missing"] == ["b", "a"] and not found["tasks"]


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "{}",
        "no json",
        '{"format": 1}',
        '{"format": 1, "results": [{}], "versions": {}}',
        '{"format": 1, "results": [], "versions": null}',
        '{"format": 1, "results": null, "versions": {}}',
        '{"format": 1, "results": [], "versions": {"fastnn": "0.1"}}',
        '{"format": 1, "results": [], "versions": {}, "machine": []}',
        '{"format": 1, "results": [{"name": "a", "peers": []}], "versions": {}}',
        '{"format": 1, "results": [{"name": "a", "peak_fraction": {"median": 1}}], "versions": {}}',
        '{"format": 1, "results": [{"name": "a", "peers": {"torch": {"speedup": {"median": 0, '
        '"low": 0, "high": 0}}}}], "versions": {}}',
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"old\.json is not what fastnn bench --json writes"):
        regressions.load(path)
    path.write_text(json.dumps(run()))
    assert regressions.load(path)["results"] == []
