"""What a comparison found: lines for the terminal, JSON for keeping, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastnn.bench.compare import Record
from fastnn.bench.kernels import CALL_ALLOWANCE, CALL_SECONDS, Kernel, asked
from fastnn.bench.workloads import GEMM_AIMS, GEMM_GRID, GEMM_USES, STEP_AIMS, STEP_AIMS_AVX2, Gemm
from fastnn.files import replacing

FORMAT = 1


def machine() -> dict[str, Any]:
    """Where and when this was measured; what cannot be read is "unknown"."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = [
            line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line
        ]
        cpu = names[0] if names else platform.processor()
    except OSError:
        cpu = platform.processor()
    try:
        load: float | str = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = "unknown"
    return {
        "cpu": cpu or "unknown",
        "cores": os.cpu_count() or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": load,
    }


# -- terminal ----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.0123), duration(4.56e-5), duration(7e-9)
    ('12.3 ms', '45.6 µs', '7 ns')
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale * 0.9995:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000 * scale else f"{seconds:.0f} s"
    return f"{seconds * 1e9:.3g} ns"


def header(info: Record, settings: Record, versions: Record, ceilings: Record) -> Iterator[str]:
    """Machine, versions and ceilings, above every table."""
    cpus = f"core(s) {','.join(map(str, settings['cpus']))}"
    if settings.get("unpinned"):
        cpus = f"cores of the system's choice, NOT PINNED ({settings['unpinned']})"
    yield f"{info['cpu']}, {info['system']}, Python {info['python']}, {info['date']}"
    yield (
        f"{settings['threads']} thread(s) each on {cpus}; one process per contender, "
        f"alternated; {'quick' if settings['quick'] else 'full'}"
    )
    yield "; ".join(
        f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items())
        for name, found in versions.items()
    )
    peaks = [f"{dtype} {flops / 1e9:.0f}" for dtype, flops in ceilings["fma"].items()]
    if peaks:
        isa = versions.get("fastnn", {}).get("isa")
        yield f"FMA peak{f' of {isa}' * bool(isa)}, GF/s on these cores: {', '.join(peaks)}"
    places = [f"{place} {value / 1e9:.1f}" for place, value in ceilings["bandwidth"].items()]
    if places:
        yield f"copy, GB/s read + written on these cores: {', '.join(places)}"


ROW = "{:<24} {:<15} {:>9} {:>9} {:>17} {:>6}"


def heading(ours: str) -> str:
    """The line above `rows`."""
    return ROW.format("", "", "time", f"{ours} is", "95% interval", "pairs")


def rows(record: Record, labels: dict[str, str]) -> Iterator[str]:
    """One task: our time, then each peer's with how many times faster we are."""
    ours = record["ours"]
    share = record.get("peak_fraction")
    notes = []
    if share:
        notes.append(f"{share['median']:.1%} of the FMA peak")
    if record["disturbed"]:
        notes.append(f"({record['disturbed']:.0%} of the rounds disturbed by other processes)")
    line = ROW.format(
        record["name"], labels.get(ours, ours), duration(record["seconds"]), "", "", ""
    )
    yield "  ".join([line.rstrip(), *notes])
    for name, peer in record["peers"].items():
        label = labels.get(name, name)
        if "refused" in peer:
            yield f"{'':<24} {label:<15} {peer['refused']}"
            continue
        if "not_applicable" in peer:
            continue
        s = peer["speedup"]
        interval = f"{s['low']:.2f} to {s['high']:.2f}"
        yield ROW.format(
            "", label, duration(peer["seconds"]), f"{s['median']:.2f}×", interval, s["pairs"]
        )


def step_figures(records: Sequence[Record], isa: str = "avx512") -> Record:
    """What is asked of the whole steps on this instruction set (`STEP_AIMS`), and what was found."""
    asked_here = STEP_AIMS if isa == "avx512" else STEP_AIMS_AVX2
    rows = []
    for record in records:
        aims = asked_here.get(record["name"])
        if aims is None:
            continue
        share = record.get("peak_fraction")
        speedups = {
            name: peer["speedup"]["median"]
            for name, peer in record["peers"].items()
            if "speedup" in peer
        }
        rows.append(
            {
                "name": record["name"],
                "seconds": record["seconds"],
                "peak_fraction": [share["median"] if share else None, aims.peak_fraction],
                "jax": [speedups.get("jax"), aims.jax],
                "torch": [speedups.get("torch"), aims.torch],
                "microseconds": [record["seconds"] * 1e6, aims.microseconds],
            }
        )
    return {"steps": rows}


