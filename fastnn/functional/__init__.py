"""Fast kernels on NumPy arrays: stateless operations, forward and backward.

Each has a NumPy twin of the same name and signature in `fastnn.reference`, which says what it
computes.  Arrays are float32 or float64, C-contiguous and aligned; nothing is copied silently: what
does not fit is an error that says how to get there.  Results go to `out=` (or `dx_out=`, ...) where
given.  Large work is spread over `fastnn.get_num_threads()` threads, with the same bits for any number.
"""

from fastnn.functional.activations import (
    elu,
    elu_backward,
    hard_sigmoid,
    hard_sigmoid_backward,
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
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from fastnn.functional.batchnorm import batchnorm_backward, batchnorm_forward
from fastnn.functional.dense import dense_backward, dense_forward
from fastnn.functional.dropout import dropout, dropout_backward
from fastnn.functional.gated import (
    gelu,
    gelu_backward,
    hard_swish,
    hard_swish_backward,
    silu,
    silu_backward,
)
from fastnn.functional.losses import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    softmax_cross_entropy,
)
from fastnn.functional.softmax import (
    log_softmax,
    log_softmax_backward,
    maxout,
    maxout_backward,
    softmax,
    softmax_backward,
)
from fastnn.functional.updates import (
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
