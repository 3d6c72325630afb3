"""Fast kernels on NumPy arrays: stateless operations, forward and backward.

Each has a NumPy twin of the same name and signature in `fastnn.reference`, which says what it
computes.  Arrays are float32 or float64, C-contiguous and aligned; nothing is copied silently: what
does not fit is an error that says how to get there.  Results go to `out=` (or `dx_out=`, ...) where
given.  Large work is spread over `fastnn.get_num_threads()` threads, with the same bits for any number.
"""

from fastnn.functional.activations import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from fastnn.functional.batchnorm import batchnorm_backward, batchnorm_forward
from fastnn.functional.dense import dense_backward, dense_forward
from fastnn.functional.losses import mean_squared_error, softmax_cross_entropy
from fastnn.functional.softmax import (
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fastnn.functional.updates import sgd_update

__all__ = [
    "batchnorm_backward",
    "batchnorm_forward",
    "dense_backward",
    "dense_forward",
    "elu",
    "elu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "mean_squared_error",
    "relu",
    "relu_backward",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
]
