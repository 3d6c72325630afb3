"""Single kernels in the best form that NumPy has: `out=`, in place, no temporary arrays.

Each function takes the operands by name and returns the call that is timed. Where a fast form loses
digits that the check allows to lose (exp − 1 for expm1 near 0), the fast one stands: it is the
harder rival.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, cast

import numpy as np

from fastnn.bench.contenders.base import Call
from fastnn.bench.kernels import DROPPED, PIECES, Kernel
from fastnn.bench.oracle import Arrays

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def constants(x: np.ndarray, *values: float) -> list[Any]:
    """Scalars of the dtype of x, so that nothing is converted at each call."""
    return [x.dtype.type(value) for value in values]


# -- activations, forward ----------------------------------------------------------------------


def relu(x: np.ndarray, **_: Any) -> Call:
    out, (zero,) = np.empty_like(x), constants(x, 0)
    return lambda: (np.maximum(x, zero, out=out),)


def leaky_relu(x: np.ndarray, **_: Any) -> Call:
    out, (slope,) = np.empty_like(x), constants(x, 0.01)
    return lambda: (np.maximum(x, np.multiply(x, slope, out=out), out=out),)


def elu(x: np.ndarray, **_: Any) -> Call:
    """max(x, 0) + exp(min(x, 0)) − 1"""
    out, low = np.empty_like(x), np.empty_like(x)
    zero, one = constants(x, 0, 1)

    def run() -> tuple[np.ndarray]:
        np.minimum(x, zero, out=low)
        np.exp(low, out=low)
        np.subtract(low, one, out=low)
        np.maximum(x, zero, out=out)
        return (np.add(out, low, out=out),)

    return run


def selu(x: np.ndarray, **_: Any) -> Call:
    """scale · (max(x, 0) + alpha · (exp(min(x, 0)) − 1))"""
    out, low = np.empty_like(x), np.empty_like(x)
    zero, one, scale, both = constants(x, 0, 1, SELU_SCALE, SELU_SCALE * SELU_ALPHA)

    def run() -> tuple[np.ndarray]:
        np.minimum(x, zero, out=low)
        np.exp(low, out=low)
        np.subtract(low, one, out=low)
        np.multiply(low, both, out=low)
        np.maximum(x, zero, out=out)
        np.multiply(out, scale, out=out)
        return (np.add(out, low, out=out),)

    return run


def _sigmoid(x: np.ndarray, out: np.ndarray, half: Any) -> np.ndarray:
    """0.5·tanh(x/2) + 0.5 takes fewer passes than 1/(1 + exp(−x)) and cannot overflow."""
    np.multiply(x, half, out=out)
    np.tanh(out, out=out)
    np.multiply(out, half, out=out)
    return np.add(out, half, out=out)


def sigmoid(x: np.ndarray, **_: Any) -> Call:
    out, (half,) = np.empty_like(x), constants(x, 0.5)
    return lambda: (_sigmoid(x, out, half),)


def tanh(x: np.ndarray, **_: Any) -> Call:
    out = np.empty_like(x)
    return lambda: (np.tanh(x, out=out),)


def softplus(x: np.ndarray, **_: Any) -> Call:
    """max(x, 0) + log(1 + exp(−|x|))"""
    out, high = np.empty_like(x), np.empty_like(x)
    zero, one = constants(x, 0, 1)

    def run() -> tuple[np.ndarray]:
        np.abs(x, out=out)
        np.negative(out, out=out)
        np.exp(out, out=out)
        np.add(out, one, out=out)
        np.log(out, out=out)
        return (np.add(out, np.maximum(x, zero, out=high), out=out),)

    return run


def silu(x: np.ndarray, **_: Any) -> Call:
    out, (half,) = np.empty_like(x), constants(x, 0.5)
    return lambda: (np.multiply(_sigmoid(x, out, half), x, out=out),)


def gelu_tanh(x: np.ndarray, **_: Any) -> Call:
    """x/2 · (1 + tanh(c·(x + 0.044715·x³)))"""
    out = np.empty_like(x)
    half, one, c, cubic = constants(x, 0.5, 1, sqrt(2 / pi), sqrt(2 / pi) * 0.044715)

    def run() -> tuple[np.ndarray]:
        np.square(x, out=out)
        np.multiply(out, cubic, out=out)
        np.add(out, c, out=out)
        np.multiply(out, x, out=out)
        np.tanh(out, out=out)
        np.add(out, one, out=out)
        np.multiply(out, x, out=out)
        return (np.multiply(out, half, out=out),)

    return run


def relu6(x: np.ndarray, **_: Any) -> Call:
    return _clip(x, 0, 6)


def hard_tanh(x: np.ndarray, **_: Any) -> Call:
    return _clip(x, -1, 1)


def _clip(x: np.ndarray, low: float, high: float) -> Call:
    """Two passes are faster than np.clip, which checks its arguments in Python."""
    out, (least, most) = np.empty_like(x), constants(x, low, high)
    return lambda: (np.minimum(np.maximum(x, least, out=out), most, out=out),)


def _hard_gate(x: np.ndarray, out: np.ndarray, scalars: list[Any]) -> np.ndarray:
    sixth, half, zero, one = scalars
    np.multiply(x, sixth, out=out)
    np.add(out, half, out=out)
    return np.minimum(np.maximum(out, zero, out=out), one, out=out)


def hard_sigmoid(x: np.ndarray, **_: Any) -> Call:
    out, scalars = np.empty_like(x), constants(x, 1 / 6, 0.5, 0, 1)
    return lambda: (_hard_gate(x, out, scalars),)


def hard_swish(x: np.ndarray, **_: Any) -> Call:
    out, scalars = np.empty_like(x), constants(x, 1 / 6, 0.5, 0, 1)
    return lambda: (np.multiply(_hard_gate(x, out, scalars), x, out=out),)


# -- activations, backward ---------------------------------------------------------------------


def relu_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out = np.empty_like(dy)
    return lambda: (np.multiply(dy, np.sign(y, out=out), out=out),)


def leaky_relu_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, mask = np.empty_like(dy), np.empty(dy.shape, bool)
    zero, slope = constants(dy, 0, 0.01)

    def run() -> tuple[np.ndarray]:
        np.multiply(dy, slope, out=out)
        np.copyto(out, dy, where=np.greater(y, zero, out=mask))
        return (out,)

    return run


def elu_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    """dy · (min(y, 0) + 1)"""
    out, (zero, one) = np.empty_like(dy), constants(dy, 0, 1)

    def run() -> tuple[np.ndarray]:
        np.minimum(y, zero, out=out)
        np.add(out, one, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def selu_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, mask = np.empty_like(dy), np.empty(dy.shape, bool)
    zero, scale, both = constants(dy, 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA)

    def run() -> tuple[np.ndarray]:
        np.add(y, both, out=out)
        np.copyto(out, scale, where=np.greater(y, zero, out=mask))
        return (np.multiply(out, dy, out=out),)

    return run


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, (one,) = np.empty_like(dy), constants(dy, 1)

    def run() -> tuple[np.ndarray]:
        np.subtract(one, y, out=out)
        np.multiply(out, y, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def tanh_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, (one,) = np.empty_like(dy), constants(dy, 1)

    def run() -> tuple[np.ndarray]:
        np.square(y, out=out)
        np.subtract(one, out, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def softplus_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    """dy · (1 − exp(−y))"""
    out, (one,) = np.empty_like(dy), constants(dy, 1)

    def run() -> tuple[np.ndarray]:
        np.negative(y, out=out)
        np.exp(out, out=out)
        np.subtract(one, out, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def silu_backward(dy: np.ndarray, x: np.ndarray, **_: Any) -> Call:
    """dy · s · (1 + x·(1 − s)) with s = sigmoid(x)"""
    out, s = np.empty_like(dy), np.empty_like(dy)
    half, one = constants(dy, 0.5, 1)

    def run() -> tuple[np.ndarray]:
        _sigmoid(x, s, half)
        np.subtract(one, s, out=out)
        np.multiply(out, x, out=out)
        np.add(out, one, out=out)
        np.multiply(out, s, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def gelu_tanh_backward(dy: np.ndarray, x: np.ndarray, **_: Any) -> Call:
    """dy · ((1 + t)/2 + x/2 · (1 − t²) · c·(1 + 3·0.044715·x²)), t the tanh of the forward pass"""
    out, t, square = (np.empty_like(dy) for _ in range(3))
    half, one, c, cubic = constants(dy, 0.5, 1, sqrt(2 / pi), sqrt(2 / pi) * 0.044715)
    (triple,) = constants(dy, 3 * sqrt(2 / pi) * 0.044715)

    def run() -> tuple[np.ndarray]:
        np.square(x, out=square)
        np.multiply(square, cubic, out=t)
        np.add(t, c, out=t)
        np.multiply(t, x, out=t)
        np.tanh(t, out=t)
        np.multiply(square, triple, out=out)
        np.add(out, c, out=out)
        np.multiply(out, x, out=out)
        np.square(t, out=square)
        np.subtract(one, square, out=square)
        np.multiply(out, square, out=out)
        np.add(out, t, out=out)
        np.add(out, one, out=out)
        np.multiply(out, half, out=out)
        return (np.multiply(out, dy, out=out),)

    return run


def _inside(dy: np.ndarray, y: np.ndarray, low: float, high: float, slope: float = 1.0) -> Call:
    """dy · slope where low < y < high, else 0"""
    out, above, below = np.empty_like(dy), np.empty(dy.shape, bool), np.empty(dy.shape, bool)
    least, most, factor = constants(dy, low, high, slope)

    def run() -> tuple[np.ndarray]:
        np.greater(y, least, out=above)
        np.logical_and(above, np.less(y, most, out=below), out=above)
        np.multiply(dy, above, out=out)
        return (out if slope == 1.0 else np.multiply(out, factor, out=out),)

    return run


def relu6_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    return _inside(dy, y, 0, 6)


def hard_tanh_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    return _inside(dy, y, -1, 1)


def hard_sigmoid_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    return _inside(dy, y, 0, 1, 1 / 6)


def hard_swish_backward(dy: np.ndarray, x: np.ndarray, **_: Any) -> Call:
    """dy times 0 below −3, 1 above 3, and (2x + 3)/6 between"""
    out, mask = np.empty_like(dy), np.empty(dy.shape, bool)
    third, half, low, high, zero, one = constants(dy, 1 / 3, 0.5, -3, 3, 0, 1)

    def run() -> tuple[np.ndarray]:
        np.multiply(x, third, out=out)
        np.add(out, half, out=out)
        np.copyto(out, zero, where=np.less_equal(x, low, out=mask))
        np.copyto(out, one, where=np.greater_equal(x, high, out=mask))
        return (np.multiply(out, dy, out=out),)

    return run


# -- by rows -----------------------------------------------------------------------------------


def softmax(x: np.ndarray, **_: Any) -> Call:
    out, row = np.empty_like(x), np.empty((len(x), 1), x.dtype)

    def run() -> tuple[np.ndarray]:
        np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True, out=row), out=out)
        np.exp(out, out=out)
        return (np.divide(out, np.add.reduce(out, axis=1, keepdims=True, out=row), out=out),)

    return run


def log_softmax(x: np.ndarray, **_: Any) -> Call:
    out, exp, row = np.empty_like(x), np.empty_like(x), np.empty((len(x), 1), x.dtype)

    def run() -> tuple[np.ndarray]:
        np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True, out=row), out=out)
        np.add.reduce(np.exp(out, out=exp), axis=1, keepdims=True, out=row)
        return (np.subtract(out, np.log(row, out=row), out=out),)

    return run


def softmax_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, row = np.empty_like(dy), np.empty((len(dy), 1), dy.dtype)

    def run() -> tuple[np.ndarray]:
        np.einsum("nc,nc->n", dy, y, out=row[:, 0])
        np.subtract(dy, row, out=out)
        return (np.multiply(out, y, out=out),)

    return run


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
    out, row = np.empty_like(dy), np.empty((len(dy), 1), dy.dtype)

    def run() -> tuple[np.ndarray]:
        np.exp(y, out=out)
        np.multiply(out, np.add.reduce(dy, axis=1, keepdims=True, out=row), out=out)
        return (np.subtract(dy, out, out=out),)

    return run


def maxout(x: np.ndarray, dy: np.ndarray, **_: Any) -> Call:
    """Of two pieces: the larger one, and whether it is the second."""
    y, which = np.empty_like(dy), np.empty(dy.shape, bool)
    first, second = x[:, ::PIECES], x[:, 1::PIECES]

    def run() -> tuple[np.ndarray, np.ndarray]:
        np.greater(second, first, out=which)
        return np.maximum(first, second, out=y), which

    return run


def maxout_backward(dy: np.ndarray, which: np.ndarray, **_: Any) -> Call:
    out = np.empty((len(dy), PIECES * dy.shape[1]), dy.dtype)
    first, second = out[:, ::PIECES], out[:, 1::PIECES]

    def run() -> tuple[np.ndarray]:
        np.multiply(dy, which, out=second)
        np.subtract(dy, second, out=first)
        return (out,)

    return run


def dropout(x: np.ndarray, **_: Any) -> Call:
    """SFC64 is NumPy's fastest generator; numbers of the dtype of x come straight into an array."""
    out, mask, random = np.empty_like(x), np.empty(x.shape, bool), np.empty_like(x)
    generator = np.random.Generator(np.random.SFC64(0))
    keep, scale = constants(x, 1 - DROPPED, 1 / (1 - DROPPED))

    def run() -> tuple[np.ndarray]:
        generator.random(out=random, dtype=x.dtype.type)
        np.multiply(x, np.less(random, keep, out=mask), out=out)
        return (np.multiply(out, scale, out=out),)

    return run


