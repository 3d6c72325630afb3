"""Where the time of a step goes: every kernel of it timed alone, beside its ceilings.

The kernels are called through `fastnn.functional` with the step's shapes, warm, one after the
other; the compiled step is timed whole. What the step shows beyond or below the sum is what it
loses to, or saves by, running them together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.bench.peak import BANDWIDTH_SIZES
from fastnn.bench.workloads import Workload


@dataclass(frozen=True)
class Part:
    """One kernel call of a step: what it must compute and move, and a call that does it."""

    name: str
    flops: int
    bytes: int
    call: Callable[[], Any]


def parts(workload: Workload) -> list[Part]:
    """The kernels of one step, in order; activations stand fused where the step fuses them."""
    from fastnn import functional as f

    rng = np.random.default_rng(0)
    n, last = workload.batch, len(workload.sizes) - 2
    size = np.dtype(workload.dtype).itemsize

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(workload.dtype)

    forward: list[Part] = []
    backward: list[Part] = []
    parameters = workload.parameters()
    for i, (d, h) in enumerate(pairwise(workload.sizes)):
        x, dy, w, b = normal(n, d), normal(n, h), parameters[f"w{i}"], parameters[f"b{i}"]
        norm = workload.batchnorm and i < last
        activation = workload.activation if i < last and not norm else None
        y = f.dense_forward(x, w, b, activation=activation)
        outs: dict[str, Any] = {"dw_out": np.empty_like(w), "db_out": np.empty_like(b)}
        if i:
            outs["dx_out"] = np.empty_like(x)
        product, moved = 2 * n * d * h, size * (n * d + d * h + n * h)
        uses = 2 if i else 1  # the first layer needs no input gradient
        name, label = "dense" + (f"+{activation}" if activation else ""), f"{i}: {d}→{h}"
        run: Callable[[], Any] = partial(f.dense_forward, x, w, b, activation=activation, out=y)
        forward.append(Part(f"{name} {label}", product, moved, run))
        run = partial(f.dense_backward, dy, x, w, y=y, activation=activation, need_dx=i > 0, **outs)
        backward.append(Part(f"{name} backward {label}", uses * product, uses * moved, run))
        if norm:
            gamma, beta, z = parameters[f"gamma{i}"], parameters[f"beta{i}"], normal(n, h)
            running = np.zeros_like(beta), np.ones_like(beta)
            fused: dict[str, Any] = {"activation": workload.activation}
            y, mean, rstd = f.batchnorm_forward(z, gamma, beta, *running, **fused)
            name, array = f"batchnorm+{workload.activation}", size * n * h
            run = partial(f.batchnorm_forward, z, gamma, beta, *running, y_out=y, **fused)
            forward.append(Part(f"{name} {label}", 0, 2 * array, run))
            dx = np.empty_like(z)
            run = partial(
                f.batchnorm_backward, dy, z, gamma, mean, rstd, beta=beta, y=y, dx_out=dx, **fused
            )
            backward.append(Part(f"{name} backward {label}", 0, 4 * array, run))
    classes = workload.sizes[-1]
    logits, labels = normal(n, classes), rng.integers(0, classes, n)
    loss = Part(
        "softmax cross-entropy",
        0,
        2 * size * n * classes,
        partial(f.softmax_cross_entropy, logits, labels),
    )
    count = sum(a.size for a in parameters.values())
    values, gradients, velocity = normal(count), normal(count) * 1e-3, normal(count) * 1e-3
    update = Part(
        "SGD with momentum",
        0,
        5 * size * count,
        partial(f.sgd_update, values, gradients, velocity, lr=1e-6, momentum=0.9),
    )
    return [*forward, loss, *reversed(backward), update]


def seconds_per_call(call: Callable[[], Any], rounds: int = 7, target: float = 0.01) -> float:
    """Median over rounds of about `target` seconds of the time of one call."""
    call()
    count = 1
    times: list[float] = []
    while len(times) < rounds:
        start = time.perf_counter()
        for _ in range(count):
            call()
        elapsed = time.perf_counter() - start
        if elapsed < target / 4:
            count *= 2
        else:
            times.append(elapsed / count)
    return float(np.median(times))


def floor_seconds(flops: int, moved: int, peak: float, bandwidth: dict[str, float]) -> float:
    """The roofline: the longer of arithmetic at the FMA peak and bytes at the bandwidth of the
    smallest level of memory that holds them."""
    place = next((p for p, size in BANDWIDTH_SIZES.items() if moved <= size), "memory")
    return max(flops / peak, moved / bandwidth[place])


def breakdown(
    workload: Workload, peak: float, bandwidth: dict[str, float]
) -> tuple[list[dict[str, Any]], float]:
    """Time every kernel of `workload`, and the whole compiled step.

    Returns
    -------
    rows : list of dict
        ``kernel, flops, bytes, seconds, ceiling`` (the fraction of the roofline reached).
    step : float
        Seconds of the whole step.
    """
    from fastnn.bench.contenders.fastnn_mlp import FastNNSteps

    rows = []
    for part in parts(workload):
        seconds = seconds_per_call(part.call)
        floor = floor_seconds(part.flops, part.bytes, peak, bandwidth)
        rows.append(
            {
                "kernel": part.name,
                "flops": part.flops,
                "bytes": part.bytes,
                "seconds": seconds,
                "ceiling": floor / seconds,
            }
        )
    steps = FastNNSteps(workload)
    times = []
    for _ in range(7):
        steps.restore()
        count = 1 if workload.flops > 1e9 else 100
        steps.run(1)
        start = time.perf_counter()
        steps.run(count)
        times.append((time.perf_counter() - start) / count)
    return rows, float(np.median(times))
