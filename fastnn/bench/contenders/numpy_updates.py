"""Updates and clipping in the best form that NumPy has: in place, with scratch arrays kept."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from fastnn.bench.contenders.base import Call
from fastnn.bench.updates import CLIPS, STEP, UPDATES


def call(op: str, arrays: dict[str, np.ndarray]) -> Call:
    """The call that is timed, on copies of the operands."""
    own = {name: a.copy() for name, a in arrays.items()}
    if op in CLIPS:
        return _CLIPS[op](own["dw"], CLIPS[op])
    names, settings = UPDATES[op]
    function, w, dw, state = _UPDATES[op], own["w"], own["dw"], [own[name] for name in names]
    # Scalars of the dtype of w, so that nothing is converted at each call.
    scalars = {name: w.dtype.type(value) for name, value in settings.items()}
    scratch = np.empty_like(w), np.empty_like(w)

    def run() -> tuple[np.ndarray, ...]:
        function(w, dw, *state, *scratch, **scalars)
        return w, *state

    return run


def _sgd(w: Any, dw: Any, v: Any, s: Any, _: Any, lr: Any, momentum: Any) -> None:
    np.multiply(v, momentum, out=v)
    np.add(v, dw, out=v)
    np.multiply(v, lr, out=s)
    np.subtract(w, s, out=w)


def _adagrad(w: Any, dw: Any, h: Any, s: Any, t: Any, lr: Any, eps: Any) -> None:
    np.square(dw, out=s)
    np.add(h, s, out=h)
    _divided(w, dw, h, s, t, lr, eps)


def _rmsprop(w: Any, dw: Any, h: Any, s: Any, t: Any, lr: Any, rho: Any, eps: Any) -> None:
    np.square(dw, out=s)
    np.multiply(s, 1 - rho, out=s)
    np.multiply(h, rho, out=h)
    np.add(h, s, out=h)
    _divided(w, dw, h, s, t, lr, eps)


def _divided(w: Any, g: Any, h: Any, s: Any, t: Any, lr: Any, eps: Any) -> None:
    """w −= lr · g / (sqrt(h) + eps)"""
    np.sqrt(h, out=s)
    np.add(s, eps, out=s)
    np.divide(g, s, out=t)
    np.multiply(t, lr, out=t)
    np.subtract(w, t, out=w)


def _adam(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    s: Any,
    t: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any = None,
) -> None:
    if weight_decay is not None:
        np.multiply(w, 1 - lr * weight_decay, out=w)
    np.multiply(m, beta1, out=m)
    np.multiply(dw, 1 - beta1, out=s)
    np.add(m, s, out=m)
    np.multiply(v, beta2, out=v)
    np.square(dw, out=s)
    np.multiply(s, 1 - beta2, out=s)
    np.add(v, s, out=v)
    # Both corrections are scalars: sqrt(v) is compared with eps in units of theirs.
    second = v.dtype.type(sqrt(1 - float(beta2) ** STEP))
    rate = v.dtype.type(float(lr) * float(second) / (1 - float(beta1) ** STEP))
    _divided(w, m, v, s, t, rate, eps * second)


def _clip_by_value(dw: np.ndarray, limit: float) -> Call:
    low, high = dw.dtype.type(-limit), dw.dtype.type(limit)
    return lambda: (np.minimum(np.maximum(dw, low, out=dw), high, out=dw),)


def _clip_by_global_norm(dw: np.ndarray, limit: float) -> Call:
    flat = dw.ravel()

    def run() -> tuple[float, np.ndarray]:
        norm = sqrt(np.dot(flat, flat))
        if norm > limit:
            np.multiply(dw, dw.dtype.type(limit / norm), out=dw)
        return norm, dw

    return run


_UPDATES: dict[str, Callable[..., None]] = {
    "sgd_update": _sgd,
    "adagrad_update": _adagrad,
    "rmsprop_update": _rmsprop,
    "adam_update": _adam,
    "adamw_update": _adam,
}
_CLIPS = {"clip_by_value": _clip_by_value, "clip_by_global_norm": _clip_by_global_norm}
