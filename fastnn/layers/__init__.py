"""Layers: objects with parameters, a forward and a backward."""

from __future__ import annotations

from .activations import ELU, Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from .base import Layer
from .batchnorm import BatchNorm
from .dense import Dense

__all__ = [
    "ELU",
    "Activation",
    "BatchNorm",
    "Dense",
    "Layer",
    "LeakyReLU",
    "ReLU",
    "Sigmoid",
    "Tanh",
]

#: The classes that a model file may name without the reader's help.
KNOWN: dict[str, type[Layer]] = {
    cls.__name__: cls for cls in (BatchNorm, Dense, ELU, LeakyReLU, ReLU, Sigmoid, Tanh)
}
