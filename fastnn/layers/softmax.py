"""Softmax and log-softmax as layers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import functional
from .base import Layer


class _Normaliser(Layer):
    """An operation over the last axis that is differentiated from its output."""

    overwrites_gradients = True

    operation: ClassVar[str]

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        self._y: np.ndarray = getattr(functional, self.operation)(x)
        return self._y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        backward: Any = getattr(functional, self.operation + "_backward")
        dx: np.ndarray = backward(dy, self._y)
        return dx


class Softmax(_Normaliser):
    """exp(x) / Σ exp(x) over the last axis.

    Not before `softmax_cross_entropy`, which takes the scores themselves and does this inside.
    """

    operation = "softmax"


class LogSoftmax(_Normaliser):
    """x − log Σ exp(x) over the last axis: the logarithm of `Softmax`, without losing small ones."""

    operation = "log_softmax"
