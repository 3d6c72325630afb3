"""The compiled modules called directly: what memory safety depends on they refuse themselves.

`fastnn.functional` checks arguments and explains them; these entries take hostile arrays without it. A
call may give an error, or (where the array is sound after all) an answer; it may never touch memory
that is not part of its arrays. Run under tests/sanitize.sh this is also what AddressSanitizer sees.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn._kernels import (
    activations,
    batchnorm,
    dense,
    dropout,
    losses,
    maxout,
    program,
    softmax,
    updates,
)  # fmt: skip
from fastnn._kernels.arrays import Fit

Call = tuple[Callable[..., Any], dict[str, Any]]
NONE: Any = (None, {})
RELU: Any = ("relu", {})
GELU: Any = ("gelu", {"approximate": "none"})


def contract(*arguments: Any) -> Any:
    raise ValueError("the contract was asked")


def calls(dtype: Any) -> list[Call]:
    """Every function that takes arrays, with arguments that are right."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def vectors(*names: str) -> dict[str, Any]:
        return {name: np.abs(matrix(5)) + 0.5 for name in names}

    x, y, dy = matrix(6, 5), matrix(6, 5), matrix(6, 5)
    labels = np.arange(6) % 5
    norm = vectors("gamma", "beta")
    running = vectors("running_mean", "running_var")
    saved = vectors("mean", "rstd")
    out = {"y": y, **saved}
    numbers = {"training": True, "momentum": 0.1, "eps": 1e-5}
    weights = {"weights": matrix(6), "class_weights": np.abs(matrix(5))}
    scaled = {"scale": 1.0, "gradient": y}
    which = np.zeros((6, 5), np.uint8)
    gradients = {"dx": y, **vectors("dgamma", "dbeta")}
    back = {"dy": dy, "x": x, **vectors("gamma"), **saved, **vectors("beta"), **gradients}
    return [
        (activations.forward, dict(activation=RELU, x=x, out=y, contract=contract)),
        (activations.backward, dict(activation=GELU, dy=dy, saved=x, dx=y, contract=contract)),
        (softmax.forward, dict(x=x, logarithm=False, out=y)),
        (softmax.backward, dict(dy=dy, y=x, logarithm=True, dx=y)),
        (maxout.forward, dict(x=matrix(6, 10), pieces=2, y=y, which=which)),
        (maxout.backward, dict(dy=dy, which=which, pieces=2, dx=matrix(6, 10))),
        (dropout.dropout, dict(x=x, p=0.5, seed=1, offset=0, out=y)),
        (
            losses.softmax_cross_entropy,
            dict(logits=x, labels=labels, target=None, **weights, smoothing=0.1, **scaled),
        ),
        (
            losses.softmax_cross_entropy,
            dict(logits=x, labels=None, target=dy, **weights, smoothing=0.0, **scaled),
        ),
        (
            losses.multiclass_hinge,
            dict(scores=x, labels=labels, weights=matrix(6), margin=1.0, **scaled),
        ),
        *(
            (
                losses.elementwise,
                dict(name=name, x=x, target=dy, weights=matrix(6), delta=1.0, **scaled),
            )
            for name in losses.NAMES
        ),
        (updates.Rule("momentum", momentum=0.9).apply, dict(w=x, dw=dy, state=[y], lr=0.1)),
        (updates.clip_by_value, dict(dw=y, limit=1.0)),
        (updates.clip_by_global_norm, dict(dw=y, max_norm=1.0)),
        (updates.max_norm, dict(w=y, limit=1.0)),
        (updates.sum_of_squares, dict(w=x)),
        (updates.all_finite, dict(x=x)),
        (
            batchnorm.forward,
            dict(x=x, **norm, **running, **numbers, activation=RELU, **out),
        ),
        (
            batchnorm.forward,
            dict(x=x, **norm, **running, **{**numbers, "training": False}, activation=NONE, **out),
        ),
        (batchnorm.reapply, dict(x=x, **norm, **saved, activation=RELU, y=y)),
        (batchnorm.backward, dict(**back, saved=matrix(6, 5), training=True, activation=RELU)),
        (batchnorm.backward, dict(**back, saved=None, training=False, activation=GELU)),
        (dense.forward, dict(x=x, w=matrix(5, 7), b=matrix(7), activation=RELU, y=matrix(6, 7))),
        (dense.input_gradient, dict(dx=y, dy=matrix(6, 7), w=matrix(5, 7))),
        (dense.weight_gradient, dict(dw=matrix(5, 7), x=x, dy=matrix(6, 7))),
        (dense.bias_gradient, dict(db=matrix(5), dy=x)),
    ]


