"""Batch norm of matrices with one channel a column, as calls and as operations of a program."""

from fastnn._kernels.program import Program
from fastnn.checks import Activation, Array, Parsed

def batchnorm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
    activation: Activation = None,
    axis: int = 1,
    y_out: Array | None = None,
    mean_out: Array | None = None,
    rstd_out: Array | None = None,
) -> tuple[Array, Array, Array]: ...
def reapply(
    x: Array, gamma: Array, beta: Array, mean: Array, rstd: Array, activation: Parsed, y: Array
) -> Array: ...
def moments(x: Array, mean: Array, m2: Array) -> None: ...
def batchnorm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    *,
    beta: Array | None = None,
    y: Array | None = None,
    training: bool = True,
    activation: Activation = None,
    axis: int = 1,
    dx_out: Array | None = None,
    dgamma_out: Array | None = None,
    dbeta_out: Array | None = None,
) -> tuple[Array, Array, Array]: ...
def add_forward(
    p: Program,
    name: str,
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
    activation: Parsed,
    y: Array,
    mean: Array,
    rstd: Array,
    shift: Array | None = None,
) -> None: ...
def add_backward(
    p: Program,
    name: str,
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    shift: Array,
    saved: Array | None,
    activation: Parsed,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None: ...
