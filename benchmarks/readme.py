"""Write the figures of the README and of docs/growth.md, tables and pictures, from measurements.

    python benchmarks/readme.py                             measures first: some eight minutes
    python benchmarks/readme.py bench.json cold-start.json  what is measured already
    python benchmarks/readme.py growth-*.json               the curves of docs/growth.md

The files are those of `fastnn bench`, `fastnn bench --cold-start` and `fastnn bench --growth AXIS`
with `--json` or `--out`. What they replace stands between pairs of marker lines; the pictures go into
docs/images/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from fastnn.bench import cold_start, pictures
from fastnn.bench.report import duration
from fastnn.bench.workloads import WORKLOADS
from fastnn.files import replacing

ROOT = Path(__file__).parents[1]
IMAGES = "docs/images"
SPEED, COLD_START = "speed", "cold start"
MEASURED = Path("runs/readme")
DPI, COLOURS = 110, 48  # of the pictures, for files of some 50 kB


def markers(block: str) -> tuple[str, str]:
    """The lines between which a block stands."""
    return f"<!-- {block}: begin -->", f"<!-- {block}: end -->"


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
    yield _image("speed.png", "Times of training steps, in steps of fastnn")
    yield ""
    yield from _conditions(document)


def cold_start_table(document: dict[str, Any]) -> Iterator[str]:
    """A row per contender: from `python -c` to a trained model, memory, and sizes on the disk."""
    record = document["results"][0]
    sizes = document["figures"]["footprint"]
    yield (
        "| | trained after | times as long | memory | import alone | wheel, about | installed "
        "| with requirements |"
    )
    yield f"| --- |{' ---: |' * 7}"
    for name, phases in record["phases"].items():
        size = sizes.get(name)
        cells = [
            duration(phases["trained"]),
            _ratio(record["peers"].get(name, {})),
            _megabytes(record["memory"][name]),
            cold_start.import_time(size["import_seconds"]) if size else "",
            *(
                _megabytes(size[key]) if size else ""
                for key in ("wheel", "installed", "with_requirements")
            ),
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield _image("cold-start.png", "From python -c to a trained model, memory and size")
    yield ""
    units = "-".join(map(str, cold_start.HIDDEN))
    yield (
        f"Median of {_pairs(record)} alternated runs with a warm file cache: "
        f"{record['data']}, hidden layers {units}, {cold_start.EPOCHS} epochs of {cold_start.BATCH} "
        f"rows. `import alone` is beside a Python that imports nothing; {cold_start.BARE}. "
        f"{_machine(document)}"
    )


def _image(name: str, says: str) -> str:
    return f"![{says}]({IMAGES}/{name})"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 10e6 else f"{size / 1e6:.0f} MB"


def _pairs(record: dict[str, Any]) -> int:
    return max(p["speedup"]["pairs"] for p in record["peers"].values() if "speedup" in p)


def _ratio(peer: dict[str, Any]) -> str:
    if "speedup" not in peer:
        return ""
    speedup = peer["speedup"]
    return f"{speedup['median']:.2f}× ({speedup['low']:.2f}–{speedup['high']:.2f})"


def _machine(document: dict[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    versions = "; ".join(
        f"{name} {' '.join(dict.fromkeys(found.values()))}"  # jax and jaxlib are mostly the same
        for name, found in document["versions"].items()
    )
    pinned = ", not pinned" if settings.get("unpinned") else ""
    return (
        f"{machine['cpu']}, {machine['system']}, Python {machine['python']}, "
        f"{settings['threads']} thread(s) each{pinned}, {machine['date']}. {versions}."
    )


def growth(document: dict[str, Any]) -> Iterator[str]:
    """The picture of an axis, and the conditions."""
    axis = document["results"][0]["axis"]
    says = f"Steps per second and memory along the {axis}, of fastnn and its peers"
    yield f"![{says}](images/growth-{axis}.png)"
    yield ""
    yield _machine(document)


def _conditions(document: dict[str, Any]) -> Iterator[str]:
    peaks = ", ".join(
        f"{dtype} {flops / 1e9:.0f} GF/s" for dtype, flops in document["ceilings"]["fma"].items()
    )
    yield (
        f"{_machine(document)} FMA peak {peaks}. "
        "`-fit`: fastnn through `fit` with shuffling, history and progress bar, the others their "
        "bare steps."
    )


def replace(text: str, block: str, lines: Iterator[str]) -> str:
    """A page with other lines between the markers of a block."""
    begin, end = markers(block)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no lines {begin} and {end}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def measure() -> list[Path]:
    """Run both benchmarks; the files that they leave."""
    bench = [sys.executable, "-m", "fastnn", "bench", "--out", str(MEASURED)]
    subprocess.run(bench, check=True)
    subprocess.run([*bench, "--cold-start"], check=True)
    return [MEASURED / "bench.json", MEASURED / "cold-start.json"]


def write(path: Path) -> None:
    """Put what a file holds into its page, with its picture."""
    document = json.loads(path.read_text(encoding="utf-8"))
    record = document["results"][0]
    page, draw = ROOT / "README.md", pictures.overview
    if "axis" in record:
        page, draw = ROOT / "docs" / "growth.md", pictures.growth_curves
        block, lines = f"growth {record['axis']}", growth(document)
    elif "phases" in record:
        block, lines, draw = COLD_START, cold_start_table(document), pictures.cold_start_bars
    else:
        block, lines = SPEED, table(document)
    text = replace(page.read_text(encoding="utf-8"), block, lines)
    picture(draw(document), ROOT / IMAGES / f"{block.replace(' ', '-')}.png")
    with replacing(page, "w", encoding="utf-8") as file:
        file.write(text)


def picture(figure: Any, path: Path) -> None:
    """Save a figure with few colours, which makes the file small."""
    from PIL import Image  # comes with matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = BytesIO()
    figure.savefig(whole, format="png", dpi=DPI)
    image = Image.open(whole).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    with replacing(path) as file:
        image.save(file, format="png", optimize=True)


def main(arguments: list[str]) -> int:
    """Rewrite the pages; 2 where that cannot be."""
    if any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    path: Path | None = None
    try:
        for path in [Path(argument) for argument in arguments] or measure():
            write(path)
    except subprocess.CalledProcessError:
        return 2  # it has said why
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"benchmarks/readme.py: error: {path}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
