"""What writing results past the caches gains: the same calls with it and without it, alternated.

    python benchmarks/past_caches.py                        some calls on 4096 x 1024 float32
    python benchmarks/past_caches.py relu_backward 8192x2048

One process, one thread; a gain is the median of the paired ratios of times, with its 95% interval.
Above 1 a call is faster with its result past the caches. Whether fastnn does so by itself hangs on the
processor (fnn_stores_past).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

import fastnn as fnn
from fastnn import functional as F
from fastnn._kernels import machine
from fastnn.bench.pairs import paired_ratio

CALLS = ("relu", "sigmoid", "tanh", "gelu", "relu_backward", "silu_backward", "batchnorm_forward")
PAIRS = 31
ALWAYS, NEVER = 0, 2**62


def call_of(name: str, rows: int, cols: int) -> Callable[[], object]:
    """A call whose result is there beforehand."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, rows, cols), dtype=np.float32)
    out = np.zeros_like(x)
    if name == "batchnorm_forward":
        gamma, beta = np.ones(cols, np.float32), np.zeros(cols, np.float32)
        return lambda: F.batchnorm_forward(x, gamma, beta, y_out=out)
    function = getattr(F, name)
    if name.endswith("_backward"):
        return lambda: function(dy, x, dx_out=out)
    return lambda: function(x, out=out)


def gain(call: Callable[[], object]) -> str:
    """Paired times of the two."""
    times: dict[int, list[float]] = {ALWAYS: [], NEVER: []}
    before = machine.set_past_bytes(NEVER)
    try:
        for _ in range(PAIRS):
            for limit, seconds in times.items():
                machine.set_past_bytes(limit)
                call()
                started = time.perf_counter()
                for _ in range(5):
                    call()
                seconds.append((time.perf_counter() - started) / 5)
    finally:
        machine.set_past_bytes(before)
    ratio = paired_ratio(times[NEVER], times[ALWAYS])
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def main() -> None:
    shapes = [word for word in sys.argv[1:] if word[:1].isdigit()] or ["4096x1024"]
    names = [word for word in sys.argv[1:] if not word[:1].isdigit()] or CALLS
    fnn.set_num_threads(1)
    for shape in shapes:
        rows, cols = map(int, shape.split("x"))
        for name in names:
            print(f"{name:22}{shape:12}{gain(call_of(name, rows, cols))}", flush=True)


if __name__ == "__main__":
    main()
