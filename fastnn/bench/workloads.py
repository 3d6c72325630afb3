"""What is measured: networks, matrix products and kernels, as data shared by all benchmarks.

Every task is a small frozen dataclass that travels to the worker processes as JSON
(`task_to_json`, `task_from_json`).
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True)
class Workload:
    """One training step of a multi-layer perceptron: forward, loss, backward, SGD with momentum.

    `sizes` runs from the input to the classes. Every hidden layer is dense, then batch norm if
    `batchnorm`, then the activation. The loss is softmax with cross-entropy, the optimizer SGD
    with momentum 0.9.
    """

    name: str
    batch: int
    sizes: tuple[int, ...]
    activation: str = "relu"
    batchnorm: bool = False
    dtype: str = "float32"

    lr = 0.01
    momentum = 0.9
    bn_momentum = 0.1
    bn_eps = 1e-5

    @property
    def flops(self) -> int:
        """Arithmetic of the matrix products: forward, weight gradient, and the input gradient of
        every layer but the first. It is the floor that no implementation can go below."""
        weights = [d * h for d, h in pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(weights) - weights[0])

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass over the digits data (1,797 rows): the length of a "whole epoch"."""
        return max(1, 1797 // self.batch)

    def describe(self) -> str:
        """The network in one line, in the form that `parse` reads."""
        extras = ("bn+" if self.batchnorm else "") + self.activation
        return f"{self.batch}:{'-'.join(map(str, self.sizes))}:{extras}"

    def parameters(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Initial parameters, the same in every process: ``w0, b0, gamma0, beta0, w1, …``.

        Variance 2/D before ReLU and 1/D otherwise. gamma and beta start away from 1 and 0, so that
        a contender that forgot them would not compute the same loss.
        """
        rng = np.random.default_rng(seed)
        gain = 2.0 if self.activation == "relu" else 1.0
        arrays: dict[str, np.ndarray] = {}
        for i, (d, h) in enumerate(pairwise(self.sizes)):
            arrays[f"w{i}"] = rng.standard_normal((d, h)) * np.sqrt(gain / d)
            arrays[f"b{i}"] = rng.standard_normal(h) * 0.01
            if self.batchnorm and i < len(self.sizes) - 2:
                arrays[f"gamma{i}"] = rng.uniform(0.8, 1.2, h)
                arrays[f"beta{i}"] = rng.standard_normal(h) * 0.1
        return {name: a.astype(self.dtype) for name, a in arrays.items()}

    def data(self, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """One batch: `x` (batch, D) standard normal, `y` (batch,) int64 labels."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((self.batch, self.sizes[0])).astype(self.dtype)
        return x, rng.integers(0, self.sizes[-1], self.batch)


def _named(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


WORKLOADS = _named(
    Workload("tiny", 64, (784, 128, 10)),
    Workload("small", 64, (784, 128, 10), batchnorm=True),
    Workload("medium", 128, (784, 512, 512, 10), batchnorm=True),
    Workload("wide", 1000, (784, 500, 500, 500, 10), batchnorm=True),
    Workload("deep", 1000, (500, *[500] * 10, 10), "tanh"),
    Workload("deep-bn", 1000, (500, *[500] * 10, 10), "tanh", batchnorm=True),
    Workload("digits", 32, (64, 64, 64, 10)),
    Workload("digits-bn", 32, (64, 64, 64, 10), batchnorm=True),
)

_SPEC = re.compile(r"(\d+):(\d+(?:-\d+)+)(?::(bn\+)?(\w+))?")


def parse(text: str, dtype: str = "float32") -> Workload:
    """A workload by name, or any network as ``batch:sizes:activation``.

    >>> parse("tiny").sizes
    (784, 128, 10)
    >>> parse("32:100-50-3:bn+tanh").describe()
    '32:100-50-3:bn+tanh'

    Raises
    ------
    ValueError
        Names the workloads there are, and the form of a spec.
    """
    if text in WORKLOADS:
        return Workload(**{**asdict(WORKLOADS[text]), "dtype": dtype})
    match = _SPEC.fullmatch(text)
    activation = (match[4] or "relu") if match else ""
    if match is None or activation not in ACTIVATIONS or "0" in match[2].split("-"):
        raise ValueError(
            f"unknown workload {text!r}: expected one of {', '.join(WORKLOADS)}, or a network as "
            f"batch:sizes:activation, like 128:784-512-10:bn+relu (activations: "
            f"{', '.join(ACTIVATIONS)})"
        )
    batch, sizes = int(match[1]), tuple(map(int, match[2].split("-")))
    if batch < 1 or (match[3] and batch < 2):
        raise ValueError(f"workload {text!r}: the batch must be at least 1, with batch norm 2")
    return Workload(text, batch, sizes, activation, bool(match[3]), dtype)


# -- matrix products ---------------------------------------------------------------------------

# The uses of a dense layer, with N rows, D inputs, H units. fastnn's public call computes dw
# alone or dx and dw together, so the input gradient alone is the difference of the last two.
GEMM_USES = ("forward", "dw", "dx+dw")


@dataclass(frozen=True)
class Gemm:
    """One use of a dense layer without bias and activation."""

    use: str
    shape: tuple[int, int, int]
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.use} {'x'.join(map(str, self.shape))}"

    @property
    def flops(self) -> int:
        n, d, h = self.shape
        return (4 if self.use == "dx+dw" else 2) * n * d * h


# (N, D, H) and the fraction of the FMA peak to reach.
GEMM_AIMS: dict[tuple[int, int, int], float] = {
    (1000, 500, 500): 0.94,
    (1000, 784, 500): 0.94,
    (2048, 2048, 2048): 0.94,
    (513, 517, 501): 0.90,
    (128, 784, 512): 0.82,
    (64, 784, 128): 0.72,
}

# Sides of the grid: one, a few, ten classes, a digit's pixels and a half, one tile and a bit,
# a hidden layer, the largest.
GEMM_SIDES = (1, 4, 10, 33, 128, 500, 2048)
_SHAPES: list[tuple[int, int, int]] = [
    *GEMM_AIMS,
    (1000, 500, 10),
    (128, 512, 10),
    (64, 128, 10),
    (32, 64, 64),
    (32, 64, 10),
    (17, 31, 63),
    *((n, d, h) for n, d, h in product(GEMM_SIDES, repeat=3)),
]
GEMM_GRID = tuple(dict.fromkeys(_SHAPES))  # each once, in this order


# -- single kernels ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """One call of `fastnn.functional`, forward or backward, on an array with C on axis 1."""

    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.op} {'x'.join(map(str, self.shape))}"

    @property
    def bytes(self) -> int:
        """Bytes that must move at least: each operand of this shape once."""
        return KERNEL_OPERANDS[self.op] * math.prod(self.shape) * np.dtype(self.dtype).itemsize


# How many arrays of the shape the call reads and writes.
KERNEL_OPERANDS = {
    "relu": 2,
    "leaky_relu": 2,
    "elu": 2,
    "sigmoid": 2,
    "tanh": 2,
    "relu_backward": 3,
    "sigmoid_backward": 3,
    "tanh_backward": 3,
    "batchnorm_forward": 2,
    "batchnorm_relu_forward": 2,
    "batchnorm_backward": 3,
}

ELEMENTWISE_SHAPES = ((1, 64), (8, 512), (128, 512), (1000, 500), (4096, 1024))
# Matrices, and images (N, C, H, W).
BATCHNORM_SHAPES: tuple[tuple[int, ...], ...] = (
    (64, 128),
    (128, 512),
    (1000, 500),
    (4096, 1024),
    (65536, 64),
    (32, 64, 56, 56),
    (128, 256, 14, 14),
    (64, 512, 7, 7),
)

KERNELS = tuple(
    Kernel(op, shape)
    for op in KERNEL_OPERANDS
    for shape in (BATCHNORM_SHAPES if op.startswith("batchnorm") else ELEMENTWISE_SHAPES)
)


# -- on the wire -------------------------------------------------------------------------------

Task = Workload | Gemm | Kernel
_KINDS: dict[str, type[Workload | Gemm | Kernel]] = {
    "step": Workload,
    "gemm": Gemm,
    "kernel": Kernel,
}


def task_to_json(task: Task) -> dict[str, Any]:
    """The task as JSON-able values, with its kind."""
    kind = next(kind for kind, cls in _KINDS.items() if type(task) is cls)
    return {"kind": kind, **asdict(task)}


def task_from_json(message: dict[str, Any]) -> Task:
    """The inverse of `task_to_json`."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in message.items()}
    return _KINDS[fields.pop("kind")](**fields)
