"""The contenders: the same network, products and kernels in each framework, one file each.

They are imported only inside a worker process, so that no two frameworks share a process.
"""

from __future__ import annotations

from importlib import import_module

from fastnn.bench.contenders.base import Contender, Steps

__all__ = ["CONTENDERS", "Contender", "Steps", "create"]

# name on the command line -> (file, class)
CONTENDERS = {
    "fastnn": ("fastnn_mlp", "FastNN"),
    "reference": ("fastnn_mlp", "Reference"),
    "numpy": ("numpy_mlp", "NumPy"),
    "torch": ("torch_mlp", "Torch"),
    "torch-compile": ("torch_mlp", "TorchCompile"),
    "jax": ("jax_mlp", "Jax"),
    "jax-scan": ("jax_mlp", "JaxScan"),
    "sklearn": ("sklearn_mlp", "ScikitLearn"),
}

# The module whose absence means that the contender is not installed.
REQUIRES = {
    "torch": "torch",
    "torch-compile": "torch",
    "jax": "jax",
    "jax-scan": "jax",
    "sklearn": "sklearn",
}


def create(name: str, threads: int) -> Contender:
    """Import the framework behind `name` and set its thread count."""
    module, cls = CONTENDERS[name]
    contender: Contender = getattr(import_module(f"{__name__}.{module}"), cls)(threads)
    return contender
