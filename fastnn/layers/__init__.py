"""Layers: objects with parameters, a forward and a backward."""

from __future__ import annotations

from .activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    HardTanh,
    LeakyReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from .base import Layer
from .batchnorm import BatchNorm
from .dense import Dense, Maxout
from .dropout import Dropout
from .softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNorm",
    "Dense",
    "Dropout",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "Layer",
    "LeakyReLU",
    "LogSoftmax",
    "Maxout",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]

#: The classes that a model file may name without the reader's help.
KNOWN: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        BatchNorm,
        Dense,
        Dropout,
        ELU,
        GELU,
        HardSigmoid,
        HardSwish,
        HardTanh,
        LeakyReLU,
        LogSoftmax,
        Maxout,
        ReLU,
        ReLU6,
        SELU,
        SiLU,
        Sigmoid,
        Softmax,
        Softplus,
        Tanh,
    )
}
