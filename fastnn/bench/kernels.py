"""Single kernels: which are measured, at what sizes, and what is asked of each.

`Kernel` is one call of `fastnn.functional`; `call` makes it for `fastnn.functional` or
`fastnn.reference`, so that the checked answer and the timed call are spelled once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.bench import updates
from fastnn.bench.peak import BANDWIDTH_SIZES
from fastnn.checks import NEEDS_INPUT
from fastnn.preprocessing.columns import unknown

PIECES = 2  # of maxout
DROPPED, SEED = 0.5, 7  # share of the elements that dropout drops, and its seed

ACTIVATIONS = (
    "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu", "gelu_tanh",
    "relu6", "hard_tanh", "hard_sigmoid", "hard_swish",
)  # fmt: skip
ROWWISE = ("softmax", "log_softmax", "maxout")
# Each loss gives its value and its gradient; the name of the gradient's `out`, and whether the
# targets are labels.
LOSSES = {
    "softmax_cross_entropy": ("dlogits_out", True),
    "multiclass_hinge": ("dscores_out", True),
    "binary_cross_entropy": ("dlogits_out", False),
    "mean_squared_error": ("dpred_out", False),
    "mean_absolute_error": ("dpred_out", False),
    "huber": ("dpred_out", False),
}

# How many arrays of the size of x the call reads and writes at least. (maxout writes half of one,
# and which piece it was in bytes; the norm of a gradient that need not be clipped is only read.)
OPERANDS: dict[str, float] = {
    **dict.fromkeys((*ACTIVATIONS, *ROWWISE), 2),
    **{f"{name}_backward": 3 for name in (*ACTIVATIONS, *ROWWISE)},
    "maxout": 1.5,
    "maxout_backward": 1.5,
    **{name: 2 if labels else 3 for name, (_, labels) in LOSSES.items()},
    "dropout": 2,
    "dropout_backward": 2,
    "batchnorm_forward": 2,
    "batchnorm_relu_forward": 2,
    "batchnorm_backward": 3,
    "batchnorm_relu_backward": 4,
    **{name: 3 + 2 * len(state) for name, (state, _) in updates.UPDATES.items()},
    "clip_by_value": 2,
    "clip_by_global_norm": 1,
}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """One call of `fastnn.functional`, forward or backward.

    `shape` is (N, C), or for batch norm any with the channels on `axis`.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    axis: int = 1

    @property
    def name(self) -> str:
        order = {1: " NCHW", -1: " NHWC"}[self.axis] if len(self.shape) == 4 else ""
        return f"{self.op} {'x'.join(map(str, self.shape))}{order}"

    @property
    def size(self) -> int:
        """Elements of x."""
        return int(np.prod(self.shape))

    @property
    def bytes(self) -> int:
        """Bytes that must move at least: each large operand once."""
        return int(OPERANDS[self.op] * self.size * np.dtype(self.dtype).itemsize)

    @property
    def in_memory(self) -> bool:
        """Whether it is too large for the caches of most machines."""
        return self.bytes > BANDWIDTH_SIZES["L3"]


SIZES = ((1, 64), (8, 64), (8, 512), (128, 512), (1000, 500), (4096, 1024))
BATCHNORM_SIZES = ((64, 128), (128, 512), (1000, 500), (4096, 1024), (65536, 64))
# Images and the axis of their channels.
BATCHNORM_IMAGES = (
    ((32, 64, 56, 56), 1), ((128, 256, 14, 14), 1), ((64, 512, 7, 7), 1), ((32, 56, 56, 64), -1),
)  # fmt: skip

KERNELS = (
    *(Kernel(op, shape) for op in OPERANDS if not op.startswith("batchnorm") for shape in SIZES),
    *(Kernel(op, (n, 10)) for op in LOSSES for n in (128, 65536)),
    *(
        Kernel(op, shape)
        for op in OPERANDS
        if op.startswith("batchnorm")
        for shape in BATCHNORM_SIZES
    ),
    *(
        Kernel(op, shape, axis=axis)
        for op in OPERANDS
        if op.startswith("batchnorm")
        for shape, axis in BATCHNORM_IMAGES
    ),
)
# Size by size: should the time be over, every kernel has been measured at one of them.
KERNELS_QUICK = tuple(
    kernel
    for shape in ((128, 512), (1, 64), (1000, 500))
    for kernel in KERNELS
    if kernel.shape == shape
)


