"""What a call costs: every operation on 64 elements, beside the best form that NumPy has of it.

    python benchmarks/calls.py                 all
    python benchmarks/calls.py dense softmax   those whose names begin so

One thread, one process, outputs given; rounds are alternated and medians printed, in nanoseconds.

`arithmetic` is what the kernels themselves take: for products and for batch norm in training, whose work has
parts that do not grow with the rows, one of 2000 runs within a single call (`fastnn._kernels.program`);
for the rest a 32nd of what 256 more rows cost. `price` is the rest of the call, which is to stay below
1000 ns: Python's call, arguments and results, and 50 ns of this command's own lambda. `over NumPy` is the
median of the paired differences to NumPy's call: at most 300 ns are asked where NumPy does the same in one
ufunc.
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
from fastnn._kernels import batchnorm, dense
from fastnn._kernels.program import Program

ROUNDS, CALLS = 41, 400
ROWS, MORE_ROWS = 8, 256
STEPS = 2000
Call = Callable[[], Any]


def repeated() -> dict[str, Call]:
    """By name: STEPS times what a call does on 8 rows of 8, in one call."""
    rng = np.random.default_rng(0)
    x, w, dy, saved, y, dx, dw = rng.standard_normal((7, 8, 8)).astype(np.float32)
    b, gamma, beta, mean, rstd, db, dgamma, dbeta = np.ones((8, 8), np.float32)
    running_mean, running_var = np.zeros(8, np.float32), np.ones(8, np.float32)
    none: Any = (None, {})
    relu: Any = ("relu", {})
    leaky: Any = ("leaky_relu", {"negative_slope": 0.2})

    def gradients(p: Program) -> None:
        dense.add_input_gradient(p, "dx", dx, dy, w, none, None)
        dense.add_weight_gradient(p, "dw", dw, x, dy)
        dense.add_bias_gradient(p, "db", db, dy)

    def normalise(p: Program, activation: Any, *running: Any) -> None:
        batchnorm.add_forward(
            p, "y", x, gamma, beta, *(running or (None, None)), 0.1, 1e-5, activation, y, mean, rstd
        )

    def undo(p: Program, activation: Any) -> None:
        batchnorm.add_backward(
            p, "dx", dy, x, gamma, mean, rstd, None, saved, activation, dx, dgamma, dbeta
        )

    adds: dict[str, Callable[[Program], Any]] = {
        "dense_forward": lambda p: dense.add_forward(p, "y", x, w, None, none, y),
        "dense_forward b, leaky": lambda p: dense.add_forward(p, "y", x, w, b, leaky, y),
        "dense_backward": gradients,
        "dense_backward relu": gradients,
        "batchnorm_forward": lambda p: normalise(p, none, running_mean, running_var),
        "batchnorm_forward relu": lambda p: normalise(p, relu),
        "batchnorm_backward": lambda p: undo(p, none),
        "batchnorm_backward relu": lambda p: undo(p, relu),
    }
    return {name: _runs(add) for name, add in adds.items()}


def _runs(add: Callable[[Program], Any]) -> Call:
    program = Program(4, 1)
    add(program)
    data, order = np.zeros((1, 1), np.float32), np.zeros(STEPS, np.int64)
    targets, rates = np.zeros(1, np.int64), np.zeros(STEPS)
    return lambda: program.run(data, targets, order, 0, STEPS, rates)


def calls(rows: int = ROWS) -> dict[str, tuple[Call, Call | None]]:
    """By name: our call on `rows` rows of 8, and NumPy's."""
    rng = np.random.default_rng(0)
    x, dy, target = rng.standard_normal((3, rows, 8)).astype(np.float32)
    parameters = rng.standard_normal((rows, 8)).astype(np.float32)
    w = rng.standard_normal((8, 8)).astype(np.float32)
    dw = np.zeros_like(w)
    y, dx, v, h = (np.zeros_like(x) for _ in range(4))
    b, gamma, beta, mean, rstd, db = (np.ones(8, np.float32) for _ in range(6))
    running_mean, running_var = np.zeros(8, np.float32), np.ones(8, np.float32)
    dgamma, dbeta = np.zeros(8, np.float32), np.zeros(8, np.float32)
    labels, zero = np.arange(rows) % 8, np.float32(0)
    narrow, which = np.zeros((rows, 4), np.float32), np.zeros((rows, 4), np.uint8)
    wt, xt = w.T, x.T

    def products() -> None:
        np.matmul(dy, wt, out=dx)
        np.matmul(xt, dy, out=dw)
        np.add.reduce(dy, axis=0, out=db)

    def numpy_sgd() -> None:
        np.multiply(dy, np.float32(1e-9), out=dx)
        np.subtract(parameters, dx, out=parameters)

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
        "dense_backward": (
            lambda: F.dense_backward(dy, x, w, dx_out=dx, dw_out=dw, db_out=db),
            products,
        ),
        "dense_backward relu": (
            lambda: F.dense_backward(
                dy, x, w, y=target, activation="relu", dx_out=dx, dw_out=dw, db_out=db
            ),
            None,
        ),
        "softmax": (lambda: F.softmax(x, out=y), None),
        "softmax axis=0": (lambda: F.softmax(x, axis=0, out=y), None),
        "log_softmax_backward": (lambda: F.log_softmax_backward(dy, x, dx_out=dx), None),
        "maxout": (lambda: F.maxout(x, 2, y_out=narrow, which_out=which), None),
        "maxout_backward": (lambda: F.maxout_backward(narrow, which, 2, dx_out=dx), None),
        "dropout": (lambda: F.dropout(x, 0.5, 1, out=y), None),
        "batchnorm_forward": (
            lambda: F.batchnorm_forward(
                x, gamma, beta, running_mean, running_var, y_out=y, mean_out=mean, rstd_out=rstd
            ),
            None,
        ),
        "batchnorm_forward relu": (
            lambda: F.batchnorm_forward(
                x, gamma, beta, activation="relu", y_out=y, mean_out=mean, rstd_out=rstd
            ),
            None,
        ),
        "batchnorm_forward inference": (
            lambda: F.batchnorm_forward(
                x,
                gamma,
                beta,
                running_mean,
                running_var,
                training=False,
                y_out=y,
                mean_out=mean,
                rstd_out=rstd,
            ),
            None,
        ),
        "batchnorm_backward": (
            lambda: F.batchnorm_backward(
                dy, x, gamma, mean, rstd, dx_out=dx, dgamma_out=dgamma, dbeta_out=dbeta
            ),
            None,
        ),
        "batchnorm_backward relu": (
            lambda: F.batchnorm_backward(
                dy,
                x,
                gamma,
                mean,
                rstd,
                y=target,
                activation="relu",
                dx_out=dx,
                dgamma_out=dgamma,
                dbeta_out=dbeta,
            ),
            None,
        ),
        "softmax_cross_entropy": (
            lambda: F.softmax_cross_entropy(x, labels, dlogits_out=dx),
            None,
        ),
        "multiclass_hinge": (lambda: F.multiclass_hinge(x, labels, dscores_out=dx), None),
        "mean_squared_error": (lambda: F.mean_squared_error(x, target, dpred_out=dx), None),
        "binary_cross_entropy": (lambda: F.binary_cross_entropy(x, target, dlogits_out=dx), None),
        "sgd_update": (lambda: F.sgd_update(parameters, dy, lr=1e-9), numpy_sgd),
        "sgd_update momentum": (
            lambda: F.sgd_update(parameters, dy, v, lr=1e-9, momentum=0.9),
            None,
        ),
        "adagrad_update": (lambda: F.adagrad_update(parameters, dy, h, lr=1e-9), None),
        "adam_update": (lambda: F.adam_update(parameters, dy, v, h, step=1, lr=1e-9), None),
        "clip_by_value": (lambda: F.clip_by_value(dx, 1e9), lambda: np.clip(dx, -1e9, 1e9, out=dx)),
        "clip_by_global_norm": (lambda: F.clip_by_global_norm(dx, 1e9), None),
    }
    return table