def bound(call: Call) -> list[Any]:
    """The arguments in the order of the signature."""
    function, given = call
    return [given[name] for name in inspect.signature(function).parameters if name in given]


def behind_a_gap(x: np.ndarray, step: int) -> np.ndarray:
    """The same numbers with `step` times the distance along the last axis."""
    wide = np.zeros((*x.shape[:-1], x.shape[-1] * abs(step)), x.dtype)
    view = wide[..., ::step]
    view[...] = x
    return view


def unaligned(x: np.ndarray) -> np.ndarray:
    block = np.zeros(x.nbytes + 1, np.uint8)
    return block[1:].view(x.dtype).reshape(x.shape)


HOSTILE: dict[str, Callable[[np.ndarray], Any]] = {
    "None": lambda x: None,
    "nothing": lambda x: x[:0],
    "no columns": lambda x: x[..., :0],
    "one row": lambda x: x[:1],
    "one column": lambda x: x[..., :1].copy(),
    "a row less": lambda x: x[1:],
    "a row more": lambda x: np.concatenate([x, x[:1]]),
    "a gap": lambda x: behind_a_gap(x, 2),
    "one row, a gap": lambda x: behind_a_gap(x[:1], 2),
    "backwards": lambda x: behind_a_gap(x, -1),
    "one row, backwards": lambda x: behind_a_gap(x[:1], -1),
    "rows backwards": lambda x: x[::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "Fortran": np.asfortranarray,
    "unaligned": unaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "half": lambda x: x.astype(np.float16),
    "other float": lambda x: x.astype(np.float32 if x.dtype != np.float32 else np.float64),
    "small integers": lambda x: x.astype(np.int8),
    "complex": lambda x: x.astype(np.complex128),
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "bytes": lambda x: x.tobytes(),
    "scalar": lambda x: x.reshape(-1)[0],
    "no axes": lambda x: np.array(x.reshape(-1)[0]),
    "three axes": lambda x: x[None, None],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "far labels": lambda x: x + 1000 if x.dtype.kind == "i" else x,
    "negative labels": lambda x: x - 1 if x.dtype.kind == "i" else x,
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at", range(len(calls(np.float32))))
def test_hostile_arrays(at: int, dtype: Any, isa: str) -> None:
    function, _ = calls(dtype)[at]
    names = [name for name in inspect.signature(function).parameters if name in calls(dtype)[at][1]]
    for i, name in enumerate(names):
        if not isinstance(bound(calls(dtype)[at])[i], np.ndarray):
            continue
        for way, spoil in HOSTILE.items():
            arguments = bound(calls(dtype)[at])
            arguments[i] = spoil(arguments[i])
            try:
                function(*arguments)
            except (TypeError, ValueError, BufferError):
                continue
            given = bound(calls(dtype)[at])[i]
            size = getattr(arguments[i], "size", -1)
            if way == "bytes" and given.itemsize == 1:  # as good as an array of them, to read from
                size = len(arguments[i])
            optional = way == "None" and name in OPTIONAL
            made = way == "None" and "contract" in names  # an output that is not given
            alone = len([a for a in bound(calls(dtype)[at]) if isinstance(a, np.ndarray)]) == 1
            written = name in WRITTEN.get(function, ())
            sound = size == given.size and not (way == "read-only" and written)
            alone = alone or (function, name) == (dense.bias_gradient, "dy")  # any number of rows
            assert optional or made or sound or alone, f"{name}: {way} was taken"


OPTIONAL = ("b", "weights", "class_weights", "beta", "saved")
#: What each writes.
WRITTEN: dict[Any, tuple[str, ...]] = {
    activations.forward: ("out",),
    activations.backward: ("dx",),
    softmax.forward: ("out",),
    softmax.backward: ("dx",),
    maxout.forward: ("y", "which"),
    maxout.backward: ("dx",),
    dropout.dropout: ("out",),
    losses.softmax_cross_entropy: ("gradient",),
    losses.multiclass_hinge: ("gradient",),
    losses.elementwise: ("gradient",),
    updates.clip_by_value: ("dw",),
    updates.clip_by_global_norm: ("dw",),
    updates.max_norm: ("w",),
    batchnorm.forward: ("y", "mean", "rstd"),
    batchnorm.reapply: ("y",),
    batchnorm.backward: ("dx", "dgamma", "dbeta"),
    dense.forward: ("y",),
    dense.input_gradient: ("dx",),
    dense.weight_gradient: ("dw",),
    dense.bias_gradient: ("db",),
}


def test_all_entries_are_called() -> None:
    called = {function for function, _ in calls(np.float32)}
    for module in (activations, batchnorm, dense, dropout, losses, maxout, softmax, updates):
        for name, value in vars(module).items():
            if (
                name.startswith(("_", "add_", "sink"))
                or not callable(value)
                or isinstance(value, type)
            ):
                continue
            takes = set(inspect.signature(value).parameters)
            if takes & {"x", "w", "dy", "dw", "logits", "scores"}:
                assert value in called, f"{module.__name__}.{name}"


# --- programs ----------------------------------------------------------------------------------


def small_program() -> program.Program:
    p = program.Program(4, 2)
    x, targets = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    program.add_gather(p, x, targets)
    return p


X, TARGETS = np.zeros((10, 3), np.float32), np.zeros(10, np.int64)
ORDER, RATES = np.arange(10), np.full(5, 0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        (X[:, :2].copy(), TARGETS, ORDER, 0, 5, RATES),
        (np.zeros((10, 4), np.float32), TARGETS, ORDER, 0, 5, RATES),
        (X.astype(np.float64), TARGETS, ORDER, 0, 5, RATES),
        (X[:9], TARGETS, ORDER, 0, 5, RATES),
        (None, TARGETS, ORDER, 0, 5, RATES),
        (X, TARGETS.astype(np.int32), ORDER, 0, 5, RATES),
        (X, np.zeros((10, 2), np.int64), ORDER, 0, 5, RATES),
        (X, None, ORDER, 0, 5, RATES),
        (X, TARGETS, ORDER + 1, 0, 5, RATES),
        (X, TARGETS, ORDER - 1, 0, 5, RATES),
        (X, TARGETS, ORDER.astype(np.int32), 0, 5, RATES),
        (X, TARGETS, None, 0, 5, RATES),
        (X, TARGETS, ORDER, 1, 5, RATES),
        (X, TARGETS, ORDER, -1, 5, RATES),
        (X, TARGETS, ORDER, 0, 2**62, RATES),
        (X, TARGETS, ORDER, 2**62, 2**62, RATES),
        (X, TARGETS, ORDER, 0, 0, RATES),
        (X, TARGETS, ORDER, 0, 5, RATES[:4]),
        (X, TARGETS, ORDER, 0, 5, np.zeros(5, np.int64)),
        (X, TARGETS, ORDER, 0, 5, None),
    ],
)
def test_hostile_runs_of_a_program(arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)):
        small_program().run(*arguments)
    assert small_program().run(X, TARGETS, ORDER, 0, 5, RATES)[0] == 5


