"""Inputs and right answers for single calls: every worker checks its result before timing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.bench import kernels
from fastnn.bench.kernels import Kernel
from fastnn.bench.workloads import Gemm

Arrays = dict[str, np.ndarray]

# Worst difference from the float64 answer, as a share of the answer's largest element.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def inputs(task: Gemm | Kernel, seed: int = 2) -> Arrays:
    """The operands of a call, the same in every process, in the task's dtype."""
    if isinstance(task, Kernel):
        return kernels.inputs(task, reference, seed)
    rng = np.random.default_rng(seed)
    n, d, h = task.shape
    shapes = {"x": (n, d), "w": (d, h), "dy": (n, h)}
    return {name: rng.standard_normal(shape).astype(task.dtype) for name, shape in shapes.items()}


def expected(task: Gemm | Kernel, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """The answer in float64, by plain NumPy and `fastnn.reference`."""
    wide = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    if isinstance(task, Kernel):
        return tuple(kernels.call(reference, task, wide)())
    x, w, dy = wide["x"], wide["w"], wide["dy"]
    if task.use == "forward":
        return (x @ w,)
    return (dy @ w.T,) if task.use == "dx" else (x.T @ dy,)


def error_of(task: Gemm | Kernel, arrays: Arrays, results: Sequence[Any]) -> float:
    """How far a contender's results are from the right ones, see `worst_error`.

    Every framework has random numbers of its own, so dropout is right where each element is dropped
    or scaled, and as many are dropped as chance allows: infinity where they are not.
    """
    if isinstance(task, Kernel) and task.op == "dropout":
        x, y = arrays["x"].astype(np.float64), np.asarray(results[0])
        if y.shape != x.shape:
            return float("inf")
        dropped, p = y == 0, kernels.DROPPED
        spread = 6 * np.sqrt(p * (1 - p) / x.size)
        if not abs(float(dropped.mean()) - p) <= spread:
            return float("inf")
        return worst_error([y], [np.where(dropped, 0, x / (1 - p))])
    answers = expected(task, arrays)
    return worst_error(results[: len(answers)], answers)


def worst_error(results: Sequence[Any], answers: Sequence[np.ndarray]) -> float:
    """The largest difference over all outputs, each relative to its largest element."""
    worst = 0.0
    for result, answer in zip(results, answers, strict=True):
        result, answer = np.asarray(result), np.asarray(answer)
        if result.shape != answer.shape:
            return float("inf")
        if answer.size:
            scale = max(float(np.abs(answer).max()), np.finfo(np.float64).tiny)
            worst = max(worst, float(np.abs(result - answer).max()) / scale)
    return worst