def dropout_backward(dy: np.ndarray, mask: np.ndarray, **_: Any) -> Call:
    out = np.empty_like(dy)
    return lambda: (np.multiply(dy, mask, out=out),)


# -- losses: the value and the gradient --------------------------------------------------------


def softmax_cross_entropy(x: np.ndarray, labels: np.ndarray, **_: Any) -> Call:
    out, row, rows = np.empty_like(x), np.empty((len(x), 1), x.dtype), np.arange(len(x))
    share = x.dtype.type(1 / len(x))

    def run() -> tuple[float, np.ndarray]:
        np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True, out=row), out=out)
        chosen = out[rows, labels]
        np.exp(out, out=out)
        np.add.reduce(out, axis=1, keepdims=True, out=row)
        loss = float(np.mean(np.log(row[:, 0]) - chosen))
        np.multiply(out, share / row, out=out)
        out[rows, labels] -= share
        return loss, out

    return run


def multiclass_hinge(x: np.ndarray, labels: np.ndarray, **_: Any) -> Call:
    out, violated, rows = np.empty_like(x), np.empty(x.shape, bool), np.arange(len(x))
    zero, one, share = constants(x, 0, 1, 1 / len(x))

    def run() -> tuple[float, np.ndarray]:
        np.subtract(x, x[rows, labels][:, None] - one, out=out)
        np.maximum(out, zero, out=out)
        out[rows, labels] = 0
        loss = float(out.sum(dtype=np.float64)) / len(x)
        np.greater(out, zero, out=violated)
        counts = np.count_nonzero(violated, axis=1)
        np.multiply(violated, share, out=out)
        out[rows, labels] = counts * -share
        return loss, out

    return run