def chosen(words: Sequence[str], dtype: str = "float32", quick: bool = False) -> list[Kernel]:
    """The kernels that some words name: operations (a name takes its backward along) and shapes.

    >>> [kernel.name for kernel in chosen(["tanh", "1x64"])]
    ['tanh 1x64', 'tanh_backward 1x64']

    Raises
    ------
    ValueError
        Names a word that is neither.
    """
    shapes = {"x".join(map(str, kernel.shape)) for kernel in KERNELS}
    ops, sizes = set(words) & OPERANDS.keys(), set(words) & shapes
    if missing := [word for word in words if word not in ops | sizes]:
        raise ValueError(unknown("kernel or shape", missing[0], (*OPERANDS, *sorted(shapes))))
    return [
        replace(kernel, dtype=dtype)
        for kernel in (KERNELS_QUICK if quick else KERNELS)
        if (not ops or kernel.op in ops or kernel.op.removesuffix("_backward") in ops)
        and (not sizes or "x".join(map(str, kernel.shape)) in sizes)
    ]


# -- what is asked -----------------------------------------------------------------------------

SMALL = 4096  # elements: below it, the call counts, and above it the arithmetic
CALL_ALLOWANCE = 0.3e-6  # seconds that a small call may take beyond NumPy's
CALL_SECONDS = 1e-6  # of a call with 64 elements, whose arithmetic takes a few hundredths of that
IN_CACHE = dict.fromkeys(("sigmoid", "elu", "softplus", "silu", "gelu", "gelu_tanh"), 1.5)
COPY_SHARE = 0.9


@dataclass(frozen=True)
class Asked:
    """At least `figure`, of what: "fastest" or the name of a peer: times as fast; "copy": share of
    the copy bandwidth; "numpy's call": NumPy's time over ours without `CALL_ALLOWANCE`; "call":
    `CALL_SECONDS` over our time."""

    of: str
    figure: float


def asked(task: Kernel) -> list[Asked]:
    """What the kernel is to reach at this size."""
    norm = task.op.startswith("batchnorm")
    if task.size < SMALL:
        single = [Asked("call", 1.0)] if task.size == 64 else []
        return [Asked("numpy's call", 1.0), *single]
    if norm and len(task.shape) == 4:
        return [Asked("torch", 1.5 if task.axis == 1 else 1.0)]
    if norm and task.in_memory:
        return [Asked("fastest", 1.0), Asked("torch", 1.1 if "backward" in task.op else 1.25)]
    if task.in_memory:
        activation = task.op.removesuffix("_backward") in ACTIVATIONS
        return [Asked("fastest", 1.0), *([Asked("copy", COPY_SHARE)] if activation else [])]
    return [Asked("fastest", 1.5 if norm else IN_CACHE.get(task.op, 1.0))]


# -- inputs and calls --------------------------------------------------------------------------


