"""Updates and clipping in PyTorch: the fused kernels behind `torch.optim`, or plain operations in
place where there is none, and for torch.compile, which fuses them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from fastnn.bench.contenders.base import Call
from fastnn.bench.updates import CLIPS, STEP, UPDATES

aten = torch.ops.aten


def call(op: str, tensors: dict[str, Tensor], compiled: bool) -> Call:
    """The call that is timed, on copies of the operands."""
    own = {name: t.clone() for name, t in tensors.items()}
    if op in CLIPS:
        return _CLIPS[op](own["dw"], CLIPS[op])
    names, settings = UPDATES[op]
    w, dw, state = own["w"], own["dw"], [own[name] for name in names]
    fused = op in _FUSED and hasattr(aten, _FUSED[op][0]) and not compiled
    function = _fused(op) if fused else _PLAIN[op]

    def run() -> tuple[Tensor, ...]:
        function(w, dw, *state, **settings)
        return w, *state

    return run


# What the fused kernel of an update is called, and what it takes beside our settings.
_NEVER = {"weight_decay": 0.0, "maximize": False}
_FUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd_update": (
        "_fused_sgd_",
        {**_NEVER, "dampening": 0.0, "nesterov": False, "is_first_step": False},
    ),
    "adagrad_update": ("_fused_adagrad_", {**_NEVER, "lr_decay": 0.0}),
    "adam_update": ("_fused_adam_", {**_NEVER, "amsgrad": False}),
    "adamw_update": ("_fused_adamw_", {**_NEVER, "amsgrad": False}),
}


def _fused(op: str) -> Callable[..., Any]:
    name, fixed = _FUSED[op]
    kernel = getattr(aten, name).default
    if op == "sgd_update":
        return lambda w, dw, v, **settings: kernel([w], [dw], [v], **{**fixed, **settings})
    step = [torch.tensor(float(STEP))]
    if op == "adagrad_update":
        return lambda w, dw, h, **settings: kernel([w], [dw], [h], step, **{**fixed, **settings})
    return lambda w, dw, m, v, **settings: kernel(
        [w], [dw], [m], [v], [], step, **{**fixed, **settings}
    )


def _sgd(w: Tensor, dw: Tensor, v: Tensor, lr: float, momentum: float) -> None:
    v.mul_(momentum).add_(dw)
    w.add_(v, alpha=-lr)


def _adagrad(w: Tensor, dw: Tensor, h: Tensor, lr: float, eps: float) -> None:
    h.addcmul_(dw, dw)
    w.addcdiv_(dw, h.sqrt().add_(eps), value=-lr)


def _rmsprop(w: Tensor, dw: Tensor, h: Tensor, lr: float, rho: float, eps: float) -> None:
    h.mul_(rho).addcmul_(dw, dw, value=1 - rho)
    w.addcdiv_(dw, h.sqrt().add_(eps), value=-lr)


def _adam(
    w: Tensor,
    dw: Tensor,
    m: Tensor,
    v: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    if weight_decay:
        w.mul_(1 - lr * weight_decay)
    m.lerp_(dw, 1 - beta1)
    v.mul_(beta2).addcmul_(dw, dw, value=1 - beta2)
    second = sqrt(1 - beta2**STEP)
    w.addcdiv_(m, v.sqrt().add_(eps * second), value=-lr * second / (1 - beta1**STEP))


def _clip_by_value(dw: Tensor, limit: float) -> Call:
    return lambda: (dw.clamp_(-limit, limit),)


def _clip_by_global_norm(dw: Tensor, limit: float) -> Call:
    """As `torch.nn.utils.clip_grad_norm_` does: it multiplies by at most 1, without a branch."""

    def run() -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(dw)
        return norm, dw.mul_((limit / norm).clamp_(max=1.0))

    return run


_PLAIN: dict[str, Callable[..., None]] = {
    "sgd_update": _sgd,
    "adagrad_update": _adagrad,
    "rmsprop_update": _rmsprop,
    "adam_update": _adam,
    "adamw_update": _adam,
}
_CLIPS = {"clip_by_value": _clip_by_value, "clip_by_global_norm": _clip_by_global_norm}