def step_lines(figures: Record) -> Iterator[str]:
    """`step_figures` as a table: found / asked."""
    if not figures["steps"]:
        return
    yield "found / asked (PyTorch: where both sides run the same instruction set)"
    line = "{:<14} {:>9} {:>16} {:>15} {:>15} {:>14}"
    yield line.format("", "time", "of the FMA peak", "to JAX jit", "to PyTorch", "µs a step")
    for row in figures["steps"]:

        def cell(key: str, form: str, row: Record = row) -> str:
            found, wanted = row[key]
            if wanted is None and (found is None or key == "microseconds"):
                return ""
            ours = "?" if found is None else format(found, form)
            return ours if wanted is None else f"{ours} / {wanted:{form}}"

        yield line.format(
            row["name"], duration(row["seconds"]), cell("peak_fraction", ".1%"),
            cell("jax", ".2f"), cell("torch", ".2f"), cell("microseconds", ".1f"),
        ).rstrip()  # fmt: skip


def gemm_row(record: Record) -> str:
    """One product: time, fraction of the FMA peak, paired ratio to NumPy's with its interval."""
    share = record["peak_fraction"]
    line = f"{record['name']:<24} {duration(record['seconds']):>9}"
    line += f" {share['median']:>7.1%}" if share else " " * 8
    for name, peer in record["peers"].items():
        if s := peer.get("speedup"):
            line += f"   {s['median']:.2f}× {name} ({s['low']:.2f} to {s['high']:.2f})"
        else:
            line += f"   {name}: {peer.get('refused') or peer.get('not_applicable')}"
    return line


# What must hold on the grid: paired medians of at least `LEVEL` on `LEVEL_SHARE` of the shapes, and
# none below `WORST`.
LEVEL, LEVEL_SHARE, WORST = 0.97, 0.95, 0.9


