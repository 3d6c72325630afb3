"""Parameter updates in place: the compiled side of `fastnn.reference.updates`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import updates as kernels
from fastnn._kernels.updates import Rule
from fastnn.checks import Array
from fastnn.functional._twins import documented


@documented
def sgd_update(
    w: Array,
    dw: Array,
    v: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    lr, momentum, weight_decay = contracts.sgd_update(
        w, dw, v, lr, momentum, nesterov, weight_decay
    )
    if v is None or not momentum:
        Rule("sgd").apply(w, dw, (), lr, 1, weight_decay)
    else:
        rule = Rule("nesterov" if nesterov else "momentum", momentum)
        rule.apply(w, dw, (v,), lr, 1, weight_decay)


@documented
def adagrad_update(
    w: Array, dw: Array, h: Array, *, lr: float, eps: float = 1e-10, weight_decay: float = 0.0
) -> None:
    lr, eps, weight_decay = contracts.adagrad_update(w, dw, h, lr, eps, weight_decay)
    Rule("adagrad", eps=eps).apply(w, dw, (h,), lr, 1, weight_decay)


@documented
def rmsprop_update(
    w: Array,
    dw: Array,
    h: Array,
    v: Array | None = None,
    *,
    lr: float,
    rho: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    lr, rho, eps, momentum, weight_decay = contracts.rmsprop_update(
        w, dw, h, v, lr, rho, eps, momentum, weight_decay
    )
    if v is None or not momentum:
        Rule("rmsprop", 0.0, rho, eps).apply(w, dw, (h,), lr, 1, weight_decay)
    else:
        rule = Rule("rmsprop_momentum", momentum, rho, eps)
        rule.apply(w, dw, (h, v), lr, 1, weight_decay)


@documented
def adam_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    step, lr, beta1, beta2, eps, weight_decay = contracts.adam_update(
        w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay
    )
    Rule("adam", beta1, beta2, eps).apply(w, dw, (m, v), lr, step, weight_decay)


@documented
def adamw_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    step, lr, beta1, beta2, eps, weight_decay = contracts.adam_update(
        w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay
    )
    rule = Rule("adam", beta1, beta2, eps, decoupled=True)
    rule.apply(w, dw, (m, v), lr, step, weight_decay)


@documented
def clip_by_value(dw: Array, limit: float) -> None:
    kernels.clip_by_value(dw, contracts.clip(dw, limit, "limit"))


@documented
def max_norm(w: Array, limit: float) -> None:
    kernels.max_norm(w, contracts.max_norm(w, limit))


@documented
def clip_by_global_norm(dw: Array, max_norm: float) -> float:
    return kernels.clip_by_global_norm(dw, contracts.clip(dw, max_norm, "max_norm"))
