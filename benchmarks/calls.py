"""What a call costs: every operation on 64 elements, beside the best form that NumPy has of it.

    python benchmarks/calls.py                 all
    python benchmarks/calls.py dense softmax   those whose names begin so

One thread, one process, outputs given; rounds of the two are alternated and medians printed, in
nanoseconds. "over NumPy" is the median of the paired differences: what issue 4 bounds by 300 ns where
NumPy does it in one ufunc, and issue 3 for products. Where NumPy has no form of its own (or one of
many calls), the time itself stands for what the call costs over its arithmetic, which at 64 elements is
20 to 150 ns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F

ROUNDS, CALLS = 41, 400
Call = Callable[[], Any]


def calls() -> dict[str, tuple[Call, Call | None]]:
    """By name: our call, and NumPy's."""
    rng = np.random.default_rng(0)
    x, w, dy, target = rng.standard_normal((4, 8, 8)).astype(np.float32)
    y, dx, dw, v, h = (np.zeros_like(x) for _ in range(5))
    b, gamma, beta, mean, rstd, db = (np.ones(8, np.float32) for _ in range(6))
    running = np.zeros(8, np.float32), np.ones(8, np.float32)
    sums = np.zeros(8, np.float32), np.zeros(8, np.float32)
    labels, zero = np.arange(8), np.float32(0)
    narrow, which = np.zeros((8, 4), np.float32), np.zeros((8, 4), np.uint8)
    wt, xt = w.T, x.T

    def products() -> None:
        np.matmul(dy, wt, out=dx)
        np.matmul(xt, dy, out=dw)
        np.add.reduce(dy, axis=0, out=db)

    def numpy_sgd() -> None:
        np.multiply(dy, np.float32(1e-9), out=dx)
        np.subtract(w, dx, out=w)

    outs = {"dx_out": dx, "dw_out": dw, "db_out": db}
    norm_outs = {"y_out": y, "mean_out": mean, "rstd_out": rstd}
    back_outs = {"dx_out": dx, "dgamma_out": sums[0], "dbeta_out": sums[1]}
    leaky: Any = ("leaky_relu", {"negative_slope": 0.2})
    table: dict[str, tuple[Call, Call | None]] = {
        "relu": (lambda: F.relu(x, out=y), lambda: np.maximum(x, zero, out=y)),
        "relu_backward": (
            lambda: F.relu_backward(dy, x, dx_out=dx),
            lambda: np.multiply(dy, x, out=dx),
        ),
        "tanh": (lambda: F.tanh(x, out=y), lambda: np.tanh(x, out=y)),
    }
    for name in ("leaky_relu", "elu", "sigmoid", "selu", "softplus", "silu", "gelu", "hard_swish"):
        forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
        table[name] = (lambda f=forward: f(x, out=y), None)
        table[f"{name}_backward"] = (lambda f=backward: f(dy, x, dx_out=dx), None)
    table |= {
        "dense_forward": (lambda: F.dense_forward(x, w, out=y), lambda: np.matmul(x, w, out=y)),
        "dense_forward b, leaky": (lambda: F.dense_forward(x, w, b, activation=leaky, out=y), None),
        "dense_backward": (lambda: F.dense_backward(dy, x, w, **outs), products),
        "dense_backward relu": (
            lambda: F.dense_backward(dy, x, w, y=target, activation="relu", **outs),
            None,
        ),
        "softmax": (lambda: F.softmax(x, out=y), None),
        "softmax axis=0": (lambda: F.softmax(x, axis=0, out=y), None),
        "log_softmax_backward": (lambda: F.log_softmax_backward(dy, x, dx_out=dx), None),
        "maxout": (lambda: F.maxout(x, 2, y_out=narrow, which_out=which), None),
        "maxout_backward": (lambda: F.maxout_backward(narrow, which, 2, dx_out=dx), None),
        "dropout": (lambda: F.dropout(x, 0.5, 1, out=y), None),
        "batchnorm_forward": (
            lambda: F.batchnorm_forward(x, gamma, beta, *running, **norm_outs),
            None,
        ),
        "batchnorm_forward inference": (
            lambda: F.batchnorm_forward(x, gamma, beta, *running, training=False, **norm_outs),
            None,
        ),
        "batchnorm_backward": (
            lambda: F.batchnorm_backward(dy, x, gamma, mean, rstd, **back_outs),
            None,
        ),
        "softmax_cross_entropy": (
            lambda: F.softmax_cross_entropy(x, labels, dlogits_out=dx),
            None,
        ),
        "multiclass_hinge": (lambda: F.multiclass_hinge(x, labels, dscores_out=dx), None),
        "mean_squared_error": (lambda: F.mean_squared_error(x, target, dpred_out=dx), None),
        "binary_cross_entropy": (lambda: F.binary_cross_entropy(x, target, dlogits_out=dx), None),
        "sgd_update": (lambda: F.sgd_update(w, dy, lr=1e-9), numpy_sgd),
        "sgd_update momentum": (lambda: F.sgd_update(w, dy, v, lr=1e-9, momentum=0.9), None),
        "adagrad_update": (lambda: F.adagrad_update(w, dy, h, lr=1e-9), None),
        "adam_update": (lambda: F.adam_update(w, dy, v, h, step=1, lr=1e-9), None),
        "clip_by_value": (lambda: F.clip_by_value(dx, 1e9), lambda: np.clip(dx, -1e9, 1e9, out=dx)),
        "clip_by_global_norm": (lambda: F.clip_by_global_norm(dx, 1e9), None),
    }
    return table


def nanoseconds(call: Call) -> float:
    """Per call, of one round."""
    started = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - started) / CALLS


def main(names: list[str]) -> None:
    fastnn.set_num_threads(1)
    print(f"{'8x8 float32, ns a call':30}{'fastnn':>8}{'NumPy':>8}{'over NumPy':>12}")
    for name, (ours, theirs) in calls().items():
        if names and not name.startswith(tuple(names)):
            continue
        pairs = []
        for _ in range(ROUNDS):
            pairs.append((nanoseconds(ours), nanoseconds(theirs) if theirs else 0.0))
        line = f"{name:30}{median(a for a, _ in pairs):8.0f}"
        if theirs:
            line += f"{median(b for _, b in pairs):8.0f}{median(a - b for a, b in pairs):+12.0f}"
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
