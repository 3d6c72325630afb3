"""One epoch over rows that are on the disk, beside the same network on the same rows in memory.

    python benchmarks/out_of_core.py                     5,000,000 rows of 100 float32, 2 GB
    python benchmarks/out_of_core.py --rows 1000000 --network 100-256-10 --dtype uint8
    python benchmarks/out_of_core.py --peak --rows 500000   memory alone, as JSON (one process)

The rows are generated into a temporary folder, which is removed at the end. Then
- memory: a process trains on the first half of the rows, then on all of them; of both the peak of the
  anonymous memory (RssAnon, Linux: what is not the disk cache) is taken. They should be equal;
- speed: one process trains in turns on the mapped file and on a copy in memory; the median of the
  paired ratios is given, 1 being the speed in memory. `--no-read-ahead` adds the same without the thread
  that reads ahead.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

import fastnn as fnn
from fastnn import windows

BLOCK = 5_000  # rows generated at a time


def generate(folder: Path, rows: int, columns: int, classes: int, dtype: str) -> None:
    """X.npy and y.npy: Gaussian rows, the classes of a linear teacher (for integers, in 0 to 255)."""
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal((columns, classes), dtype=np.float32)
    X = open_memmap(folder / "X.npy", "w+", np.dtype(dtype), (rows, columns))
    y = open_memmap(folder / "y.npy", "w+", np.int64, (rows,))
    for start in range(0, rows, BLOCK):
        part = slice(start, min(start + BLOCK, rows))
        x = rng.standard_normal((part.stop - start, columns), dtype=np.float32)
        y[part] = (x @ teacher).argmax(axis=1)
        X[part] = x if X.dtype.kind == "f" else (x * 40 + 128).clip(0, 255)


@contextmanager
def peak_anonymous() -> Iterator[list[int]]:
    """Sample the anonymous memory of this process; its peak in bytes is in the list at the end."""
    result, stop = [0], threading.Event()

    def sample() -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            kilobytes = int(status.split("RssAnon:")[1].split()[0])
            result[0] = max(result[0], 1024 * kilobytes)
            if stop.wait(0.002):
                return

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield result
    finally:
        stop.set()
        watcher.join()


def network(sizes: list[int]) -> fnn.Sequential:
    layers: list[fnn.Layer] = []
    for units in sizes[1:-1]:
        layers += [fnn.Dense(units), fnn.BatchNorm(), fnn.ReLU()]
    return fnn.Sequential([*layers, fnn.Dense(sizes[-1])], input_dim=sizes[0], seed=0)


def one_epoch(X: Any, y: Any, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds and loss of a fit of one epoch."""
    model = network(options.network)
    scaled = X.dtype.kind != "f"
    optimizer = fnn.SGD(lr=1e-4 if scaled else 0.1, momentum=0.9)
    started = time.perf_counter()
    history = model.fit(
        X, y, optimizer=optimizer, batch_size=options.batch_size, epochs=1, verbose=False
    )
    return time.perf_counter() - started, history["loss"][0]


def mapped(folder: Path, rows: int) -> tuple[Any, Any]:
    X, y = (np.load(folder / name, mmap_mode="r") for name in ("X.npy", "y.npy"))
    return X[:rows], y[:rows]


def measure_peaks(folder: Path, options: argparse.Namespace) -> dict[int, int]:
    """By the number of rows, the peak while one epoch runs, in windows of `--window` rows if given."""

    def peak_of(rows: int) -> int:
        source = fnn.sources.ArraySource(*mapped(folder, rows), window_rows=options.window)
        model = network(options.network)
        gc.collect()  # a model that is no longer used is a cycle of references
        with peak_anonymous() as peak:
            model.fit(source, batch_size=options.batch_size, epochs=1, verbose=False)
        return peak[0]

    half = options.rows // 2
    peak_of(half)  # once before it counts: what a process allocates once
    return {rows: peak_of(rows) for rows in (half, options.rows)}


def measure_speed(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median paired ratios: seconds in memory by seconds from the file."""
    X, y = mapped(folder, options.rows)
    in_memory = np.array(X), np.array(y)
    ahead = windows._ahead
    ways = {"memory": in_memory, "file": (X, y)}
    if options.no_read_ahead:
        ways["file, no reading ahead"] = (X, y)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.pairs):
        names = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        for name in names:
            windows._ahead = ahead if "no" not in name else lambda blocks, make: make(blocks)
            seconds, loss = one_epoch(*ways[name], options)
            times[name].append(seconds)
            print(f"  {name:24} {seconds:7.2f} s, loss {loss:.4f}", file=sys.stderr)
    windows._ahead = ahead
    return {
        name: median(m / f for m, f in zip(times["memory"], times[name], strict=True))
        for name in ways
        if name != "memory"
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--rows", type=int, default=5_000_000)
    add("--network", default="100-64-10", help="sizes; batch norm and ReLU between them")
    add("--batch-size", type=int, default=1000)
    add("--dtype", default="float32", help="of the file: float32, float64, uint8, …")
    add("--pairs", type=int, default=3)
    add("--threads", type=int)
    add("--window", type=int, help="rows of a window, with --peak")
    add("--no-read-ahead", action="store_true")
    add("--peak", action="store_true", help="only the peak of the anonymous memory, as JSON")
    add("--folder", help="generate there, and keep it")
    options = parser.parse_args(arguments)
    options.network = [int(size) for size in options.network.split("-")]
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.threads:
        fnn.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="fastnn-") as temporary:
        folder = Path(options.folder or temporary)
        if not (folder / "X.npy").exists():
            sizes = options.network
            generate(folder, options.rows, sizes[0], sizes[-1], options.dtype)
        if options.peak:
            print(json.dumps(measure_peaks(folder, options)))
            return
        command = [sys.executable, __file__, *arguments, "--peak", "--folder", str(folder)]
        for rows, peak in json.loads(subprocess.check_output(command)).items():
            print(
                f"{int(rows):>10,} rows: peak of the anonymous memory {peak / 1e6:.1f} MB",
                flush=True,
            )
        for name, ratio in measure_speed(folder, options).items():
            print(f"{name}: {ratio:.3f} times the speed in memory")
        print(
            f"{fnn.get_num_threads()} threads, {fnn.isa()}, in mini-batches of {options.batch_size}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
