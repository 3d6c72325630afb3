"""Batch norm of matrices with one channel a column, as calls and as operations of a program."""

from fastnn._kernels.program import Program
from fastnn.checks import Array, Parsed

def forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    activation: Parsed,
    y: Array,
    mean: Array,
    rstd: Array,
) -> tuple[Array, Array, Array]: ...
def reapply(
    x: Array, gamma: Array, beta: Array, mean: Array, rstd: Array, activation: Parsed, y: Array
) -> Array: ...
def moments(x: Array, mean: Array, m2: Array) -> None: ...
def backward(
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    beta: Array | None,
    saved: Array | None,
    training: bool,
    activation: Parsed,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
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
) -> None: ...
def add_backward(
    p: Program,
    name: str,
    dy: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    rstd: Array,
    beta: Array,
    saved: Array | None,
    activation: Parsed,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None: ...
