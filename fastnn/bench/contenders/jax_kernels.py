"""Single kernels in JAX: each one jitted function of device arrays.

An activation's gradient is spelled from what fastnn saves: its output where that is enough, else
through `jax.vjp` from its input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fastnn.bench.kernels import DROPPED, PIECES, Kernel

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "relu6": jax.nn.relu6,
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_silu,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
}

# dx from dy and the saved output
FROM_OUTPUT: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "relu": lambda dy, y: jnp.where(y > 0, dy, 0),
    "leaky_relu": lambda dy, y: jnp.where(y > 0, dy, 0.01 * dy),
    "elu": lambda dy, y: jnp.where(y > 0, dy, dy * (y + 1)),
    "selu": lambda dy, y: dy * jnp.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "sigmoid": lambda dy, y: dy * y * (1 - y),
    "tanh": lambda dy, y: dy * (1 - y * y),
    "softplus": lambda dy, y: dy * -jnp.expm1(-y),
    "relu6": lambda dy, y: jnp.where((y > 0) & (y < 6), dy, 0),
    "hard_tanh": lambda dy, y: jnp.where((y > -1) & (y < 1), dy, 0),
    "hard_sigmoid": lambda dy, y: jnp.where((y > 0) & (y < 1), dy / 6, 0),
    "softmax": lambda dy, y: y * (dy - (dy * y).sum(axis=1, keepdims=True)),
    "log_softmax": lambda dy, y: dy - jnp.exp(y) * dy.sum(axis=1, keepdims=True),
}


def _maxout(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    pieces = x.reshape(len(x), -1, PIECES)
    return pieces.max(axis=2), pieces.argmax(axis=2).astype(jnp.uint8)


def _maxout_backward(dy: jax.Array, which: jax.Array) -> tuple[jax.Array]:
    chosen = which[:, :, None] == jnp.arange(PIECES, dtype=jnp.uint8)
    return (jnp.where(chosen, dy[:, :, None], 0).reshape(len(dy), -1),)


def _dropout(x: jax.Array, key: jax.Array) -> tuple[jax.Array]:
    kept = jax.random.bernoulli(key, 1 - DROPPED, x.shape)
    return (jnp.where(kept, x / (1 - DROPPED), 0),)


def _cross_entropy(x: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1).mean()


def _hinge(x: jax.Array, labels: jax.Array) -> jax.Array:
    own = jnp.take_along_axis(x, labels[:, None], axis=1)
    return (jnp.maximum(x - own + 1, 0).sum() - len(x)) / len(x)


def _binary(x: jax.Array, target: jax.Array) -> jax.Array:
    return (jnp.maximum(x, 0) - x * target + jnp.log1p(jnp.exp(-jnp.abs(x)))).mean()


def _huber(x: jax.Array, target: jax.Array) -> jax.Array:
    d = x - target
    cut = jnp.clip(d, -1, 1)
    return (cut * (d - 0.5 * cut)).mean()


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "softmax_cross_entropy": _cross_entropy,
    "multiclass_hinge": _hinge,
    "binary_cross_entropy": _binary,
    "mean_squared_error": lambda x, target: jnp.square(x - target).mean(),
    "mean_absolute_error": lambda x, target: jnp.abs(x - target).mean(),
    "huber": _huber,
}


def _batchnorm(task: Kernel, x: jax.Array, gamma: jax.Array, beta: jax.Array) -> tuple[jax.Array]:
    axes, shape = _axes(task)
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    y = (x - mean) * (jax.lax.rsqrt(var + 1e-5) * gamma.reshape(shape)) + beta.reshape(shape)
    return (jax.nn.relu(y) if "relu" in task.op else y,)


def _batchnorm_backward(
    task: Kernel,
    dy: jax.Array,
    x: jax.Array,
    gamma: jax.Array,
    mean: jax.Array,
    rstd: jax.Array,
    y: jax.Array,
) -> tuple[jax.Array, ...]:
    axes, shape = _axes(task)
    if "relu" in task.op:
        dy = jnp.where(y > 0, dy, 0)
    xhat = (x - mean.reshape(shape)) * rstd.reshape(shape)
    dgamma, dbeta = (dy * xhat).sum(axis=axes), dy.sum(axis=axes)
    average = (xhat * dgamma.reshape(shape) + dbeta.reshape(shape)) / (x.size // gamma.size)
    return (dy - average) * (gamma * rstd).reshape(shape), dgamma, dbeta


def _axes(task: Kernel) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that are summed, and the shape of what belongs to a channel."""
    rank, axis = len(task.shape), task.axis % len(task.shape)
    return (
        tuple(i for i in range(rank) if i != axis),
        tuple(n if i == axis else 1 for i, n in enumerate(task.shape)),
    )


def function(task: Kernel) -> tuple[tuple[str, ...], Callable[..., Any]] | None:
    """The names of the operands and the function of them, or None where there is none."""
    name, backward = task.op.removesuffix("_backward"), task.op.endswith("_backward")
    if name.startswith("batchnorm"):
        if backward:
            names = ("dy", "x", "gamma", "mean", "rstd", "y")
            return names, partial(_batchnorm_backward, task)
        return ("x", "gamma", "beta"), partial(_batchnorm, task)
    if name in LOSSES:
        target = "labels" if name in ("softmax_cross_entropy", "multiclass_hinge") else "target"
        return ("x", target), jax.value_and_grad(LOSSES[name])
    if name == "maxout":
        return (("dy", "which"), _maxout_backward) if backward else (("x",), _maxout)
    if name == "dropout":
        if backward:
            return ("dy", "mask"), lambda dy, mask: (dy * mask,)
        return ("x", "key"), _dropout
    if name not in ACTIVATIONS:
        return None
    forward = ACTIVATIONS[name]
    if not backward:
        return ("x",), lambda x: (forward(x),)
    if name in FROM_OUTPUT:
        derive = FROM_OUTPUT[name]
        return ("dy", "y"), lambda dy, y: (derive(dy, y),)
    return ("dy", "x"), lambda dy, x: jax.vjp(forward, x)[1](dy)