def gemm_figures(records: Sequence[Record]) -> Record:
    """The grid in numbers.

    Returns
    -------
    dict
        ``aims``: for each shape of `GEMM_AIMS` its aim and the fraction of the FMA peak of each
        use; ``numpy``: for each use and each group, and "all" of either, how many shapes, the
        share with a ratio to NumPy of at least `LEVEL`, the median, the lowest, and how many are
        below `WORST` (the ratios are apart from the call, see `apart_from_the_call`); ``lowest``:
        the names of the worst, with their ratios.
    """
    by_name = {record["name"]: record for record in records}
    aims = []
    for shape, aim in GEMM_AIMS.items():
        found = [by_name.get(Gemm(use, shape).name) for use in GEMM_USES]
        shares = [(r.get("peak_fraction") or {}).get("median") if r else None for r in found]
        if any(share is not None for share in shares):
            aims.append({"shape": shape, "aim": aim, **dict(zip(GEMM_USES, shares, strict=True))})
    ratios: list[tuple[float, Gemm]] = []
    for record in records:
        if "speedup" in record["peers"].get("numpy", {}):
            use, sides = record["name"].split()
            n, d, h = map(int, sides.split("x"))
            ratios.append((apart_from_the_call(record), Gemm(use, (n, d, h))))
    ratios.sort(key=lambda pair: pair[0])
    groups = dict.fromkeys(Gemm("dx", shape).group for shape in GEMM_GRID)
    table = []
    for group in ("all", *groups):
        for use in ("all", *GEMM_USES):
            chosen = [
                ratio
                for ratio, task in ratios
                if use in ("all", task.use) and group in ("all", task.group)
            ]
            if chosen:
                table.append(
                    {
                        "group": group,
                        "use": use,
                        "shapes": len(chosen),
                        "level": sum(ratio >= LEVEL for ratio in chosen) / len(chosen),
                        "median": chosen[len(chosen) // 2],
                        "lowest": chosen[0],
                        "below": sum(ratio < WORST for ratio in chosen),
                    }
                )
    lowest = [{"name": task.name, "ratio": ratio} for ratio, task in ratios[:20]]
    return {"aims": aims, "numpy": table, "lowest": lowest}


def gemm_lines(figures: Record) -> Iterator[str]:
    """`gemm_figures` as a table."""
    if figures["aims"]:
        yield "Fraction of the FMA peak measured just before, packing included; medians"
        yield f"{'N, D, H':<18}" + "".join(f" {use:>8}" for use in (*GEMM_USES, "asked"))
        for row in figures["aims"]:
            cells = "".join(
                f" {row[use]:>8.1%}" if row[use] is not None else " " * 9 for use in GEMM_USES
            )
            yield f"{', '.join(map(str, row['shape'])):<18}{cells} {row['aim']:>8.0%}"
    if not figures["numpy"]:
        return
    yield (
        f"Paired ratios to NumPy's matmul, up to {CALL_ALLOWANCE * 1e6:.1f} µs of the call apart; "
        f"asked: at least {LEVEL} on {LEVEL_SHARE:.0%}, none below {WORST}"
    )
    line = "{:<18} {:<8} {:>7} {:>8} {:>8} {:>8} {:>9}"
    yield line.format("shapes", "use", "number", f"≥ {LEVEL}", "median", "lowest", f"< {WORST}")
    for row in figures["numpy"]:
        yield line.format(
            row["group"], row["use"], row["shapes"], f"{row['level']:.1%}",
            f"{row['median']:.2f}×", f"{row['lowest']:.2f}×", row["below"] or "",
        ).rstrip()  # fmt: skip
    worst = (f"{row['name']} {row['ratio']:.2f}×" for row in figures["lowest"])
    yield f"lowest: {', '.join(worst)}"


def apart_from_the_call(record: Record) -> float:
    """Median ratio to NumPy after taking `CALL_ALLOWANCE` off our time, at most to level."""
    ratio = float(record["peers"]["numpy"]["speedup"]["median"])
    seconds = float(record["seconds"])
    allowed = seconds / max(seconds - CALL_ALLOWANCE, 1e-9)
    return ratio if ratio >= 1 else min(1.0, ratio * allowed)


def kernel_row(record: Record, task: Kernel) -> str:
    """One kernel: time, bandwidth, times as fast as each peer, and what is asked of it."""
    line = f"{record['name']:<40} {duration(record['seconds']):>9}"
    line += f" {record['bytes'] / record['seconds'] / 1e9:>6.1f} GB/s"
    share = record["copy_fraction"]
    line += f" {share['median']:>5.0%} of a copy" if share else " " * 16
    for name, peer in record["peers"].items():
        if "refused" in peer:
            line += f"  {name} refused"
        elif s := peer.get("speedup"):
            line += f"  {name} {s['median']:.2f}×"
    verdicts = [
        f"{'+' if verdict['reached'] else '-'} {verdict['text']}"
        for verdict in verdicts_on(record, task)
    ]
    return f"{line}  | {', '.join(verdicts)}"


def verdicts_on(record: Record, task: Kernel) -> Iterator[Record]:
    """For each `asked` figure that can be judged: ``of, figure, found, reached, text``."""
    speedups = {
        name: float(peer["speedup"]["median"])
        for name, peer in record["peers"].items()
        if "speedup" in peer
    }
    share = record["copy_fraction"]
    for wanted in asked(task):
        found: float | None = None
        text = f"{wanted.figure:g}× the fastest"
        if wanted.of == "fastest":
            found = min(speedups.values(), default=None)
        elif wanted.of == "copy":
            found = float(share["median"]) if share else None
            text = f"{wanted.figure:.0%} of a copy"
        elif wanted.of == "numpy's call":
            found = apart_from_the_call(record) if "numpy" in speedups else None
            text = f"NumPy + {CALL_ALLOWANCE * 1e6:g} µs"
        elif wanted.of == "call":
            found = CALL_SECONDS / float(record["seconds"])
            text = f"{CALL_SECONDS * 1e6:g} µs"
        else:
            found = speedups.get(wanted.of)
            text = f"{wanted.figure:g}× {wanted.of}"
        if found is not None:
            reached = found >= wanted.figure
            yield {**asdict(wanted), "found": found, "reached": reached, "text": text}


def kernel_figures(records: Sequence[Record], tasks: Sequence[Kernel]) -> Record:
    """What was asked of each kernel, and what was found; ``missed`` has the names of those below."""
    by_name = {task.name: task for task in tasks}
    rows = [
        {"name": record["name"], "seconds": record["seconds"], **verdict}
        for record in records
        for verdict in verdicts_on(record, by_name[record["name"]])
    ]
    return {"asked": rows, "missed": [row["name"] for row in rows if not row["reached"]]}


def kernel_lines(figures: Record) -> Iterator[str]:
    """How many of the asked figures were reached, and those that were not."""
    rows = figures["asked"]
    yield f"{sum(row['reached'] for row in rows)} of {len(rows)} figures reached"
    for row in sorted(rows, key=lambda row: row["found"] / row["figure"]):
        if not row["reached"]:
            yield f"    {row['name']}: {row['text']} asked, {row['found']:.2f} found"


def breakdown_lines(record: Record) -> Iterator[str]:
    """The kernels of a step, one line each, and what prepares them below."""
    parts = record["parts"]
    yield (
        f"{record['name']}, {record['dtype']}: the kernels of the compiled step, on one thread; "
        f"FMA peak {record['peak'] / 1e9:.0f} GF/s"
    )
    line = "{:<30} {:>9} {:>9} {:>9} {:>6} {:>6} {:>6} {:>13}"
    yield line.format("kernel", "Mflop", "KiB", "time", "share", "GF/s", "GB/s", "of ceiling")
    for part in parts:
        seconds = part["seconds"]
        yield line.format(
            part["kernel"],
            f"{part['flops'] / 1e6:.3g}" if part["flops"] else "",
            f"{part['bytes'] / 1024:.0f}",
            duration(seconds),
            f"{part['share']:.1%}",
            f"{part['flops'] / seconds / 1e9:.0f}" if part["flops"] else "",
            f"{part['bytes'] / seconds / 1e9:.1f}",
            f"{part['ceiling']:.0%} {part['bound']:>4}" if part["bytes"] else "",
        ).rstrip()
        *first, _ = part["operations"]
        for name, took in first:
            if name := name.removeprefix(part["kernel"]).lstrip(": "):
                yield f"    of it {name}: {duration(took)}"
    total = sum(part["seconds"] for part in parts)
    yield (
        f"sum of the kernels {duration(total)}, the compiled step {duration(record['seconds'])}: "
        f"{sum(part['flops'] for part in parts) / record['seconds'] / record['peak']:.1%} of the "
        f"FMA peak (all arithmetic counted)"
    )


# -- files -------------------------------------------------------------------------------------


def document(
    info: Record,
    settings: Record,
    versions: Record,
    ceilings: Record,
    results: Iterable[Record],
    notes: Sequence[str],
    figures: Record | None = None,
) -> Record:
    """Everything that was measured, and the `figures` drawn from it, as one JSON-able value."""
    return {
        "format": FORMAT,
        "machine": info,
        "settings": settings,
        "versions": versions,
        "ceilings": ceilings,
        "results": list(results),
        "figures": figures or {},
        "notes": list(notes),
    }


def write_json(path: str | os.PathLike[str], content: Record) -> None:
    """Write a `document`; an older file is replaced only when the new one is whole."""
    with replacing(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


COLUMNS = (
    "task", "dtype", "contender", "seconds", "peak_fraction", "speedup", "low", "high", "pairs",
    "refused",
)  # fmt: skip


def table(results: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row per task and contender; ours has no speedup."""
    for record in results:
        if "parts" in record:  # a breakdown
            for part in record["parts"]:
                task = f"{record['name']}: {part['kernel']}"
                yield {"task": task, "dtype": record["dtype"], "seconds": part["seconds"]}
        base = {"task": record["name"], "dtype": record["dtype"]}
        share = record.get("peak_fraction")
        yield base | {
            "contender": record["ours"],
            "seconds": record["seconds"],
            "peak_fraction": share["median"] if share else None,
        }
        for name, peer in record["peers"].items():
            speedup = peer.get("speedup", {})
            yield base | {
                "contender": name,
                "seconds": peer.get("seconds"),
                "speedup": speedup.get("median"),
                "low": speedup.get("low"),
                "high": speedup.get("high"),
                "pairs": speedup.get("pairs"),
                "refused": peer.get("refused") or peer.get("not_applicable"),
            }


def write_csv(path: str | os.PathLike[str], results: Iterable[Record], pinned: bool = True) -> None:
    """Write `table` as CSV, with a last column that says whether processes were kept on their cores."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "pinned"))
        writer.writeheader()
        writer.writerows(row | {"pinned": "yes" if pinned else "no"} for row in table(results))