def binary_cross_entropy(x: np.ndarray, target: np.ndarray, **_: Any) -> Call:
    """max(x, 0) − x·t + log(1 + exp(−|x|)), and sigmoid(x) − t"""
    out, each = np.empty_like(x), np.empty_like(x)
    zero, one, half, share = constants(x, 0, 1, 0.5, 1 / x.size)

    def run() -> tuple[float, np.ndarray]:
        np.abs(x, out=each)
        np.negative(each, out=each)
        np.exp(each, out=each)
        np.add(each, one, out=each)
        np.log(each, out=each)
        np.add(each, np.maximum(x, zero, out=out), out=each)
        loss = (float(each.sum()) - float(np.vdot(x, target))) / x.size
        _sigmoid(x, out, half)
        np.subtract(out, target, out=out)
        return loss, np.multiply(out, share, out=out)

    return run


def mean_squared_error(x: np.ndarray, target: np.ndarray, **_: Any) -> Call:
    out, (twice,) = np.empty_like(x), constants(x, 2 / x.size)

    def run() -> tuple[float, np.ndarray]:
        np.subtract(x, target, out=out)
        loss = float(np.vdot(out, out)) / x.size
        return loss, np.multiply(out, twice, out=out)

    return run


def mean_absolute_error(x: np.ndarray, target: np.ndarray, **_: Any) -> Call:
    out, sign, (share,) = np.empty_like(x), np.empty_like(x), constants(x, 1 / x.size)

    def run() -> tuple[float, np.ndarray]:
        np.subtract(x, target, out=out)
        np.sign(out, out=sign)
        loss = float(np.vdot(out, sign)) / x.size
        return loss, np.multiply(sign, share, out=out)

    return run