def inputs(task: Kernel, reference: Any, seed: int = 2) -> dict[str, np.ndarray]:
    """The operands, the same in every process; saved outputs come from the NumPy twins."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(task.dtype)

    if task.op in updates.NAMES:
        return updates.inputs(task.op, task.shape, task.dtype, seed)
    name, backward = task.op.removesuffix("_backward"), task.op.endswith("_backward")
    arrays = {"x": normal(*task.shape)}
    if name.startswith("batchnorm"):
        channels = task.shape[task.axis]
        arrays |= {"gamma": rng.uniform(0.5, 1.5, channels).astype(task.dtype)}
        arrays |= {"beta": normal(channels), "dy": normal(*task.shape)}
        if backward or "backward" in task.op:
            activation = "relu" if "relu" in task.op else None
            y, mean, rstd = reference.batchnorm_forward(
                arrays["x"], arrays["gamma"], arrays["beta"], axis=task.axis, activation=activation
            )
            arrays |= {"y": y, "mean": mean, "rstd": rstd}
    elif name in LOSSES:
        if LOSSES[name][1]:
            arrays["labels"] = rng.integers(0, task.shape[1], task.shape[0])
        elif name == "binary_cross_entropy":
            arrays["target"] = rng.integers(0, 2, task.shape).astype(task.dtype)
        else:
            arrays["target"] = normal(*task.shape)
    elif name == "maxout":
        arrays["dy"] = normal(task.shape[0], task.shape[1] // PIECES)
        if backward:
            arrays["which"] = reference.maxout(arrays["x"], PIECES)[1]
    elif name == "dropout":
        arrays["dy"] = normal(*task.shape)
        if backward:  # for those that keep a mask: 0, or the scale
            arrays["mask"] = reference.dropout(np.ones_like(arrays["dy"]), DROPPED, SEED)
    elif backward:
        arrays["dy"] = normal(*task.shape)
        (arrays["y"],) = call(reference, Kernel(name, task.shape, task.dtype), arrays)()
    return arrays


def call(f: Any, task: Kernel, arrays: Arrays) -> Callable[[], Any]:
    """A function without arguments that computes `task` by the module `f` and returns a tuple."""
    if task.op in updates.NAMES:
        return updates.call(f, task.op, arrays)
    name, backward = task.op.removesuffix("_backward"), task.op.endswith("_backward")
    x = arrays["x"]
    out = np.empty_like(x)
    if name.startswith("batchnorm"):
        return _batchnorm(f, task, arrays, out)
    if name == "dropout":
        dropout = getattr(f, task.op)
        if backward:
            dy = arrays["dy"]
            return lambda: (dropout(dy, DROPPED, SEED, dx_out=out),)
        return lambda: (dropout(x, DROPPED, SEED, out=out),)
    if name in LOSSES:
        keyword, labels = LOSSES[name]
        loss, target = getattr(f, name), arrays["labels" if labels else "target"]
        gradient = {keyword: out}
        return lambda: loss(x, target, **gradient)
    if name == "maxout":
        dy = arrays["dy"]
        if backward:
            which, maxout_backward = arrays["which"], f.maxout_backward
            return lambda: (maxout_backward(dy, which, PIECES, dx_out=out),)
        y, which, maxout = np.empty_like(dy), np.empty(dy.shape, np.uint8), f.maxout
        return lambda: maxout(x, PIECES, y_out=y, which_out=which)[:1]
    function = getattr(f, task.op.replace("gelu_tanh", "gelu"))
    if backward:
        dy = arrays["dy"]
        saved = x if name.removesuffix("_tanh") in NEEDS_INPUT else arrays["y"]
        if name == "gelu_tanh":
            return lambda: (function(dy, saved, "tanh", dx_out=out),)
        return lambda: (function(dy, saved, dx_out=out),)
    if name == "gelu_tanh":
        return lambda: (function(x, "tanh", out=out),)
    return lambda: (function(x, out=out),)


def _batchnorm(f: Any, task: Kernel, arrays: Arrays, out: np.ndarray) -> Callable[[], Any]:
    x, gamma, beta = arrays["x"], arrays["gamma"], arrays["beta"]
    settings: dict[str, Any] = {"axis": task.axis} if task.axis != 1 else {}
    if "relu" in task.op:
        settings["activation"] = "relu"
    if task.op.endswith("_forward"):
        forward = f.batchnorm_forward
        return lambda: forward(x, gamma, beta, y_out=out, **settings)[:1]
    if "relu" in task.op:
        settings["y"] = arrays["y"]
    dy, mean, rstd, backward = arrays["dy"], arrays["mean"], arrays["rstd"], f.batchnorm_backward
    return lambda: backward(dy, x, gamma, mean, rstd, dx_out=out, **settings)


def missing(f: Any, task: Kernel) -> str | None:
    """Why the module `f` cannot do it, or None."""
    op = task.op.replace("gelu_tanh", "gelu").replace("batchnorm_relu", "batchnorm")
    return None if hasattr(f, op) else f"has no {op}"