# --- Fit ---------------------------------------------------------------------------------------


def test_fit_gives_outputs_or_leaves_it_to_the_contract() -> None:
    fit = Fit("nd dh h? -> nh")
    x, w, b, y = (np.ones(s, np.float32) for s in ((3, 4), (4, 5), (5,), (3, 5)))
    assert fit.outputs(x, w, b, y) == (y,) and fit.outputs(x, w, None, y)[0] is y
    (fresh,) = fit.outputs(x, w, b, None)
    assert fresh.shape == (3, 5) and fresh.dtype == np.float32
    for arrays in (
        (x, w[:3], b, y),
        (x, w, b[:4], y),
        (x, w, b, y[:2]),
        (x, w, y, y),
        (x, None, b, y),
        (x.astype(np.float64), w, b, y),
        (x[:, ::2], w[:2], b, y),
        (x[:0], w, b, y[:0]),
        (np.ma.MaskedArray(x), w, b, y),
        (x, w, b, np.broadcast_to(b, (3, 5))),
    ):
        assert fit.outputs(*arrays) is None


def test_fit_knows_what_may_overlap() -> None:
    block = np.ones(40, np.float32)
    x, shifted, small = block[:12].reshape(3, 4), block[2:14].reshape(3, 4), block[:4]
    assert Fit("nc -> nc=").outputs(x, x) == (x,)
    assert Fit("nc -> nc").outputs(x, x) is None
    assert Fit("nc -> nc=").outputs(x, shifted) is None
    assert Fit("nc c -> nc=").outputs(block[12:24].reshape(3, 4), small, x) is None
    assert Fit("nc -> nc= nc=").outputs(x, shifted + 0, x) is not None
    other = np.ones((3, 4), np.float32)
    assert Fit("nc -> nc= nc=").outputs(x, other, other) is None
    assert Fit("* *! ->").outputs(x, other) == () and Fit("* *! ->").outputs(x, x) is None
    with pytest.raises(TypeError, match="2 arrays"):
        Fit("nc -> nc").outputs(x)