def huber(x: np.ndarray, target: np.ndarray, **_: Any) -> Call:
    """With e the difference d cut to [−1, 1], the loss of an element is e·(d − e/2)."""
    out, cut = np.empty_like(x), np.empty_like(x)
    low, high, share = constants(x, -1, 1, 1 / x.size)

    def run() -> tuple[float, np.ndarray]:
        np.subtract(x, target, out=out)
        np.minimum(np.maximum(out, low, out=cut), high, out=cut)
        loss = (float(np.vdot(cut, out)) - 0.5 * float(np.vdot(cut, cut))) / x.size
        return loss, np.multiply(cut, share, out=out)

    return run


# -- batch norm --------------------------------------------------------------------------------


def with_channels(task: Kernel, arrays: Arrays) -> Call:
    """Batch norm over all axes but one: (N, H, W, C) is a matrix, (N, C, H, W) is (N, C, H·W)."""
    call = globals()[task.op]
    if len(task.shape) == 2:
        return cast(Call, call(**arrays))
    channels = task.shape[task.axis]
    if task.axis == -1:
        matrices = {n: a.reshape(-1, channels) if a.ndim > 1 else a for n, a in arrays.items()}
        run = call(**matrices)
    else:
        shape = (channels, 1)
        images = {
            n: a.reshape(*a.shape[:2], -1) if a.ndim > 1 else a.reshape(shape)
            for n, a in arrays.items()
        }
        run = call(**images, axes=(0, 2), sums="ncl,ncl->c", shape=shape)
    whole = np.ndarray.reshape

    def reshaped() -> tuple[np.ndarray, ...]:
        result, *sums = run()
        return whole(result, task.shape), *sums

    return reshaped


