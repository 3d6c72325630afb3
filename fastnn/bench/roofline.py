"""Every kernel of fastnn as a dot under the roof that the machine sets: Williams, Waterman and
Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures".

A kernel with w flop on b bytes that takes s seconds stands at w/b flop per byte and w/s flop/s. The
roof above it is the lower one of the FMA peak and the bandwidth times w/b.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastnn.bench import updates
from fastnn.bench.kernels import ACTIVATIONS, LOSSES, OPERANDS, Kernel
from fastnn.bench.workloads import GEMM_USES, Gemm

# Arithmetic for each element. Additions, multiplications, comparisons, divisions and roots count
# one; exp, log, tanh and erf what a polynomial in float32 takes, and so does softplus. These numbers
# are nominal: they move a dot along the slanted roof, its distance from which does not depend on them.
EXP, LOG, TANH, ERF = 18, 20, 24, 30
ARITHMETIC: dict[str, float] = {
    "relu": 1, "leaky_relu": 2, "elu": EXP + 3, "selu": EXP + 4, "sigmoid": EXP + 2, "tanh": TANH,
    "softplus": EXP + 5, "silu": EXP + 3, "gelu": ERF + 4, "gelu_tanh": TANH + 7, "relu6": 2,
    "hard_tanh": 2, "hard_sigmoid": 4, "hard_swish": 5,
    "relu_backward": 1, "leaky_relu_backward": 2, "elu_backward": 3, "selu_backward": 3,
    "sigmoid_backward": 3, "tanh_backward": 3, "softplus_backward": EXP + 3,
    "silu_backward": EXP + 7, "gelu_backward": ERF + EXP + 6, "gelu_tanh_backward": TANH + 14,
    "relu6_backward": 3, "hard_tanh_backward": 3, "hard_sigmoid_backward": 4,
    "hard_swish_backward": 6,
    "softmax": EXP + 4, "log_softmax": EXP + 4, "maxout": 1, "softmax_backward": 4,
    "log_softmax_backward": EXP + 3, "maxout_backward": 1,
    "dropout": 3, "dropout_backward": 3,  # half of it dropped: seven rounds of Philox serve 128 elements
    "softmax_cross_entropy": EXP + 6, "multiclass_hinge": 6, "binary_cross_entropy": EXP + LOG + 7,
    "mean_squared_error": 4, "mean_absolute_error": 5, "huber": 7,
    "batchnorm_forward": 6, "batchnorm_relu_forward": 7, "batchnorm_backward": 10,
    "batchnorm_relu_backward": 11,
    "sgd_update": 4, "adagrad_update": 7, "rmsprop_update": 9, "adam_update": 12,
    "adamw_update": 14, "clip_by_value": 2, "clip_by_global_norm": 2,
}  # fmt: skip

FAMILIES = ("products", "activations", "rows", "batch norm", "losses", "dropout", "updates")

# In the caches of the second level, as the layers of most networks are.
TASKS: tuple[Gemm | Kernel, ...] = (
    *(
        Gemm(use, shape)
        for shape in ((64, 784, 128), (128, 784, 512), (1000, 500, 500))
        for use in GEMM_USES
    ),
    *(Kernel(op, (128, 512)) for op in OPERANDS),
)


def family(task: Gemm | Kernel) -> str:
    """One of `FAMILIES`."""
    if isinstance(task, Gemm):
        return "products"
    name = task.op.removesuffix("_backward")
    if name in ACTIVATIONS:
        return "activations"
    if name in LOSSES:
        return "losses"
    if name in updates.NAMES:
        return "updates"
    if name == "dropout":
        return "dropout"
    return "batch norm" if name.startswith("batchnorm") else "rows"


def dots(records: Iterable[dict[str, Any]], tasks: Sequence[Any]) -> list[dict[str, Any]]:
    """What was measured of single calls, as dots: ``name, family, dtype, flops, bytes, seconds``.

    >>> (dot,) = dots([{"name": "relu 2x4", "seconds": 1e-6}], [Kernel("relu", (2, 4))])
    >>> dot["family"], dot["flops"], dot["bytes"]
    ('activations', 8, 64)
    """
    by_name = {task.name: task for task in tasks}
    found = []
    for record in records:
        task = by_name[record["name"]]
        flops = task.flops if isinstance(task, Gemm) else round(ARITHMETIC[task.op] * task.size)
        found.append(
            {
                "name": task.name,
                "family": family(task),
                "dtype": task.dtype,
                "flops": flops,
                "bytes": task.bytes,
                "seconds": record["seconds"],
            }
        )
    return found
