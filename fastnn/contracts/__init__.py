"""What each operation asks of all its arguments together.

`fastnn.functional` and `fastnn.reference` call the same function of this package first, so that a
wrong argument gives the same error in both. Each checks the arguments of one operation (or of a family
that takes the same), allocates the outputs that were not given, and returns what the operation needs.
"""

from fastnn.contracts.operations import (
    batchnorm_backward,
    batchnorm_forward,
    dense_backward,
    dense_forward,
    dropout,
    maxout,
    maxout_backward,
    softmax,
    softmax_backward,
    unary,
    unary_backward,
)
from fastnn.contracts.training import (
    adagrad_update,
    adam_update,
    classification,
    clip,
    max_norm,
    regression,
    rmsprop_update,
    sgd_update,
    update,
)

__all__ = [
    "adagrad_update",
    "adam_update",
    "batchnorm_backward",
    "batchnorm_forward",
    "classification",
    "clip",
    "dense_backward",
    "dense_forward",
    "dropout",
    "max_norm",
    "maxout",
    "maxout_backward",
    "regression",
    "rmsprop_update",
    "sgd_update",
    "softmax",
    "softmax_backward",
    "unary",
    "unary_backward",
    "update",
]
