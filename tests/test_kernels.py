"""The compiled modules without contracts: what memory safety depends on they refuse themselves.

Contracts check arguments and explain them; here those of the public operations approve of everything,
and the other entries, which have none, are called directly, with hostile arrays. A
call may give an error, or (where the array is sound after all) an answer; it may never touch memory
that is not part of its arrays. Run under tests/sanitize.sh this is also what AddressSanitizer sees.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastnn import contracts, functional
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
from fastnn._kernels.arguments import Fit, read_heads

Call = tuple[Callable[..., Any], dict[str, Any]]
RELU: Any = ("relu", {})


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
    sums = vectors("mean_out", "rstd_out")
    weights = {"sample_weight": np.abs(matrix(6))}
    both = {**weights, "class_weight": np.abs(matrix(5)), "dlogits_out": y}
    which = np.zeros((6, 5), np.uint8)
    back = {"dy": dy, "x": x, **vectors("gamma", "mean", "rstd", "beta"), "dx_out": y}
    back |= vectors("dgamma_out", "dbeta_out")
    dense_back = {"dy": matrix(6, 7), "x": x, "w": matrix(5, 7), "dx_out": y}
    dense_back |= {"dw_out": matrix(5, 7), "db_out": matrix(7)}
    state = {"w": x, "dw": dy, "lr": 0.1}
    return [
        (activations.relu, dict(x=x, out=y)),
        (activations.elu_backward, dict(dy=dy, y=x, dx_out=y)),
        (activations.gelu_backward, dict(dy=dy, x=x, dx_out=y)),
        (softmax.softmax, dict(x=x, out=y)),
        (softmax.log_softmax, dict(x=x, axis=0, out=y)),
        (softmax.log_softmax_backward, dict(dy=dy, y=x, dx_out=y)),
        (softmax.softmax_backward, dict(dy=dy, y=x, axis=0, dx_out=y)),
        (maxout.maxout, dict(x=matrix(6, 10), pieces=2, y_out=y, which_out=which)),
        (maxout.maxout_backward, dict(dy=dy, which=which, pieces=2, dx_out=matrix(6, 10))),
        (dropout.dropout, dict(x=x, p=0.5, seed=1, out=y)),
        (dropout.dropout_backward, dict(dy=x, p=0.5, seed=1, dx_out=y)),
        (losses.softmax_cross_entropy, dict(logits=x, labels=labels, **both)),
        (losses.softmax_cross_entropy, dict(logits=x, labels=dy, **both)),
        (losses.multiclass_hinge, dict(scores=x, labels=labels, **weights, dscores_out=y)),
        (losses.huber, dict(pred=x, target=dy, **weights, dpred_out=y)),
        (losses.binary_cross_entropy, dict(logits=x, target=dy, **weights, dlogits_out=y)),
        (updates.sgd_update, dict(**state, v=y, momentum=0.9)),
        (updates.adagrad_update, dict(**state, h=np.abs(y))),
        (updates.rmsprop_update, dict(**state, h=np.abs(y), v=matrix(6, 5), momentum=0.9)),
        (updates.adamw_update, dict(**state, m=y, v=np.abs(matrix(6, 5)), step=1)),
        (updates.Rule("momentum", momentum=0.9).apply, dict(w=x, dw=dy, state=[y], lr=0.1)),
        (updates.clip_by_value, dict(dw=y, limit=1.0)),
        (updates.clip_by_global_norm, dict(dw=y, max_norm=1.0)),
        (updates.max_norm, dict(w=y, limit=1.0)),
        (updates.sum_of_squares, dict(w=x)),
        (updates.all_finite, dict(x=x)),
        (batchnorm.batchnorm_forward, dict(x=x, **norm, **running, y_out=y, **sums)),
        (
            batchnorm.batchnorm_forward,
            dict(x=x, **norm, **running, training=False, activation="relu", y_out=y, **sums),
        ),
        (batchnorm.batchnorm_backward, dict(**back, y=matrix(6, 5), activation="relu")),
        (batchnorm.batchnorm_backward, dict(**back, training=False, activation="gelu")),
        (
            batchnorm.reapply,
            dict(x=x, **norm, **vectors("mean", "rstd"), activation=RELU, y=y),
        ),
        (batchnorm.moments, dict(x=x, mean=np.zeros(5), m2=np.zeros(5))),
        (dense.dense_forward, dict(x=x, w=matrix(5, 7), b=matrix(7), out=matrix(6, 7))),
        (dense.dense_backward, dict(**dense_back, y=matrix(6, 7), activation="tanh")),
        (dense.forward, dict(x=x, w=matrix(5, 7), b=matrix(7), activation=RELU, y=matrix(6, 7))),
        (dense.input_gradient, dict(dx=y, dy=matrix(6, 7), w=matrix(5, 7))),
        (dense.weight_gradient, dict(dw=matrix(5, 7), x=x, dy=matrix(6, 7))),
        (dense.bias_gradient, dict(db=matrix(5), dy=x)),
    ]


#: Contracts that approve of everything and return what they were given.
GULLIBLE: dict[str, Callable[..., Any]] = {
    "unary": lambda x, out: out,
    "unary_backward": lambda dy, saved, name, dx: dx,
    "softmax": lambda x, axis, out: (axis % 2, out),
    "softmax_backward": lambda dy, y, axis, dx: (axis % 2, dx),
    "maxout": lambda x, pieces, y, which: (pieces, y, which),
    "maxout_backward": lambda dy, which, pieces, dx: (pieces, dx),
    "dropout": lambda x, name, p, seed, offset, out, out_name: (p, seed, offset, out),
    "dense_forward": lambda x, w, b, activation, out: (None, out),
    "dense_backward": lambda *given: (None, *given[8:]),
    "batchnorm_forward": lambda *given: (given[9], None, *given[10:]),
    "batchnorm_backward": lambda *given: (given[9], None, *given[10:]),
    "classification": lambda x, name, labels, weight, of_class, out, soft=False: (labels, 1.0, out),
    "regression": lambda x, name, target, weight, out: (1.0, out),
    **dict.fromkeys(
        ("sgd_update", "adagrad_update", "rmsprop_update", "adam_update", "clip", "max_norm"),
        lambda *given: None,
    ),
}


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
def test_hostile_arrays(at: int, dtype: Any, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, contract in GULLIBLE.items():
        monkeypatch.setattr(contracts, name, contract)
    function, right = calls(dtype)[at]
    for name, given in right.items():
        if not isinstance(given, np.ndarray):
            continue
        for way, spoil in HOSTILE.items():
            spoiled = spoil(calls(dtype)[at][1][name])
            try:
                function(**{**calls(dtype)[at][1], name: spoiled})
            except (TypeError, ValueError, BufferError):
                continue
            size = getattr(spoiled, "size", -1)
            written = name.endswith("_out") or name in WRITTEN.get(function, ("out",))
            if way == "None":
                assert name in OPTIONAL or name.endswith("out"), f"{name}: None was taken"
            elif (function, name) not in ALONE:
                assert size == given.size, f"{name}: {way} was taken"
                assert way != "read-only" or not written, f"{name}: {way} was taken"


OPTIONAL = ("b", "y", "sample_weight", "class_weight", "beta", "running_mean", "running_var")
#: What each writes, beside outputs.
WRITTEN: dict[Any, tuple[str, ...]] = {
    updates.sgd_update: ("w", "v"),
    updates.adagrad_update: ("w", "h"),
    updates.rmsprop_update: ("w", "h", "v"),
    updates.adamw_update: ("w", "m", "v"),
    updates.clip_by_value: ("dw",),
    updates.clip_by_global_norm: ("dw",),
    updates.max_norm: ("w",),
    batchnorm.reapply: ("y",),
    batchnorm.moments: ("mean", "m2"),
    dense.forward: ("y",),
    dense.input_gradient: ("dx",),
    dense.weight_gradient: ("dw",),
    dense.bias_gradient: ("db",),
}
#: Arrays that no other has to fit.
ALONE = [
    (updates.clip_by_value, "dw"),
    (updates.clip_by_global_norm, "dw"),
    (updates.max_norm, "w"),
    (updates.sum_of_squares, "w"),
    (updates.all_finite, "x"),
    (batchnorm.moments, "x"),
    (dense.bias_gradient, "dy"),
]


def test_all_entries_are_called() -> None:
    """Of the public operations one of those that share a contract; of the others, each."""
    assert set(GULLIBLE) == set(contracts.__all__) - {"update"}
    called = {function for function, _ in calls(np.float32)}
    for module in (activations, batchnorm, dense, dropout, losses, maxout, softmax, updates):
        for name, value in vars(module).items():
            if name.startswith(("_", "add_", "sink")) or not callable(value):
                continue
            if isinstance(value, type) or name in functional.__all__:
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


@pytest.fixture(params=["heads", "buffers"])
def way_in(request: pytest.FixtureRequest) -> Iterator[str]:
    """Arrays read where they lie, as with every NumPy so far, or by the buffer protocol, as with others."""
    assert read_heads(request.param == "heads") == (request.param == "heads")
    yield request.param
    assert read_heads()


def test_fit_gives_outputs_or_leaves_it_to_the_contract(way_in: str) -> None:
    fit = Fit("nd dh h? -> nh")
    x, w, b, y = (np.ones(s, np.float32) for s in ((3, 4), (4, 5), (5,), (3, 5)))
    assert fit.outputs(x, w, b, y) == (y,) and fit.outputs(x, w, None, y)[0] is y
    (fresh,) = fit.outputs(x, w, b, None)
    assert fresh.shape == (3, 5) and fresh.dtype == np.float32
    assert fit.outputs(x[:0], w, b, None)[0].shape == (0, 5)
    for arrays in (
        (x, w[:3], b, y),
        (x, w, b[:4], y),
        (x, w, b, y[:2]),
        (x, w, y, y),
        (x, None, b, y),
        (x.astype(np.float64), w, b, y),
        (x[:, ::2], w[:2], b, y),
        (np.ma.MaskedArray(x), w, b, y),
        (x, w, b, np.broadcast_to(b, (3, 5))),
        (x, w, b, locked(y)),
        (x.astype(x.dtype.newbyteorder()), w, b, y),
        (x, w, unaligned(b), y),
        (x, np.asfortranarray(w), b, y),
        (x, w.T, b, y),
        (x.tolist(), w, b, y),
    ):
        assert fit.outputs(*arrays) is None
    assert fit.outputs(locked(x), w, b, y) == (y,)


def locked(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    return np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)


def test_fit_warns_as_numpy_does_of_writing_to_a_broadcast(way_in: str) -> None:
    out, _ = np.broadcast_arrays(np.ones(1, np.float32), np.ones((1, 1), np.float32))
    with pytest.warns(DeprecationWarning, match="broadcast"):
        functional.relu(np.ones((1, 1), np.float32), out=out)


def test_fit_keeps_no_array_and_holds_each_in_the_call(way_in: str) -> None:
    fit = Fit("nd dh h? -> nh nh")
    x, w, y = (np.ones(s, np.float32) for s in ((3, 4), (4, 5), (3, 5)))
    before = [sys.getrefcount(a) for a in (x, w, y)]
    for _ in range(5):
        fit.outputs(x, w, None, y, None)
        fit.outputs(x, w, x, y, None)
        functional.dense_forward(x, w, out=y)
    assert [sys.getrefcount(a) for a in (x, w, y)] == before


def test_fit_has_room_for_so_many_words_and_letters() -> None:
    for signature, what in (
        ("a " * 11, "10 words"),
        ("abcde -> a", "4 axes"),
        ("abcd efg -> ab", "6 letters"),
    ):
        with pytest.raises(ValueError, match=what):
            Fit(signature)


def test_fit_knows_what_may_overlap(way_in: str) -> None:
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


def test_fit_knows_types_multiples_and_axes(way_in: str) -> None:
    x, which = np.ones((3, 8), np.float32), np.zeros((3, 4), np.uint8)
    narrow, same = Fit("nh# -> nh nh:uint8").outputs(x, None, which, number=2)
    assert narrow.shape == (3, 4) and same is which
    assert Fit("nh# -> nh nh:uint8").outputs(x, None, None, number=3) is None
    assert Fit("nh# -> nh nh:uint8").outputs(x, None, which.view(np.int8), number=2) is None
    assert Fit("nh -> nh#").outputs(x, None, number=2)[0].shape == (3, 16)
    assert Fit("nh n:int64 ->").outputs(x, np.arange(3)) == ()
    assert Fit("nh n:int64 ->").outputs(x, np.arange(3, dtype=np.int32)) is None
    image = np.ones((2, 5, 4), np.float32)
    for axis, length in ((0, 2), (1, 5), (-1, 4), (-3, 2)):
        y, mean = Fit("*c c -> *= c").outputs(
            image, image[0, 0, :1].repeat(length), None, None, number=axis
        )
        assert y.shape == image.shape and mean.shape == (length,)
    for axis in (3, -4):
        assert Fit("*c -> *=").outputs(image, None, number=axis) is None
    assert Fit("nc -> nc c").outputs(x, False, None) is None
    with pytest.raises(ValueError, match="at most"):
        Fit("a b c d e f g h i j k ->")
