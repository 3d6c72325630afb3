"""What is measured: networks, matrix products and kernels, as data shared by all benchmarks.

Every task is a small frozen dataclass that travels to the worker processes as JSON
(`task_to_json`, `task_from_json`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from fastnn.bench.kernels import Kernel
from fastnn.text import did_you_mean

ACTIVATIONS = ("relu", "tanh")
DIGITS_ROWS = 1797  # of scikit-learn's digits


@dataclass(frozen=True)
class Workload:
    """One training step of a multi-layer perceptron: forward, loss, backward, SGD with momentum.

    `sizes` runs from the input to the classes. Every hidden layer is dense, then batch norm if
    `batchnorm`, then the activation. The loss is softmax with cross-entropy, the optimizer SGD
    with momentum 0.9. With `fit`, fastnn runs it as 30 epochs of `Sequential.fit` on as many rows
    as the digits data have, with shuffling, history and progress bar; the others run their steps.
    """

    name: str
    batch: int
    sizes: tuple[int, ...]
    activation: str = "relu"
    batchnorm: bool = False
    dtype: str = "float32"
    fit: bool = False
    lr: float = 0.01

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
        """Steps of one pass over the digits data: the length of a "whole epoch"."""
        return -(-DIGITS_ROWS // self.batch)

    def describe(self) -> str:
        """The network in one line, in the form that `parse` reads."""
        extras = ("bn+" if self.batchnorm else "") + self.activation
        return f"{self.batch}:{'-'.join(map(str, self.sizes))}:{extras}"

    def parameters(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Initial parameters, the same in every process: ``w0, b0, gamma0, beta0, w1, …``.

        Variance 2/D before ReLU and 1/D otherwise. gamma and beta start away from 1 and 0, so that
        a contender that forgot them would not compute the same loss. Drawn in the dtype and scaled in
        place: a copy in float64 would be the most memory that a process ever holds.
        """
        rng = np.random.default_rng(seed)

        def normal(scale: float, *shape: int) -> np.ndarray:
            drawn = rng.standard_normal(shape, np.dtype(self.dtype))
            drawn *= scale
            return drawn

        gain = 2.0 if self.activation == "relu" else 1.0
        arrays: dict[str, np.ndarray] = {}
        for i, (d, h) in enumerate(pairwise(self.sizes)):
            arrays[f"w{i}"] = normal((gain / d) ** 0.5, d, h)
            arrays[f"b{i}"] = normal(0.01, h)
            if self.batchnorm and i < len(self.sizes) - 2:
                arrays[f"gamma{i}"] = rng.uniform(0.8, 1.2, h).astype(self.dtype)
                arrays[f"beta{i}"] = normal(0.1, h)
        return arrays

    def data(self, seed: int = 1, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One batch, or as many rows: `x` (rows, D) standard normal, `y` (rows,) int64 labels."""
        rng = np.random.default_rng(seed)
        rows = self.batch if rows is None else rows
        x = rng.standard_normal((rows, self.sizes[0]), np.dtype(self.dtype))
        return x, rng.integers(0, self.sizes[-1], rows)


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
    Workload("digits-fit", 32, (64, 64, 64, 10), fit=True),
    Workload("digits-bn-fit", 32, (64, 64, 64, 10), batchnorm=True, fit=True),
)


class Aims(NamedTuple):
    """What a step is to reach: fraction of the FMA peak, times as fast as JAX's jit and as PyTorch
    (where both sides run the same instruction set), microseconds."""

    peak_fraction: float | None = None
    jax: float | None = None
    torch: float | None = 1.3
    microseconds: float | None = None


STEP_AIMS = {
    "tiny": Aims(0.77, 1.25),
    "small": Aims(0.72, 1.3),
    "medium": Aims(0.82, 1.17),
    "wide": Aims(0.87, 1.2, 1.03),
    "deep": Aims(0.91, 1.12, 1.03),
    "deep-bn": Aims(0.86, 1.4),
    "digits": Aims(),
    "digits-bn": Aims(),
    "digits-fit": Aims(microseconds=11.0),
    "digits-bn-fit": Aims(microseconds=14.0),
}
# Limited to AVX2, everyone; the figures against JAX are of AVX-512.
STEP_AIMS_AVX2 = {
    name: Aims(0.88 if name == "wide" else None, None, aims.torch)
    for name, aims in STEP_AIMS.items()
}

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
            f"unknown workload {text!r}{did_you_mean(text, WORKLOADS)}: expected one of "
            f"{', '.join(WORKLOADS)}, or a network as "
            f"batch:sizes:activation, like 128:784-512-10:bn+relu (activations: "
            f"{', '.join(ACTIVATIONS)})"
        )
    batch, sizes = int(match[1]), tuple(map(int, match[2].split("-")))
    if batch < 1 or (match[3] and batch < 2):
        raise ValueError(f"workload {text!r}: the batch must be at least 1, with batch norm 2")
    return Workload(text, batch, sizes, activation, bool(match[3]), dtype)


@dataclass(frozen=True)
class SavedModel:
    """The training step of a model in a file, with its loss, for a breakdown."""

    path: str
    batch: int
    dtype: str = ""  # the file says

    @property
    def name(self) -> str:
        """The file, and the rows of a batch."""
        return f"{self.path}, batch {self.batch}"


# -- matrix products ---------------------------------------------------------------------------

# The uses of a dense layer, with N rows, D inputs, H units: y = x @ w, dx = dy @ w.T, dw = x.T @ dy.
GEMM_USES = ("forward", "dx", "dw")


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
        return 2 * n * d * h

    @property
    def bytes(self) -> int:
        """Bytes of the three matrices, each once."""
        n, d, h = self.shape
        return (n * d + d * h + n * h) * np.dtype(self.dtype).itemsize

    @property
    def group(self) -> str:
        """The kind of shape, for a table: by its smallest sides first."""
        n, d, h = self.shape
        if n <= 32:
            return "1 row" if n == 1 else "2 to 32 rows"
        if h <= 10:
            return "up to 10 units"
        if d <= 10:
            return "up to 10 inputs"
        return "up to 128 a side" if max(n, d, h) <= 128 else "larger"


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
# Those with an aim, and of the others every ninth: coprime to the seven sides, so all occur.
GEMM_QUICK = (*GEMM_AIMS, *GEMM_GRID[len(GEMM_AIMS) :: 9])


def gemms(words: Sequence[str], dtype: str = "float32", quick: bool = False) -> list[Gemm]:
    """The products that some words choose: "aims", uses, and shapes as NxDxH; by default the grid.

    >>> [task.name for task in gemms(["dx", "8x4x2"])]
    ['dx 8x4x2']

    Raises
    ------
    ValueError
        Says what the words may be.
    """
    shapes: list[tuple[int, int, int]] = []
    uses = [word for word in words if word in GEMM_USES]
    for word in words:
        if word == "aims":
            shapes += GEMM_AIMS
        elif match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", word):
            shapes.append((int(match[1]), int(match[2]), int(match[3])))
        elif word not in GEMM_USES:
            raise ValueError(
                f"unknown product {word!r}: expected aims, a use ({', '.join(GEMM_USES)}) or a "
                f"shape as NxDxH, like 128x784x512"
            )
    chosen = shapes or (GEMM_QUICK if quick else GEMM_GRID)
    return [Gemm(use, shape, dtype) for shape in chosen for use in uses or GEMM_USES]


# -- on the wire -------------------------------------------------------------------------------

Task = Workload | SavedModel | Gemm | Kernel
_KINDS: dict[str, type[Workload | SavedModel | Gemm | Kernel]] = {
    "step": Workload,
    "model": SavedModel,
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
