"""Activations as layers: one base, and a few lines for each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import functional
from ..checks import check_positive
from .base import Layer

ActivationSpec = str | tuple[str, dict[str, float]]


class Activation(Layer):
    """An elementwise function without parameters to train.

    A subclass names the operation of `fastnn.functional`, and sets `options` in its constructor
    where the operation has any. The backward of those that increase everywhere works on the saved
    output; the others set ``saves = "input"``.
    """

    overwrites_gradients = True

    operation: ClassVar[str]
    saves: ClassVar[str] = "output"
    options: dict[str, float] = {}

    @property
    def activation(self) -> ActivationSpec:
        """What `functional.dense_forward` and others take as `activation`, to fuse this layer."""
        return (self.operation, self.options) if self.options else self.operation

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        y: np.ndarray = getattr(functional, self.operation)(x, **self.options)
        self._saved = y if self.saves == "output" else x
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        backward: Any = getattr(functional, self.operation + "_backward")
        dx: np.ndarray = backward(dy, self._saved, **self.options)
        return dx


class ReLU(Activation):
    """max(0, x)."""

    operation = "relu"


class LeakyReLU(Activation):
    """x where x > 0, negative_slope · x elsewhere; the slope is above 0."""

    operation = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.options = {"negative_slope": check_positive(negative_slope, "negative_slope")}


class ELU(Activation):
    """x where x > 0, alpha · (exp(x) − 1) elsewhere; alpha is above 0 (Clevert et al. 2016)."""

    operation = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.options = {"alpha": check_positive(alpha, "alpha")}


class Sigmoid(Activation):
    """1 / (1 + exp(−x))."""

    operation = "sigmoid"


class Tanh(Activation):
    """tanh(x)."""

    operation = "tanh"
