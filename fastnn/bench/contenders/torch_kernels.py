"""Single kernels in PyTorch: the operators behind `torch.nn.functional`, with `out` where they take
it, and without recording anything for autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastnn.bench import updates
from fastnn.bench.contenders import torch_updates
from fastnn.bench.contenders.base import Call
from fastnn.bench.kernels import DROPPED, PIECES, Kernel

aten = torch.ops.aten
Tensors = dict[str, torch.Tensor]

# The operators with out=, and their other arguments after x.
FORWARD: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "relu": (torch.clamp_min, (0,)),
    "leaky_relu": (aten.leaky_relu.out, (0.01,)),
    "elu": (aten.elu.out, (1.0,)),
    "selu": (aten.elu.out, (1.6732632423543772, 1.0507009873554805)),
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "softplus": (aten.softplus.out, ()),
    "silu": (aten.silu.out, ()),
    "gelu": (aten.gelu.out, ()),
    "relu6": (aten.hardtanh.out, (0.0, 6.0)),
    "hard_tanh": (aten.hardtanh.out, (-1.0, 1.0)),
    "hard_sigmoid": (aten.hardsigmoid.out, ()),
    "hard_swish": (aten.hardswish.out, ()),
    "softmax": (aten._softmax.out, (1, False)),
    "log_softmax": (aten._log_softmax.out, (1, False)),
}

# The operator, the name of its out, what it reads beside dy, and its other arguments.
BACKWARD: dict[str, tuple[Callable[..., Any], str, str, tuple[Any, ...]]] = {
    "relu": (aten.threshold_backward.grad_input, "grad_input", "y", (0,)),
    "leaky_relu": (aten.leaky_relu_backward.grad_input, "grad_input", "y", (0.01, True)),
    "sigmoid": (aten.sigmoid_backward.grad_input, "grad_input", "y", ()),
    "tanh": (aten.tanh_backward.grad_input, "grad_input", "y", ()),
    "softplus": (aten.softplus_backward.grad_input, "grad_input", "x", (1.0, 20.0)),
    "silu": (aten.silu_backward.grad_input, "grad_input", "x", ()),
    "gelu": (aten.gelu_backward.grad_input, "grad_input", "x", ()),
    "relu6": (aten.hardtanh_backward.grad_input, "grad_input", "x", (0.0, 6.0)),
    "hard_tanh": (aten.hardtanh_backward.grad_input, "grad_input", "x", (-1.0, 1.0)),
    "hard_sigmoid": (aten.hardsigmoid_backward.grad_input, "grad_input", "x", ()),
    "hard_swish": (aten.hardswish_backward.out, "out", "x", ()),
}
ELU = {"elu": (1.0, 1.0), "selu": (1.6732632423543772, 1.0507009873554805)}  # alpha, scale


def call(task: Kernel, tensors: Tensors, compiled: bool = False) -> Call:
    """The call that is timed, or with `compiled` the one to be compiled."""
    if task.op in updates.NAMES:
        return torch_updates.call(task.op, tensors, compiled)
    name, backward = task.op.removesuffix("_backward"), task.op.endswith("_backward")
    x = tensors["x"]
    out = torch.empty_like(x)
    if name.startswith("batchnorm"):
        return _batchnorm(task, tensors)
    if name == "dropout":
        if backward:
            dy, mask = tensors["dy"], tensors["mask"]
            return lambda: (torch.mul(dy, mask, out=out),)
        return lambda: aten.native_dropout(x, DROPPED, True)[:1]
    if name in LOSSES:
        loss: Call = LOSSES[name](x, tensors.get("labels", tensors.get("target")), out)
        return loss
    if name == "maxout":
        return _maxout_backward(**tensors) if backward else _maxout(x, tensors["dy"])
    if not backward:
        if name == "gelu_tanh":
            return lambda: (aten.gelu.out(x, approximate="tanh", out=out),)
        function, rest = FORWARD[name]
        return lambda: (function(x, *rest, out=out),)
    dy = tensors["dy"]
    if name == "gelu_tanh":
        gelu = aten.gelu_backward.grad_input
        return lambda: (gelu(dy, x, approximate="tanh", grad_input=out),)
    if name in ELU:
        alpha, scale = ELU[name]
        elu, y = aten.elu_backward.grad_input, tensors["y"]
        return lambda: (elu(dy, alpha, scale, 1.0, True, y, grad_input=out),)
    if name in ("softmax", "log_softmax"):
        function = getattr(aten, f"_{name}_backward_data").out
        keyword = {"grad_input" if name == "softmax" else "out": out}
        y = tensors["y"]
        return lambda: (function(dy, y, 1, y.dtype, **keyword),)
    function, keyword_name, saved_name, rest = BACKWARD[name]
    saved, keywords = tensors[saved_name], {keyword_name: out}
    return lambda: (function(dy, saved, *rest, **keywords),)


def _maxout(x: torch.Tensor, like: torch.Tensor) -> Call:
    pieces = x.view(len(x), -1, PIECES)
    out = torch.empty_like(like), torch.empty(like.shape, dtype=torch.int64)
    return lambda: tuple(torch.max(pieces, 2, out=out))


def _maxout_backward(dy: torch.Tensor, which: torch.Tensor, **_: torch.Tensor) -> Call:
    dx = torch.empty(*dy.shape, PIECES, dtype=dy.dtype)
    index, values = which.to(torch.int64)[:, :, None], dy[:, :, None]
    return lambda: (dx.zero_().scatter_(2, index, values).view(len(dy), -1),)


# -- losses: the value and the gradient --------------------------------------------------------


def _cross_entropy(x: torch.Tensor, labels: torch.Tensor, out: torch.Tensor) -> Call:
    logarithms, chosen = torch.empty_like(x), torch.empty_like(x)
    one = torch.ones((), dtype=x.dtype)

    def run() -> tuple[Any, torch.Tensor]:
        aten._log_softmax.out(x, 1, False, out=logarithms)
        loss, weight = aten.nll_loss_forward(logarithms, labels, None, 1, -100)
        aten.nll_loss_backward.grad_input(
            one, logarithms, labels, None, 1, -100, weight, grad_input=chosen
        )
        return loss, aten._log_softmax_backward_data.out(chosen, logarithms, 1, x.dtype, out=out)

    return run


def _hinge(x: torch.Tensor, labels: torch.Tensor, out: torch.Tensor) -> Call:
    """PyTorch divides by the number of classes."""
    classes = x.shape[1]
    upstream = torch.full((), float(classes), dtype=x.dtype)
    forward, backward = aten.multi_margin_loss, aten.multi_margin_loss_backward.grad_input

    def run() -> tuple[Any, torch.Tensor]:
        loss = forward(x, labels) * classes
        return loss, backward(upstream, x, labels, 1, 1.0, grad_input=out)

    return run


def _binary(x: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> Call:
    def run() -> tuple[Any, torch.Tensor]:
        loss = aten.binary_cross_entropy_with_logits(x, target)
        torch.sigmoid(x, out=out)
        return loss, out.sub_(target).mul_(1 / x.numel())

    return run


def _regression(forward: Any, backward: Any, *rest: float) -> Callable[..., Call]:
    def make(x: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> Call:
        one = torch.ones((), dtype=x.dtype)
        return lambda: (
            forward(x, target, 1, *rest),
            backward(one, x, target, 1, *rest, grad_input=out),
        )

    return make


def _absolute(x: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> Call:
    def run() -> tuple[Any, torch.Tensor]:
        torch.sub(x, target, out=out)
        loss = out.abs().mean()
        return loss, out.sign_().mul_(1 / x.numel())

    return run


def _huber(x: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> Call:
    one = torch.ones((), dtype=x.dtype)
    backward = aten.huber_loss_backward.out
    return lambda: (
        aten.huber_loss(x, target, 1, 1.0),
        backward(one, x, target, 1, 1.0, grad_input=out),
    )


LOSSES: dict[str, Callable[..., Call]] = {
    "softmax_cross_entropy": _cross_entropy,
    "multiclass_hinge": _hinge,
    "binary_cross_entropy": _binary,
    "mean_squared_error": _regression(aten.mse_loss, aten.mse_loss_backward.grad_input),
    "mean_absolute_error": _absolute,
    "huber": _huber,
}


# -- batch norm --------------------------------------------------------------------------------


def _batchnorm(task: Kernel, tensors: Tensors) -> Call:
    def channels_second(name: str) -> torch.Tensor:
        """As PyTorch wants it: of (N, H, W, C) a view, which it knows as channels_last."""
        t = tensors[name]
        return t.permute(0, 3, 1, 2) if t.ndim == 4 and task.axis == -1 else t

    def back(t: torch.Tensor) -> torch.Tensor:
        return t.permute(0, 2, 3, 1) if t.ndim == 4 and task.axis == -1 else t

    x, gamma = channels_second("x"), tensors["gamma"]
    out, mean, rstd = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    relu = "relu" in task.op
    if task.op.endswith("_forward"):
        forward, beta = aten.native_batch_norm.out, tensors["beta"]
        saved = {"out": out, "save_mean": mean, "save_invstd": rstd}
        if relu:
            return lambda: (
                back(torch.relu_(forward(x, gamma, beta, None, None, True, 0.1, 1e-5, **saved)[0])),
            )
        return lambda: (back(forward(x, gamma, beta, None, None, True, 0.1, 1e-5, **saved)[0]),)
    dy, y = channels_second("dy"), channels_second("y")
    outs = {"out0": out, "out1": mean, "out2": rstd}
    backward, needed = aten.native_batch_norm_backward.out, [True, True, True]
    mean, rstd = tensors["mean"], tensors["rstd"]
    before, threshold = torch.empty_like(dy), aten.threshold_backward.grad_input

    def run() -> tuple[torch.Tensor, ...]:
        upstream = threshold(dy, y, 0, grad_input=before) if relu else dy
        dx, dgamma, dbeta = backward(
            upstream, x, gamma, None, None, mean, rstd, True, 1e-5, needed, **outs
        )
        return back(dx), dgamma, dbeta

    return run
