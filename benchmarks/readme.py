"""Write the speed table of the README from what the benchmark measured.

    fastnn bench --json speed.json
    python benchmarks/readme.py speed.json

Replaces what stands between the two marker lines of README.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastnn.bench.report import duration
from fastnn.bench.workloads import WORKLOADS
from fastnn.files import replacing

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"


def table(document: dict[str, Any]) -> Iterator[str]:
    """A row per workload: our time, its fraction of the FMA peak, and how many times longer each
    peer takes."""
    results = [result for result in document["results"] if result["name"] in WORKLOADS]
    if not results:
        raise ValueError("no training steps in this file: it is written by fastnn bench --json")
    peers = list(dict.fromkeys(name for result in results for name in result["peers"]))
    yield f"| one training step | fastnn | of the FMA peak | {' | '.join(peers)} |"
    yield f"| --- | ---: | ---: |{' ---: |' * len(peers)}"
    for result in results:
        workload = WORKLOADS[result["name"]]
        network = f"{workload.name}: `{workload.describe()}`"
        share = result["peak_fraction"]
        cells = [duration(result["seconds"]), f"{share['median']:.0%}" if share else ""]
        cells += [_ratio(result["peers"].get(peer, {})) for peer in peers]
        yield f"| {network} | {' | '.join(cells)} |"
    yield ""
    yield from _conditions(document)


def _ratio(peer: dict[str, Any]) -> str:
    if "speedup" not in peer:
        return ""
    speedup = peer["speedup"]
    return f"{speedup['median']:.2f}× ({speedup['low']:.2f}–{speedup['high']:.2f})"


def _conditions(document: dict[str, Any]) -> Iterator[str]:
    machine, settings = document["machine"], document["settings"]
    versions = "; ".join(
        f"{name} {' '.join(map(str, found.values()))}"
        for name, found in document["versions"].items()
    )
    peaks = ", ".join(
        f"{dtype} {flops / 1e9:.0f} GF/s" for dtype, flops in document["ceilings"]["fma"].items()
    )
    yield (
        f"{machine['cpu']}, {machine['system']}, Python {machine['python']}, "
        f"{settings['threads']} thread(s) each, FMA peak {peaks}, {machine['date']}. {versions}. "
        "`-fit`: fastnn through `fit` with shuffling, history and progress bar, the others their "
        "bare steps."
    )


def replace(text: str, lines: Iterator[str]) -> str:
    """The README with other lines between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README} has no lines {BEGIN} and {END}")
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def main(arguments: list[str]) -> int:
    """Rewrite the README; 2 where that cannot be."""
    if len(arguments) != 1:
        print("usage: python benchmarks/readme.py SPEED.json", file=sys.stderr)
        return 2
    try:
        document = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        text = replace(README.read_text(encoding="utf-8"), table(document))
        with replacing(README, "w", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError, KeyError) as error:
        print(f"benchmarks/readme.py: error: {arguments[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
