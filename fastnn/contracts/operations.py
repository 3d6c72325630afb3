"""What the operations of a network ask of their arguments: forward beside backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import (
    NEEDS_INPUT,
    Activation,
    Array,
    Parsed,
    check_array,
    check_axis,
    check_fraction,
    check_integer,
    check_not_negative,
    check_out,
    check_overlap,
    check_same,
    check_writable,
    parse_activation,
)


def unary(x: Any, out: Array | None) -> Array:
    """Check an elementwise operation of `x` and return its output; `out` may be `x`."""
    check_array(x, "x")
    if out is None:
        return np.empty(x.shape, x.dtype)
    check_out(out, x.shape, x.dtype)
    if out is not x and np.may_share_memory(out, x):
        check_overlap(out, "out", {"x": x}, {})
    return out


def unary_backward(dy: Any, saved: Any, saved_name: str, dx_out: Array | None) -> Array:
    """Check the backward of an elementwise operation; `dx_out` may be `dy` or the saved array."""
    check_array(dy, "dy")
    check_same(saved, saved_name, dy)
    if dx_out is None:
        return np.empty(dy.shape, dy.dtype)
    check_out(dx_out, dy.shape, dy.dtype, "dx_out")
    if np.may_share_memory(dx_out, dy) or np.may_share_memory(dx_out, saved):
        check_overlap(dx_out, "dx_out", {"dy": dy, saved_name: saved}, {})
    return dx_out


def maxout(
    x: Any, pieces: Any, y_out: Array | None, which_out: Array | None
) -> tuple[int, Array, Array]:
    """Check `maxout`; return pieces, y, which."""
    check_array(x, "x", ndim=2)
    pieces = check_integer(pieces, "pieces", 1, 256)
    if x.shape[1] % pieces:
        raise ValueError(
            f"x has {x.shape[1]} columns, which is no multiple of pieces = {pieces}: "
            "give the pieces of one unit as adjacent columns"
        )
    shape = (x.shape[0], x.shape[1] // pieces)
    y = check_out(y_out, shape, x.dtype, "y_out")
    which = check_out(which_out, shape, np.dtype(np.uint8), "which_out")
    if y_out is not None or which_out is not None:
        check_overlap(y, "y_out", {}, {"x": x, "which_out": which})
        check_overlap(which, "which_out", {}, {"x": x})
    return pieces, y, which


def maxout_backward(dy: Any, which: Any, pieces: Any, dx_out: Array | None) -> tuple[int, Array]:
    """Check `maxout_backward`; return pieces, dx."""
    check_array(dy, "dy", ndim=2)
    check_array(which, "which", dtype=np.dtype(np.uint8), shape=dy.shape)
    pieces = check_integer(pieces, "pieces", 1, 256)
    dx = check_out(dx_out, (dy.shape[0], dy.shape[1] * pieces), dy.dtype, "dx_out")
    if dx_out is not None:
        check_overlap(dx, "dx_out", {}, {"dy": dy, "which": which})
    return pieces, dx


def softmax(x: Any, axis: Any, out: Array | None) -> tuple[int, Array]:
    """Check `softmax` or `log_softmax`; return the axis from the front, and the output."""
    out = unary(x, out)
    if x.ndim == 0:
        raise ValueError("x must have at least 1 axis, got a 0-dimensional array")
    return check_axis(axis, x.ndim), out


def softmax_backward(dy: Any, y: Any, axis: Any, dx_out: Array | None) -> tuple[int, Array]:
    """Check the backward of both; return the axis from the front, and dx."""
    dx = unary_backward(dy, y, "y", dx_out)
    if dy.ndim == 0:
        raise ValueError("dy must have at least 1 axis, got a 0-dimensional array")
    return check_axis(axis, dy.ndim), dx


def dense_forward(
    x: Any, w: Any, b: Any, activation: Activation, out: Array | None
) -> tuple[Parsed, Array]:
    """Check `dense_forward`; return the parsed activation and the output."""
    check_array(x, "x", ndim=2)
    check_array(w, "w", ndim=2, dtype=x.dtype)
    if w.shape[0] != x.shape[1]:
        raise ValueError(
            f"w must have one row for each column of x: x is {x.shape}, w is {w.shape}"
        )
    if b is not None:
        check_array(b, "b", dtype=x.dtype, shape=(w.shape[1],))
    parsed = parse_activation(activation)
    shape = (x.shape[0], w.shape[1])
    if out is None:
        return parsed, np.empty(shape, x.dtype)
    check_out(out, shape, x.dtype)
    check_overlap(out, "out", {}, {"x": x, "w": w, "b": b})
    return parsed, out


def dense_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: Activation,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
    dx_out: Array | None,
    dw_out: Array | None,
    db_out: Array | None,
) -> tuple[Parsed, Array | None, Array | None, Array | None]:
    """Check `dense_backward`; return the parsed activation, dx, dw, db (None: not needed)."""
    check_array(dy, "dy", ndim=2)
    check_array(x, "x", ndim=2, dtype=dy.dtype)
    check_array(w, "w", ndim=2, dtype=dy.dtype)
    if x.shape[0] != dy.shape[0] or w.shape != (x.shape[1], dy.shape[1]):
        raise ValueError(
            "dy (N, H), x (N, D) and w (D, H) do not fit together: "
            f"dy is {dy.shape}, x is {x.shape}, w is {w.shape}"
        )
    parsed = parse_activation(activation)
    name = parsed[0]
    if name is not None:
        if name in NEEDS_INPUT:
            raise ValueError(
                f"{name} is differentiated from its input, which dense_backward does not have: "
                f"call dense_forward without activation, keep its output z, then use "
                f"{name}(z), and {name}_backward(dy, z) before dense_backward"
            )
        if y is None:
            raise ValueError(
                f"activation {name!r} needs the saved output: pass y=, what dense_forward returned"
            )
        check_same(y, "y", dy)
    if dx_out is not None and not need_dx:
        raise ValueError("dx_out is given, but need_dx is False: drop one of them")
    if dw_out is not None and not need_dw:
        raise ValueError("dw_out is given, but need_dw is False: drop one of them")
    if db_out is not None and not need_db:
        raise ValueError("db_out is given, but need_db is False: drop one of them")
    dx = check_out(dx_out, x.shape, dy.dtype, "dx_out") if need_dx else None
    dw = check_out(dw_out, w.shape, dy.dtype, "dw_out") if need_dw else None
    db = check_out(db_out, (w.shape[1],), dy.dtype, "db_out") if need_db else None
    if dx_out is not None or dw_out is not None or db_out is not None:
        apart: dict[str, Any] = {"dy": dy, "x": x, "w": w, "y": y if name is not None else None}
        for out_name, out in (("dx_out", dx), ("dw_out", dw), ("db_out", db)):
            if out is not None:
                check_overlap(out, out_name, {}, apart)
                apart[out_name] = out
    return parsed, dx, dw, db


def _channels(x: Any, axis: Any, training: bool) -> tuple[int, int]:
    """Return the channel axis from the front and the number of channels."""
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 axes, got {x.ndim}: shape {x.shape}")
    axis = check_axis(axis, x.ndim)
    channels = x.shape[axis]
    others = x.size if channels else math.prod(x.shape[:axis] + x.shape[axis + 1 :])
    if training and others < 2 * max(1, channels):
        raise ValueError(
            f"training needs at least 2 values per channel, got shape {x.shape} with channel axis "
            f"{axis}: pass a larger batch, or training=False"
        )
    return axis, channels


def batchnorm_forward(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
    eps: Any,
    activation: Activation,
    axis: Any,
    y_out: Array | None,
    mean_out: Array | None,
    rstd_out: Array | None,
) -> tuple[int, Parsed, Array, Array, Array]:
    """Check `batchnorm_forward`; return axis, parsed activation, y, mean, rstd."""
    check_array(x, "x")
    axis, channels = _channels(x, axis, training)
    shape = (channels,)
    check_array(gamma, "gamma", dtype=x.dtype, shape=shape)
    check_array(beta, "beta", dtype=x.dtype, shape=shape)
    if (running_mean is None) != (running_var is None):
        raise ValueError("give running_mean and running_var together, or neither")
    if running_mean is not None:
        if training:
            check_writable(running_mean, "running_mean", dtype=x.dtype, shape=shape)
            check_writable(running_var, "running_var", dtype=x.dtype, shape=shape)
            inputs = {"x": x, "gamma": gamma, "beta": beta}
            check_overlap(running_mean, "running_mean", {}, {**inputs, "running_var": running_var})
            check_overlap(running_var, "running_var", {}, inputs)
        else:
            check_array(running_mean, "running_mean", dtype=x.dtype, shape=shape)
            check_array(running_var, "running_var", dtype=x.dtype, shape=shape)
    elif not training:
        raise ValueError("training=False normalises with running_mean and running_var: pass both")
    check_fraction(momentum, "momentum", closed=True)
    check_not_negative(eps, "eps")
    parsed = parse_activation(activation)
    y = check_out(y_out, x.shape, x.dtype, "y_out")
    mean = check_out(mean_out, shape, x.dtype, "mean_out")
    rstd = check_out(rstd_out, shape, x.dtype, "rstd_out")
    # Only what was given can overlap anything: comparing two arrays costs a microsecond.
    if y_out is not None or mean_out is not None or rstd_out is not None:
        apart = {
            "gamma": gamma,
            "beta": beta,
            "running_mean": running_mean,
            "running_var": running_var,
            "rstd_out": rstd_out,
        }
        if y_out is not None:
            check_overlap(y, "y_out", {"x": x}, {**apart, "mean_out": mean_out})
        if mean_out is not None:
            check_overlap(mean, "mean_out", {}, {**apart, "x": x})
        if rstd_out is not None:
            check_overlap(rstd, "rstd_out", {}, {**apart, "rstd_out": None, "x": x})
    return axis, parsed, y, mean, rstd


def batchnorm_backward(
    dy: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    rstd: Any,
    beta: Any,
    y: Any,
    training: bool,
    activation: Activation,
    axis: Any,
    dx_out: Array | None,
    dgamma_out: Array | None,
    dbeta_out: Array | None,
) -> tuple[int, Parsed, Array, Array, Array]:
    """Check `batchnorm_backward`; return axis, parsed activation, dx, dgamma, dbeta."""
    check_array(x, "x")
    axis, channels = _channels(x, axis, training)
    shape = (channels,)
    check_same(dy, "dy", x)
    small = {"gamma": gamma, "mean": mean, "rstd": rstd}
    for name, vector in small.items():
        check_array(vector, name, dtype=x.dtype, shape=shape)
    parsed = parse_activation(activation)
    name_ = parsed[0]
    if name_ is not None:
        if name_ in NEEDS_INPUT and beta is None:
            raise ValueError(
                f"{name_} is differentiated from its input, which is recomputed here: pass beta="
            )
        if y is None and beta is None:
            raise ValueError(
                f"activation {name_!r} needs the saved output y= (or beta=, to recompute it)"
            )
        if beta is not None:
            check_array(beta, "beta", dtype=x.dtype, shape=shape)
        if y is not None:
            check_same(y, "y", x)
    dx = check_out(dx_out, x.shape, x.dtype, "dx_out")
    dgamma = check_out(dgamma_out, shape, x.dtype, "dgamma_out")
    dbeta = check_out(dbeta_out, shape, x.dtype, "dbeta_out")
    if dx_out is not None or dgamma_out is not None or dbeta_out is not None:
        large = {"dy": dy, "x": x}
        if name_ is not None:
            large["y"] = y
            small["beta"] = beta
        if dx_out is not None:
            apart = {**small, "dgamma_out": dgamma_out, "dbeta_out": dbeta_out}
            check_overlap(dx, "dx_out", large, apart)
        if dgamma_out is not None:
            check_overlap(dgamma, "dgamma_out", {}, {**small, **large, "dbeta_out": dbeta_out})
        if dbeta_out is not None:
            check_overlap(dbeta, "dbeta_out", {}, {**small, **large})
    return axis, parsed, dx, dgamma, dbeta


def dropout(
    x: Any, x_name: str, p: Any, seed: Any, offset: Any, out: Array | None, out_name: str
) -> tuple[float, int, int, Array]:
    """Check `dropout` or its backward; return p, seed, offset and the output."""
    check_array(x, x_name)
    p = check_fraction(p, "p")
    seed = check_integer(seed, "seed", 0, 2**64 - 1)
    offset = check_integer(offset, "offset", 0, 2**64 - 1)
    checked = check_out(out, x.shape, x.dtype, out_name)
    if out is not None:
        check_overlap(checked, out_name, {x_name: x}, {})
    return p, seed, offset, checked
