"""What a comparison found: lines for the terminal, JSON for keeping, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastnn.bench.compare import Record
from fastnn.bench.workloads import GEMM_AIMS
from fastnn.files import replacing

FORMAT = 1

# What a call through fastnn's checks may cost more than NumPy's, in seconds; a product of a few
# hundred elements is all call.
CALL_ALLOWANCE = 0.3e-6


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
    cpus = ",".join(map(str, settings["cpus"]))
    yield f"{info['cpu']}, {info['system']}, Python {info['python']}, {info['date']}"
    yield (
        f"{settings['threads']} thread(s) each on core(s) {cpus}; one process per contender, "
        f"alternated; {'quick' if settings['quick'] else 'full'}"
    )
    yield "; ".join(
        f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items())
        for name, found in versions.items()
    )
    peaks = [f"{dtype} {flops / 1e9:.0f}" for dtype, flops in ceilings["fma"].items()]
    if peaks:
        yield f"FMA peak, GF/s on these cores: {', '.join(peaks)}"
    places = [f"{place} {value / 1e9:.1f}" for place, value in ceilings["bandwidth"].items()]
    yield f"copy, GB/s read + written on one core: {', '.join(places)}"


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
    if "bytes" in record:
        notes.append(f"{record['bytes'] / record['seconds'] / 1e9:.1f} GB/s")
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


def gemm_summary(records: Sequence[Record]) -> Iterator[str]:
    """The grid in a few lines: aims by shape, then the paired ratios to NumPy by use."""
    by_name = {record["name"]: record for record in records}
    if any(record["peak_fraction"] for record in records):
        yield "Fraction of the FMA peak, packing included (dx: what dx+dw takes beyond dw)"
        yield f"{'N, D, H':<18} {'forward':>8} {'dw':>8} {'dx':>8} {'aim':>8}"
        for shape, aim in GEMM_AIMS.items():
            key = "x".join(map(str, shape))
            trio = [by_name.get(f"{use} {key}") for use in ("forward", "dw", "dx+dw")]
            if None in trio:
                continue
            shares = [r["peak_fraction"]["median"] for r in trio if r is not None]
            # With both products of one size, 2 / both = 1 / dw + 1 / dx.
            rest = 2 / shares[2] - 1 / shares[1]
            shares[2] = 1 / rest if rest > 0 else float("nan")
            cells = " ".join(f"{share:>8.1%}" for share in shares)
            yield f"{', '.join(map(str, shape)):<18} {cells} {aim:>8.0%}"
    for use in ("forward", "dw", "dx+dw"):
        found = [
            (apart_from_the_call(record), record)
            for record in records
            if record["name"].startswith(f"{use} ")
            and "speedup" in record["peers"].get("numpy", {})
        ]
        if not found:
            continue
        found.sort(key=lambda pair: pair[0])
        ratios = [ratio for ratio, _ in found]
        level = sum(ratio >= 0.97 for ratio in ratios) / len(ratios)
        yield (
            f"{use}: {len(found)} shapes against NumPy's matmul, at least 0.97× on {level:.1%}, "
            f"median {ratios[len(ratios) // 2]:.2f}×, lowest {ratios[0]:.2f}× "
            f"(up to {CALL_ALLOWANCE * 1e6:.1f} µs of the call apart)"
        )
        worst = ", ".join(
            f"{record['name'].split()[1]} {ratio:.2f}×" for ratio, record in found[:8]
        )
        yield f"    lowest: {worst}"


def apart_from_the_call(record: Record) -> float:
    """Median ratio to NumPy after taking `CALL_ALLOWANCE` off our time, at most to level."""
    ratio = float(record["peers"]["numpy"]["speedup"]["median"])
    seconds = float(record["seconds"])
    allowed = seconds / max(seconds - CALL_ALLOWANCE, 1e-9)
    return ratio if ratio >= 1 else min(1.0, ratio * allowed)


def breakdown_lines(record: Record) -> Iterator[str]:
    """The kernels of a step, one line each."""
    parts = record["parts"]
    yield f"{record['name']}: each kernel called alone, warm, and the whole compiled step"
    line = "{:<38} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}"
    yield line.format("kernel", "Mflop", "KiB", "time", "GF/s", "GB/s", "ceiling")
    total = sum(part["seconds"] for part in parts)
    for part in parts:
        yield line.format(
            part["kernel"],
            f"{part['flops'] / 1e6:.1f}" if part["flops"] else "",
            f"{part['bytes'] / 1024:.0f}",
            duration(part["seconds"]),
            f"{part['flops'] / part['seconds'] / 1e9:.0f}" if part["flops"] else "",
            f"{part['bytes'] / part['seconds'] / 1e9:.1f}",
            f"{part['ceiling']:.0%}",
        )
    yield f"sum of the kernels {duration(total)}, the compiled step {duration(record['seconds'])}"


# -- files -------------------------------------------------------------------------------------


def document(
    info: Record,
    settings: Record,
    versions: Record,
    ceilings: Record,
    results: Iterable[Record],
    notes: Sequence[str],
) -> Record:
    """Everything that was measured, as one JSON-able value."""
    return {
        "format": FORMAT,
        "machine": info,
        "settings": settings,
        "versions": versions,
        "ceilings": ceilings,
        "results": list(results),
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


def write_csv(path: str | os.PathLike[str], results: Iterable[Record]) -> None:
    """Write `table` as CSV."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table(results))
