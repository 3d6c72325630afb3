"""Batch norm on arrays that no second-level cache holds: bytes, bandwidth, and PyTorch beside it.

    python benchmarks/memory.py                      # one thread; about half a minute
    python benchmarks/memory.py 65536x64 32x64x56x56 # matrices, or images with their channels second

Issue 4 asks for 1.25 times the speed of PyTorch forward and 1.1 times backward, for images 1.5 times.

Forward must read x, take its statistics, read x again and write y: 3 arrays. Backward reads dy and x twice
and writes dx: 5. `of a copy` is how fast these bytes go, as a part of how fast the bytes of y = a x go for
two arrays of the same size (`fastnn._kernels.machine.scale_bandwidth`, measured beside each round). More than
100% is what the caches between hold of the first pass for the second. Outputs are given to both, calls are
alternated in one process, medians of paired rounds are printed. Without PyTorch its columns stay empty.
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
from fastnn._kernels import machine

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

ROUNDS = 11
SHAPES = ("4096x1024", "65536x64", "32x64x56x56")
Call = Callable[[], Any]


def operations(shape: tuple[int, ...]) -> dict[str, tuple[int, Call, Call | None]]:
    """By name: how many arrays are moved, our call, PyTorch's."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in range(2))
    y, dx = np.empty_like(x), np.empty_like(x)
    gamma, beta, mean, rstd, dgamma, dbeta = np.ones((6, shape[1]), np.float32)

    def forward() -> Any:
        return F.batchnorm_forward(x, gamma, beta, y_out=y, mean_out=mean, rstd_out=rstd)

    def backward() -> Any:
        return F.batchnorm_backward(
            dy, x, gamma, mean, rstd, dx_out=dx, dgamma_out=dgamma, dbeta_out=dbeta
        )

    if torch is None:
        return {"forward": (3, forward, None), "backward": (5, backward, None)}
    aten: Any = torch.ops.aten
    t = {
        name: torch.from_numpy(array.copy())
        for name, array in {"x": x, "dy": dy, "gamma": gamma, "beta": beta}.items()
    }
    out, dx_out = torch.empty_like(t["x"]), torch.empty_like(t["x"])
    saved = torch.empty(shape[1]), torch.empty(shape[1])
    sums = torch.empty(shape[1]), torch.empty(shape[1])

    def torch_forward() -> Any:
        return aten.native_batch_norm.out(
            t["x"], t["gamma"], t["beta"], None, None, True, 0.1, 1e-5, out=out,
            save_mean=saved[0], save_invstd=saved[1],
        )  # fmt: skip

    def torch_backward() -> Any:
        return aten.native_batch_norm_backward.out(
            t["dy"], t["x"], t["gamma"], None, None, *saved, True, 1e-5, [True] * 3,
            out0=dx_out, out1=sums[0], out2=sums[1],
        )  # fmt: skip

    forward(), backward(), torch_forward(), torch_backward()
    np.testing.assert_allclose(y, out.numpy(), atol=1e-4)
    np.testing.assert_allclose(dx, dx_out.numpy(), atol=1e-4)
    return {"forward": (3, forward, torch_forward), "backward": (5, backward, torch_backward)}


def seconds(call: Call) -> float:
    """Of the second of two calls: the first puts the caches into the state that the call leaves."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main(shapes: list[str]) -> None:
    fastnn.set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    heads = ("ms", "GB/s", "of a copy", "PyTorch, ms", "times as long")
    print(f"{'batch norm, float32, in training':34}" + "".join(f"{head:>14}" for head in heads))
    for name in shapes or SHAPES:
        shape = tuple(int(part) for part in name.split("x"))
        size = 4 * int(np.prod(shape))
        for operation, (arrays, ours, theirs) in operations(shape).items():
            rounds = [
                (
                    seconds(ours),
                    seconds(theirs) if theirs else 0.0,
                    machine.scale_bandwidth(2 * size),
                )
                for _ in range(ROUNDS)
            ]
            ms = median(a for a, _, _ in rounds) * 1e3
            copy = median(arrays * size / a / c for a, _, c in rounds)
            line = (
                f"{name + ' ' + operation:34}{ms:14.2f}{arrays * size / ms / 1e6:14.1f}{copy:14.0%}"
            )
            if theirs:
                line += f"{median(b for _, b, _ in rounds) * 1e3:14.2f}"
                line += f"{median(b / a for a, b, _ in rounds):13.2f}x"
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
