"""Inputs and right answers for single calls: every worker checks its result before timing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.bench.workloads import Gemm, Kernel

Arrays = dict[str, np.ndarray]

# Worst difference from the float64 answer, as a share of the answer's largest element.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def inputs(task: Gemm | Kernel, seed: int = 2) -> Arrays:
    """The operands of a call, the same in every process, in the task's dtype."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(task.dtype)

    if isinstance(task, Gemm):
        n, d, h = task.shape
        return {"x": normal(n, d), "w": normal(d, h), "dy": normal(n, h)}
    arrays = {"x": normal(*task.shape), "dy": normal(*task.shape)}
    if task.op.startswith("batchnorm"):
        channels, others = task.shape[1], (0, *range(2, len(task.shape)))
        arrays["gamma"] = rng.uniform(0.5, 1.5, channels).astype(task.dtype)
        arrays["beta"] = normal(channels)
        x = arrays["x"].astype(np.float64)
        arrays["mean"] = x.mean(axis=others).astype(task.dtype)
        arrays["rstd"] = (1 / np.sqrt(x.var(axis=others) + 1e-5)).astype(task.dtype)
    elif task.op.endswith("_backward"):
        forward = getattr(reference, task.op.removesuffix("_backward"))
        arrays["y"] = forward(arrays["x"])
    return arrays


def expected(task: Gemm | Kernel, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """The answer in float64, by plain NumPy and `fastnn.reference`."""
    wide = {name: a.astype(np.float64) for name, a in arrays.items()}
    x, dy = wide["x"], wide["dy"]
    if isinstance(task, Gemm):
        products = {"forward": lambda: (x @ wide["w"],), "dw": lambda: (x.T @ dy,)}
        if task.use == "dx+dw":
            return dy @ wide["w"].T, x.T @ dy
        return products[task.use]()
    if task.op in ("batchnorm_forward", "batchnorm_relu_forward"):
        activation = "relu" if "relu" in task.op else None
        y, _, _ = reference.batchnorm_forward(x, wide["gamma"], wide["beta"], activation=activation)
        return (y,)
    if task.op == "batchnorm_backward":
        return tuple(reference.batchnorm_backward(dy, x, wide["gamma"], wide["mean"], wide["rstd"]))
    if task.op.endswith("_backward"):
        return (getattr(reference, task.op)(dy, wide["y"]),)
    return (getattr(reference, task.op)(x),)


def worst_error(results: Sequence[Any], answers: Sequence[np.ndarray]) -> float:
    """The largest difference over all outputs, each relative to its largest element."""
    worst = 0.0
    for result, answer in zip(results, answers, strict=True):
        result = np.asarray(result)
        if result.shape != answer.shape:
            return float("inf")
        if answer.size:
            scale = max(float(np.abs(answer).max()), np.finfo(np.float64).tiny)
            worst = max(worst, float(np.abs(result - answer).max()) / scale)
    return worst
