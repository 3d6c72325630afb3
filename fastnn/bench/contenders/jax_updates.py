"""Updates and clipping in JAX: jitted functions that are given their state back (donated)."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastnn.bench.contenders.base import Call
from fastnn.bench.updates import CLIPS, STEP, UPDATES

State = tuple[jax.Array, ...]


def call(op: str, arrays: dict[str, np.ndarray]) -> Call:
    """The call that is timed, on copies of the operands."""
    dw = jnp.array(arrays["dw"])
    if op in CLIPS:
        return _clip(op, dw)
    names, settings = UPDATES[op]
    function = _UPDATES[op]
    step = jax.jit(lambda state, dw: function(*state, dw, **settings), donate_argnums=0)
    state: State = tuple(jnp.array(arrays[name]) for name in ("w", *names))

    def run() -> State:
        nonlocal state
        state = jax.block_until_ready(step(state, dw))
        return state

    return run


def _sgd(w: Any, v: Any, dw: Any, lr: float, momentum: float) -> State:
    v = momentum * v + dw
    return w - lr * v, v


def _adagrad(w: Any, h: Any, dw: Any, lr: float, eps: float) -> State:
    h = h + dw * dw
    return w - lr * dw / (jnp.sqrt(h) + eps), h


def _rmsprop(w: Any, h: Any, dw: Any, lr: float, rho: float, eps: float) -> State:
    h = rho * h + (1 - rho) * dw * dw
    return w - lr * dw / (jnp.sqrt(h) + eps), h


def _adam(
    w: Any,
    m: Any,
    v: Any,
    dw: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> State:
    m, v = beta1 * m + (1 - beta1) * dw, beta2 * v + (1 - beta2) * dw * dw
    second = sqrt(1 - beta2**STEP)
    rate = lr * second / (1 - beta1**STEP)
    return w * (1 - lr * weight_decay) - rate * m / (jnp.sqrt(v) + eps * second), m, v


_UPDATES: dict[str, Callable[..., State]] = {
    "sgd_update": _sgd,
    "adagrad_update": _adagrad,
    "rmsprop_update": _rmsprop,
    "adam_update": _adam,
    "adamw_update": _adam,
}


def _clip(op: str, dw: jax.Array) -> Call:
    limit = CLIPS[op]

    def by_value(g: jax.Array) -> State:
        return (jnp.clip(g, -limit, limit),)

    def by_global_norm(g: jax.Array) -> State:
        norm = jnp.sqrt(jnp.vdot(g, g))
        return norm, g * jnp.minimum(1.0, limit / norm).astype(g.dtype)

    clip = jax.jit(by_value if op == "clip_by_value" else by_global_norm, donate_argnums=0)

    def run() -> Any:
        nonlocal dw
        result = jax.block_until_ready(clip(dw))
        dw = result[-1]
        return result

    return run
