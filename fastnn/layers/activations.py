"""Activations as layers: one base, and a few lines for each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import functional
from ..checks import check_approximate, check_slope
from .base import Layer

ActivationSpec = str | tuple[str, dict[str, Any]]


class Activation(Layer):
    """An elementwise function without parameters to train.

    A subclass names the operation of `fastnn.functional`, and sets `options` in its constructor
    where the operation has any. The backward of those that increase everywhere works on the saved
    output; the others set ``saves = "input"``.
    """

    overwrites_gradients = True

    operation: ClassVar[str]
    saves: ClassVar[str] = "output"
    options: dict[str, Any] = {}

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
        self.options = {"negative_slope": check_slope(negative_slope, "negative_slope")}


class ELU(Activation):
    """x where x > 0, alpha · (exp(x) − 1) elsewhere; alpha is above 0 (Clevert et al. 2016)."""

    operation = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.options = {"alpha": check_slope(alpha, "alpha")}


class Sigmoid(Activation):
    """1 / (1 + exp(−x))."""

    operation = "sigmoid"


class Tanh(Activation):
    """tanh(x)."""

    operation = "tanh"


class SELU(Activation):
    """scale · (x where x > 0, alpha · (exp(x) − 1) elsewhere), which keeps mean 0 and variance 1.

    Klambauer et al. (2017); the two constants are theirs.
    """

    operation = "selu"


class Softplus(Activation):
    """log(1 + exp(x))."""

    operation = "softplus"


class ReLU6(Activation):
    """min(max(0, x), 6)."""

    operation = "relu6"


class HardTanh(Activation):
    """x, clipped to −1 … 1."""

    operation = "hard_tanh"


class HardSigmoid(Activation):
    """x/6 + 1/2, clipped to 0 … 1."""

    operation = "hard_sigmoid"


class SiLU(Activation):
    """x / (1 + exp(−x)) (Elfwing et al. 2018; also called swish)."""

    operation = "silu"
    saves = "input"


class GELU(Activation):
    """x · Φ(x), Φ the normal distribution; "tanh" for the approximation by it.

    Hendrycks and Gimpel (2016).
    """

    operation = "gelu"
    saves = "input"

    def __init__(self, approximate: str = "none") -> None:
        self.options = {"approximate": check_approximate(approximate)}


class HardSwish(Activation):
    """x times `HardSigmoid` of x (Howard et al. 2019)."""

    operation = "hard_swish"
    saves = "input"
