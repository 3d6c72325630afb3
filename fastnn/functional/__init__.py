"""Fast kernels on NumPy arrays: stateless operations, forward and backward.

Each has a NumPy twin of the same name and signature in `fastnn.reference`, which says what it
computes.  Arrays are float32 or float64, C-contiguous and aligned; nothing is copied silently: what
does not fit is an error that says how to get there.  Results go to `out=` (or `dx_out=`, ...) where
given.  Large work is spread over `fastnn.get_num_threads()` threads, with the same bits for any number.

The functions are the compiled ones themselves (`fastnn._kernels`), so that a call costs little beside
its arithmetic; what they take and return is written down once, at their twins.
"""

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import reference as _reference
from fastnn._kernels.activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hard_sigmoid,
    hard_sigmoid_backward,
    hard_swish,
    hard_swish_backward,
    hard_tanh,
    hard_tanh_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from fastnn._kernels.batchnorm import batchnorm_backward, batchnorm_forward
from fastnn._kernels.dense import dense_backward, dense_forward
from fastnn._kernels.dropout import dropout, dropout_backward
from fastnn._kernels.losses import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    softmax_cross_entropy,
)
from fastnn._kernels.maxout import maxout, maxout_backward
from fastnn._kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from fastnn._kernels.updates import (
    adagrad_update,
    adam_update,
    adamw_update,
    clip_by_global_norm,
    clip_by_value,
    max_norm,
    rmsprop_update,
    sgd_update,
)

__all__ = [
    "adagrad_update",
    "adam_update",
    "adamw_update",
    "batchnorm_backward",
    "batchnorm_forward",
    "binary_cross_entropy",
    "clip_by_global_norm",
    "clip_by_value",
    "dense_backward",
    "dense_forward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "hard_tanh",
    "hard_tanh_backward",
    "huber",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_norm",
    "maxout",
    "maxout_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "multiclass_hinge",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "rmsprop_update",
    "selu",
    "selu_backward",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

for _name in __all__:
    _function, _twin = globals()[_name], getattr(_reference, _name)
    _function.__module__ = __name__
    _function.__doc__, _function.__annotations__ = _twin.__doc__, _twin.__annotations__