def batchnorm_forward(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    axes: Any = 0,
    sums: str = "nc,nc->c",
    shape: tuple[int, ...] = (1, -1),
    **_: Any,
) -> Call:
    out = np.empty_like(x)
    n = x.dtype.type(x.size // gamma.size)
    eps = x.dtype.type(1e-5)

    def batchnorm() -> tuple[np.ndarray]:
        np.subtract(x, np.add.reduce(x, axis=axes, keepdims=True) / n, out=out)
        scale = gamma / np.sqrt(np.einsum(sums, out, out).reshape(shape) / n + eps)
        np.multiply(out, scale, out=out)
        return (np.add(out, beta, out=out),)

    return batchnorm


def batchnorm_relu_forward(x: np.ndarray, **arrays: Any) -> Call:
    batchnorm = batchnorm_forward(x, **arrays)
    zero = x.dtype.type(0)

    def batchnorm_relu() -> tuple[np.ndarray]:
        (out,) = batchnorm()
        return (np.maximum(out, zero, out=out),)

    return batchnorm_relu


def batchnorm_backward(
    x: np.ndarray,
    dy: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    axes: Any = 0,
    sums: str = "nc,nc->c",
    shape: tuple[int, ...] = (1, -1),
    **_: Any,
) -> Call:
    out, xhat = np.empty_like(x), np.empty_like(x)
    n = x.dtype.type(x.size // gamma.size)

    def run() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        np.subtract(x, mean, out=xhat)
        np.multiply(xhat, rstd, out=xhat)
        dgamma = np.einsum(sums, dy, xhat)
        dbeta = np.add.reduce(dy, axis=axes)
        np.multiply(xhat, dgamma.reshape(shape) / n, out=xhat)
        np.subtract(dy, xhat, out=out)
        np.subtract(out, dbeta.reshape(shape) / n, out=out)
        return np.multiply(out, gamma * rstd, out=out), dgamma, dbeta

    return run


def batchnorm_relu_backward(dy: np.ndarray, y: np.ndarray, **arrays: Any) -> Call:
    before = np.empty_like(dy)
    batchnorm = batchnorm_backward(dy=before, **arrays)

    def run() -> Any:
        np.multiply(dy, np.sign(y, out=before), out=before)
        return batchnorm()

    return run
