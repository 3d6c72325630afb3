"""Where the time of a step goes: each kernel of the compiled step, beside its ceiling.

The step runs as it is, operation after operation on one thread, with a clock between them
(`Program.profile`). A kernel is what the step does in a row under one name, its packing or its
passes included: a dense layer with its activation, a batch norm, the update.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastnn.bench.peak import copy_bandwidth, fma_peak
from fastnn.bench.workloads import SavedModel, Workload

# Rounds of peak, profile and whole step; of each the median counts.
SLICES = 5
SECONDS_PER_SLICE = 0.1


def roofline(flops: float, moved: float, peak: float) -> tuple[float, str]:
    """The shortest time, and what sets it: arithmetic at the FMA peak, or the bytes at the speed of
    a copy that moves as many (to the next power of two).

    What works in place can be faster: a copy also reads what it overwrites.
    """
    arithmetic = flops / peak
    copying = moved / bandwidth(1 << max(12, int(moved).bit_length())) if moved else 0.0
    return (arithmetic, "FMA") if arithmetic >= copying else (copying, "copy")


@cache
def bandwidth(size: int) -> float:
    """`copy_bandwidth`, once for each size."""
    return copy_bandwidth(size)


def breakdown(task: Workload | SavedModel) -> dict[str, Any]:
    """Time every kernel of the compiled step of `task`, and the whole step, on one thread.

    Returns
    -------
    dict
        ``dtype``; ``seconds`` of the whole step; ``peak``, flop/s; ``parts``, a list of dict with
        ``kernel, flops, bytes, seconds, share`` (of the sum over the kernels), ``ceiling`` (the
        fraction of the roofline reached, the peak being measured just before), ``bound`` ("FMA" or
        "copy", which of the two sets the roofline) and ``operations``, pairs of name and seconds.

    Raises
    ------
    NotCompilable
        The model has a part without compiled operations.
    """
    step, x, y, dtype = _compiled(task)
    order, rates = np.arange(len(x)), np.zeros(1)  # a rate of 0: the parameters stay as they are
    steps = _steps_in(step, x, y, SECONDS_PER_SLICE)
    orders, zeros = np.tile(order, steps), np.zeros(steps)
    peaks, wholes, profiles = [], [], []
    for _ in range(SLICES):
        peaks.append(fma_peak(dtype))
        profiles.append(step.program.profile(x, y, order, rates, repeats=min(steps, 100)))
        start = time.perf_counter()
        step.run(x, y, orders, 0, steps, zeros)
        wholes.append((time.perf_counter() - start) / steps)
    rows = []
    for slices in zip(*profiles, strict=True):
        name, flops, moved, parts = slices[0]
        times = np.array([[seconds for _, seconds in part[3]] for part in slices])
        sums = np.maximum(times.sum(axis=1), 1e-9)
        floors = [roofline(flops, moved, peak)[0] for peak in peaks]
        rows.append(
            {
                "kernel": name,
                "flops": flops,
                "bytes": moved,
                "seconds": float(np.median(sums)),
                "ceiling": float(np.median(floors / sums)),
                "bound": roofline(flops, moved, float(np.median(peaks)))[1],
                "operations": [
                    (part[0], float(seconds))
                    for part, seconds in zip(parts, np.median(times, axis=0), strict=True)
                ],
            }
        )
    total = sum(row["seconds"] for row in rows)
    for row in rows:
        row["share"] = row["seconds"] / total
    seconds, peak = float(np.median(wholes)), float(np.median(peaks))
    return {"dtype": dtype, "seconds": seconds, "peak": peak, "parts": rows}


class Compiled(NamedTuple):
    """A compiled step and a batch for it."""

    step: Any
    x: np.ndarray
    y: np.ndarray
    dtype: str


def _compiled(task: Workload | SavedModel) -> Compiled:
    """The step of a network by its sizes, or of a model from its file on random data."""
    if isinstance(task, Workload):
        from fastnn.bench.contenders.fastnn_mlp import FastNNSteps

        steps = FastNNSteps(task)
        return Compiled(steps.step, steps.x, steps.y, task.dtype)
    import fastnn as fnn
    from fastnn.losses import SoftmaxCrossEntropy
    from fastnn.step import compile_step

    model = fnn.load(task.path)
    loss = model.loss or SoftmaxCrossEntropy()
    step = compile_step(model, loss, fnn.SGD(0.01, momentum=0.9), task.batch)
    rng = np.random.default_rng(0)
    assert model.input_shape is not None
    x = rng.standard_normal((task.batch, *model.input_shape)).astype(model.dtype)
    outputs = model.output_shape
    if loss.kind == "classification":
        y = rng.integers(0, outputs[0], task.batch)
    else:
        y = rng.standard_normal((task.batch, *outputs)).astype(model.dtype)
    return Compiled(step, x, y, model.dtype.name)


def _steps_in(step: Any, x: np.ndarray, y: np.ndarray, seconds: float) -> int:
    """How many steps take about so long, warm; at least three."""
    count = 1
    while True:
        orders, rates = np.tile(np.arange(len(x)), count), np.zeros(count)
        start = time.perf_counter()
        step.run(x, y, orders, 0, count, rates)
        elapsed = time.perf_counter() - start
        if elapsed > seconds / 10 and count > 1:
            return max(3, round(count * seconds / elapsed))
        count *= 2
