"""Batch normalisation as a layer."""

from __future__ import annotations

import numpy as np

from .. import functional
from ..checks import check_fraction, check_positive
from .base import Layer, Shape


class BatchNorm(Layer):
    """y = gamma · (x − mean) · rstd + beta, per channel (axis 1).

    In training, mean and rstd = 1/sqrt(variance + eps) are those of the batch (the biased
    variance), and the running statistics follow: running = (1 − momentum) · running + momentum ·
    batch, the variance unbiased, as PyTorch does. In inference the running ones are used.

    Source: Ioffe and Szegedy (2015), algorithms 1 and 2.

    Parameters
    ----------
    momentum : float, 0 to 1
        The share of the new batch in the running statistics.
    eps : float
        Added to the variance.

    Raises
    ------
    ValueError
        A parameter is out of range; in training, a batch of one row, which has no variance.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.Sequential([fnn.BatchNorm()], input_dim=2, dtype="float64")
    >>> y = model.forward(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> y.round(3).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    min_rows = 2
    adjustable = ("momentum", "eps")
    overwrites_gradients = True

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.momentum = check_fraction(momentum, "momentum", closed=True)
        self.eps = check_positive(eps, "eps")

    def build(self, input_shape: Shape) -> Shape:
        channels = input_shape[0]
        self.add_parameter("gamma", (channels,), "ones")
        self.add_parameter("beta", (channels,), "zeros")
        self.add_buffer("running_mean", (channels,), 0.0)
        self.add_buffer("running_var", (channels,), 1.0)
        return input_shape

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        if training and x.size == x.shape[1]:
            raise ValueError(
                f"layer {self.label}: a batch of one row has no variance, so batch norm cannot "
                "train on it; give it two rows or more, or call forward(x, training=False)"
            )
        y: np.ndarray
        y, mean, rstd = functional.batchnorm_forward(
            x,
            self.parameters["gamma"],
            self.parameters["beta"],
            self.buffers["running_mean"],
            self.buffers["running_var"],
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )
        self._saved = x, mean, rstd, training
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, mean, rstd, training = self._saved
        dx: np.ndarray
        dx, _, _ = functional.batchnorm_backward(
            dy,
            x,
            self.parameters["gamma"],
            mean,
            rstd,
            training=training,
            dgamma_out=self.gradients["gamma"],
            dbeta_out=self.gradients["beta"],
        )
        return dx
