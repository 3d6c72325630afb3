"""The NumPy twin of every operation of `fastnn.functional`: same names, signatures and errors.

It is the specification, written for reading; the oracle of the tests; and the baseline of the
benchmarks. It needs nothing but NumPy and runs none of the compiled code. Results have the dtype of
the input; statistics and long sums are taken in float64, products of matrices in the input's dtype.
One file holds one family: read `activations.py` first.
"""

from fastnn.reference.activations import (
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
from fastnn.reference.batchnorm import batchnorm_backward, batchnorm_forward
from fastnn.reference.dense import dense_backward, dense_forward
from fastnn.reference.dropout import dropout, dropout_backward
from fastnn.reference.gated import (
    gelu,
    gelu_backward,
    hard_swish,
    hard_swish_backward,
    silu,
    silu_backward,
)
from fastnn.reference.losses import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    softmax_cross_entropy,
)
from fastnn.reference.softmax import (
    log_softmax,
    log_softmax_backward,
    maxout,
    maxout_backward,
    softmax,
    softmax_backward,
)
from fastnn.reference.updates import (
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
