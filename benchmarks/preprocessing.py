"""Preprocessing of images of CIFAR-10's size, against what the memory's bandwidth needs.

    python benchmarks/preprocessing.py                 50,000 x 3,072 float32
    python benchmarks/preprocessing.py --threads 2 --rows 10000

To learn statistics reads the data once, to apply them reads and writes once: 3 x 614 MB. What that needs
is taken from a copy (the faster of the C library's and of a vector loop) in the same run and in turns with
what is measured; the factor is the median of the paired ratios. `fit` and `transform` are also given by
themselves. The result goes into an array that is there already: a new one costs page faults on top,
as a copy into a new array does (the last column).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.preprocessing import Center, MinMax, Standardize

SCALERS: dict[str, Callable[[], Any]] = {
    "mean image": Center,
    "per-channel mean": lambda: Center(channels=3, channel_order="first"),
    "z-score": Standardize,
    "per-channel z-score": lambda: Standardize(channels=3, channel_order="first"),
    "min-max": MinMax,
}


def timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    fnn.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    x = np.empty((options.rows, 3072), np.float32)
    for start in range(0, len(x), 1000):
        x[start : start + 1000] = rng.random((len(x[start : start + 1000]), 3072), np.float32)
    out = np.zeros_like(x)
    check(x[:500])
    print(f"{x.shape[0]:,} x 3,072 float32, {options.threads} thread(s), {fnn.isa()}")
    print(f"{'':20}   both  (fit, transform; transform into a new array against such a copy)")
    for name, make in SCALERS.items():
        scaler, rounds = make(), []
        for _ in range(options.rounds):
            copy = timed(lambda: np.copyto(out, x))  # reads and writes once
            fresh = timed(x.copy)
            fit = timed(lambda s=scaler: s.fit(x))
            transform = timed(lambda s=scaler: s.transform(x, out=out))
            new = timed(lambda s=scaler: s.transform(x))
            rounds.append(
                [
                    (fit + transform) / (1.5 * copy),
                    fit / (0.5 * copy),
                    transform / copy,
                    new / fresh,
                ]
            )
        both, fit, transform, new = (median(column) for column in zip(*rounds, strict=True))
        print(f"{name:20} {both:6.2f}  ({fit:.2f}, {transform:.2f}; {new:.2f})", flush=True)
    print(f"a copy moves {2 * x.nbytes / copy / 1e9:.1f} GB/s")


def check(x: np.ndarray) -> None:
    """The results, before they are timed."""
    wide = x.astype(np.float64)
    z = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    assert np.abs(Standardize().fit(x).transform(x) - z).max() < 2e-6
    channels = wide.reshape(len(x), 3, -1)
    centred = (channels - channels.mean(axis=(0, 2), keepdims=True)).reshape(x.shape)
    ours = SCALERS["per-channel mean"]().fit(x).transform(x)
    assert np.abs(ours - centred).max() < 1e-6


if __name__ == "__main__":
    main()
