"""What became slower, or faster, since an older run: `fastnn bench --compare OLD.json`.

Seconds of two days cannot be compared on a machine that is shared. What each run paired can: our
share of the peak measured just before, and our ratio to each peer of the same version. A task counts
as slower where most of these say so, each by more than its interval and `NOISE` together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

Record = Mapping[str, Any]

# What the paired medians of two runs of the same code may differ by: another layout of memory,
# another neighbour. Bootstrap intervals do not see it.
NOISE = 0.04
# What must be the same in both runs for the figures to speak of the code alone.
CONDITIONS = (("machine", "cpu"), ("machine", "python"), ("settings", "threads"))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document of an older run.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It was not written by ``fastnn bench``.
    """
    with open(path, encoding="utf-8") as file:
        try:
            document = json.load(file)
        except ValueError:
            document = None
    if not _is_run(document):
        raise ValueError(
            f"{path} is not what fastnn bench --json writes; --compare needs such a file"
        )
    return document


def _is_run(document: Any) -> bool:
    """Whether everything that `changes` reads is there, and of the kind that `document` writes."""

    def all_dicts(values: Any) -> bool:
        return isinstance(values, dict) and all(isinstance(v, dict) for v in values.values())

    def figure(value: Any) -> bool:
        if not value:  # None: it could not be measured
            return True
        keys = ("median", "low", "high")
        return isinstance(value, dict) and all(
            isinstance(value.get(key), (int, float)) and value[key] > 0 for key in keys
        )

    def record(value: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return False
        return all_dicts(value.get("peers", {})) and all(map(figure, _figures(value).values()))

    return (
        isinstance(document, dict)
        and "format" in document
        and all_dicts(document.get("versions"))
        and all(isinstance(document.get(part, {}), dict) for part, _ in CONDITIONS)
        and isinstance(document.get("results"), list)
        and all(map(record, document["results"]))
    )


def changes(old: Record, new: Record) -> dict[str, Any]:
    """Each task of both runs with its change.

    Returns
    -------
    dict
        ``notes``: lines about conditions that differ; ``tasks``: for each task ``name``, ``change``
        (the median over all measures of new / old; above 1 is faster), ``verdict`` ("slower",
        "faster" or "same") and ``measures``, each with ``of, change, low, high``; ``missing``: names
        of tasks that only one run has, or that have no measure in common.
    """
    notes = [
        f"another {key}: {old.get(part, {}).get(key)} then, {new[part][key]} now"
        for part, key in CONDITIONS
        if old.get(part, {}).get(key) != new[part][key]
    ]
    same, before = {"peak", "copy"}, old["versions"]
    for name, found in new["versions"].items():
        if name == "fastnn" and before.get(name, {}).get("isa") != found.get("isa"):
            notes.append(f"another instruction set: {before.get(name, {}).get('isa')} then")
        elif name != "fastnn" and before.get(name) == found:
            same.add(name)
        elif name != "fastnn" and name in before:
            notes.append(f"another version of {name}: the ratios to it are left out")
    earlier = {(r["name"], r.get("dtype")): r for r in old["results"]}
    tasks, missing = [], []
    for record in new["results"]:
        then = earlier.pop((record["name"], record.get("dtype")), None)
        measures = list(_measures(then, record, same)) if then else []
        if measures:
            tasks.append({"name": record["name"], **_verdict(measures), "measures": measures})
        else:
            missing.append(record["name"])
    missing += [name for name, _ in earlier]
    return {"notes": notes, "tasks": tasks, "missing": missing}


def _measures(old: Record, new: Record, same: set[str]) -> Iterator[dict[str, Any]]:
    """The paired figures that both records have, as new / old."""
    for name, then in _figures(old).items():
        now = _figures(new).get(name)
        if now and name in same:
            yield {
                "of": name,
                "change": now["median"] / then["median"],
                "low": now["low"] / then["high"],
                "high": now["high"] / then["low"],
            }


def _figures(record: Record) -> dict[str, Any]:
    found = {"peak": record.get("peak_fraction"), "copy": record.get("copy_fraction")}
    found |= {name: peer.get("speedup") for name, peer in record.get("peers", {}).items()}
    return {name: figure for name, figure in found.items() if figure}


def _verdict(measures: list[dict[str, Any]]) -> dict[str, Any]:
    slower = sum(m["high"] < 1 - NOISE for m in measures)
    faster = sum(m["low"] > 1 + NOISE for m in measures)
    verdict = "same"
    if 2 * slower > len(measures):
        verdict = "slower"
    elif 2 * faster > len(measures):
        verdict = "faster"
    return {"change": median(m["change"] for m in measures), "verdict": verdict}


def lines(found: Record, path: str) -> Iterator[str]:
    """`changes` for the terminal, the worst first."""
    yield f"beside {path}: speed now / then, {NOISE:.0%} and the intervals apart"
    yield from (f"  note: {note}" for note in found["notes"])
    tasks = sorted(found["tasks"], key=lambda task: float(task["change"]))
    for verdict in ("slower", "faster"):
        for task in tasks:
            if task["verdict"] == verdict:
                said = ", ".join(
                    f"{_OF.get(m['of'], m['of'])} {m['change']:.2f}" for m in task["measures"]
                )
                yield f"  {verdict}  {task['name']:<32} {task['change']:.2f}×   ({said})"
    counts = {v: sum(t["verdict"] == v for t in tasks) for v in ("slower", "faster", "same")}
    text = (
        f"{counts['slower']} slower, {counts['faster']} faster, {counts['same']} within the noise"
    )
    if missing := found["missing"]:
        text += f"; not in both: {', '.join(missing[:6])}{', …' * (len(missing) > 6)}"
    yield text


_OF = {"peak": "of the peak", "copy": "of a copy"}