def nanoseconds(call: Call, calls: int = CALLS) -> float:
    """Per call, of one round."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - started) / calls


def main(names: list[str]) -> None:
    fastnn.set_num_threads(1)
    heads = ("call", "arithmetic", "price", "NumPy", "over NumPy")
    print(f"{'8x8 float32, ns':30}" + "".join(f"{head:>12}" for head in heads))
    many, bare = calls(ROWS + MORE_ROWS), repeated()
    for name, (ours, theirs) in calls().items():
        if names and not name.startswith(tuple(names)):
            continue
        rounds = []
        for _ in range(ROUNDS):
            here = nanoseconds(ours)
            if name in bare:
                alone = nanoseconds(bare[name], 1) / STEPS
            else:
                alone = (nanoseconds(many[name][0]) - here) * ROWS / MORE_ROWS
            rounds.append((here, alone, nanoseconds(theirs) if theirs else 0.0))
        call, arithmetic = median(a for a, _, _ in rounds), median(b for _, b, _ in rounds)
        line = f"{name:30}{call:12.0f}{arithmetic:12.0f}{call - arithmetic:12.0f}"
        if theirs:
            line += f"{median(c for _, _, c in rounds):12.0f}"
            line += f"{median(a - c for a, _, c in rounds):+12.0f}"
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
