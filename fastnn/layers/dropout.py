"""Dropout as a layer."""

from __future__ import annotations

import numpy as np

from .. import functional
from ..checks import check_fraction
from .base import Layer


class Dropout(Layer):
    """In training, each value is 0 with probability p, else divided by 1 − p; x itself in inference.

    The mask of each training pass is a function of the model's seed, the layer's position and the
    number of the pass (`training_passes`, which a saved model keeps), so a run can be repeated bit
    for bit, with any number of threads and on any instruction set. Source: Srivastava et al. (2014).

    Parameters
    ----------
    p : float, 0 to below 1
        The share of the values that is dropped.

    Raises
    ------
    TypeError, ValueError
        p is no number or out of range.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dropout(0.5)], input_dim=6, seed=0)
    >>> set(model.forward(np.ones((2, 6))).ravel().tolist()) <= {0.0, 2.0}
    True
    >>> model.forward(np.ones((1, 6)), training=False).tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """

    overwrites_gradients = True
    adjustable = ("p",)

    def __init__(self, p: float) -> None:
        self.p = check_fraction(p, "p")

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        self._pass = self.training_passes if training else None
        if self._pass is None:
            return x
        self.training_passes += 1
        y: np.ndarray = functional.dropout(x, self.p, self.random_key, self._pass)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if self._pass is None:
            return dy
        dx: np.ndarray = functional.dropout_backward(dy, self.p, self.random_key, self._pass)
        return dx
