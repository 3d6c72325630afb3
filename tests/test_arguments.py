"""Odd arguments: the reference's answer or the reference's error, and never a crash.

Every operation, bare and (where it can be) fused with ReLU and with an activation that needs its
input, is called with each of its arguments spoiled in turn, and with each kind of bad output.
What `fastnn.reference` makes of it is what `fastnn.functional` must make of it: the same type of
error, whose message names the argument, or the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, arrays, copies

from fastnn import checks, functional, reference


def _chosen() -> list[Case]:
    """Of each operation and rank, bare and fused: the last case, which has the most to say."""
    chosen: dict[tuple[Any, ...], Case] = {}
    for case in CASES:
        a = case.example(case.shapes[-1], np.float64)
        activation, labels = a.get("activation"), a.get("labels")
        if activation in (None, "relu", "gelu") and hasattr(functional, case.name):
            rank, soft = len(case.shapes[-1]), None if labels is None else labels.ndim
            chosen[case.name, rank, soft, activation, a.get("training")] = case
    return list(chosen.values())


PRESENT = _chosen()
each_case = pytest.mark.parametrize("case", PRESENT, ids=str)


def unaligned(x: np.ndarray) -> np.ndarray:
    block = np.empty(x.nbytes + 1, np.uint8)
    shifted = block[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return shifted


def masked(x: np.ndarray) -> Any:
    return np.ma.MaskedArray(x, mask=False)


#: Ways to spoil an array. Some leave some arrays sound (a vector is contiguous in either order):
#: then both must give the answer.
SPOILED: dict[str, Callable[[np.ndarray], Any]] = {
    "not contiguous": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": unaligned,
    "other float": lambda x: x.astype(np.float32),
    "half": lambda x: x.astype(np.float16),
    "integer": lambda x: x.astype(np.int64),
    "small integer": lambda x: x.astype(np.int8),
    "bool": lambda x: x.astype(bool),
    "complex": lambda x: x.astype(np.complex128),
    "object": lambda x: x.astype(object),
    "list": lambda x: x.tolist(),
    "masked": masked,
    "None": lambda x: None,
    "one axis more": lambda x: x[None],
    "one row more": lambda x: np.concatenate([x, x[:1]]),
    "empty": lambda x: x[:0],
    "too few axes": lambda x: x.reshape(-1) if x.ndim > 1 else x.sum(),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}

SPOILED_NUMBERS: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    1.5,
    257,
    2**70,
    math.nan,
    math.inf,
    -0.1,
    "nonsense",
    ("relu", {"slope": 1.0}),
    ("leaky_relu", {"negative_slope": -1.0}),
    ("relu",),
    3 + 4j,
    np.float32(0.5),
    np.array([0.5, 0.5]),
)


def outcome(module: Any, case: Case, a: dict[str, Any], **outs: Any) -> tuple[Any, Any]:
    """The error, or the results and what has become of the arrays that the case changes."""
    try:
        returned = case.call(module, a, **outs)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return None, [r for r in (*returned, *(a.get(name) for name in case.mutated)) if r is not None]


def assert_same_outcome(ours: tuple[Any, Any], twins: tuple[Any, Any]) -> None:
    assert ours[0] == twins[0], f"expected {twins}, got {ours}"
    if ours[0] is not None:
        assert ours[1] == twins[1]
        return
    for mine, theirs in zip(ours[1], twins[1], strict=True):
        size = 1e-5 if getattr(theirs, "dtype", None) == np.float32 else 1e-9
        np.testing.assert_allclose(mine, theirs, rtol=size, atol=size)


def example(case: Case) -> dict[str, Any]:
    shape = next(s for s in case.shapes if s and min(s) >= 2)
    return case.example(shape, np.float64)


@each_case
def test_spoiled_arrays(case: Case) -> None:
    for name, array in arrays(example(case)):
        for way, spoil in SPOILED.items():
            a, again = example(case), example(case)
            a[name], again[name] = spoil(array.copy()), spoil(array.copy())
            kept = copies(a)
            ours, twins = outcome(functional, case, a), outcome(reference, case, again)
            try:
                assert_same_outcome(ours, twins)
            except AssertionError as error:
                raise AssertionError(f"{name}, {way}: {error}") from None
            if ours[0] is not None:
                assert name in ours[1] or any(other in ours[1] for other, _ in arrays(a))
                for key, value in arrays(kept):
                    if value.dtype != object:
                        np.testing.assert_array_equal(a[key], value)


@each_case
def test_spoiled_settings(case: Case) -> None:
    for name, given in example(case).items():
        if isinstance(given, np.ndarray):
            continue
        for value in SPOILED_NUMBERS:
            a, again = example(case), example(case)
            a[name] = again[name] = value
            try:
                with np.errstate(all="ignore"):
                    ours, twins = outcome(functional, case, a), outcome(reference, case, again)
                assert_same_outcome(ours, twins)
            except AssertionError as error:
                raise AssertionError(f"{name} = {value!r}: {error}") from None


@each_case
def test_bad_outputs(case: Case) -> None:
    a = example(case)
    results = [r for r in case.call(reference, copies(a)) if isinstance(r, np.ndarray)]
    for out_name, result in zip(case.outs, results, strict=True):
        for way, spoil in SPOILED.items():
            if way == "None":
                continue
            bad = spoil(np.zeros_like(result))
            expected = outcome(reference, case, copies(a), **{out_name: bad})
            got = outcome(functional, case, copies(a), **{out_name: bad})
            try:
                assert got[0] == expected[0], f"expected {expected}, got {got}"
                assert got[0] is not None or way in ("Fortran order", "negative strides", "other")
                if got[0] is not None:
                    assert got[1] == expected[1] and out_name in got[1]
            except AssertionError as error:
                if not (got[0] is None and bad.flags.carray and bad.dtype == result.dtype):
                    raise AssertionError(f"{out_name}, {way}: {error}") from None


@each_case
def test_overlapping_outputs(case: Case) -> None:
    """An output over an input: exactly, in part, and over another output."""
    a = example(case)
    results = [r for r in case.call(reference, copies(a)) if isinstance(r, np.ndarray)]
    for index, (out_name, result) in enumerate(zip(case.outs, results, strict=True)):
        for name, array in arrays(a):
            for shift in (0, 1):
                pair = []
                for module in (functional, reference):
                    fresh = copies(a)
                    fresh[name], out = overlapping(array, result, shift)
                    pair.append(outcome(module, case, fresh, **{out_name: out}))
                try:
                    assert_same_outcome(*pair)
                except AssertionError as error:
                    where = f"{out_name} over {name}, shifted by {shift}"
                    raise AssertionError(f"{where}: {error}") from None
        for other_name, other in list(zip(case.outs, results, strict=True))[index + 1 :]:
            if other.shape == result.shape and other.dtype == result.dtype:
                shared = np.empty_like(result)
                with pytest.raises(ValueError, match="overlap"):
                    case.call(functional, copies(a), **{out_name: shared, other_name: shared})


def overlapping(x: np.ndarray, like: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of x, and an output like `like`, `shift` items further on in the same memory."""
    items = max(x.nbytes, like.nbytes) + 2 * shift * max(x.itemsize, like.itemsize)
    block = np.zeros(items, np.uint8)
    moved = block[: x.nbytes].view(x.dtype).reshape(x.shape)
    moved[...] = x
    start = shift * like.itemsize
    return moved, block[start : start + like.nbytes].view(like.dtype).reshape(like.shape)


# --- what the errors say -----------------------------------------------------------------------

X = np.ones((3, 4))


@pytest.mark.parametrize("module", [reference, functional], ids=["reference", "functional"])
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda f: f.relu([1.0]), TypeError, "x must be a NumPy array, got list"),
        (lambda f: f.relu(X.astype(int)), TypeError, r"got int64: convert it with x\.astype\("),
        (lambda f: f.relu(X.astype(">f8")), TypeError, "byte order of this machine, got '>f8'"),
        (lambda f: f.relu(X[:, ::2]), ValueError, r"C-contiguous.*pass np\.ascontiguousarray\(x\)"),
        (lambda f: f.relu(unaligned(X)), ValueError, r"aligned.*pass x\.copy\(\)"),
        (lambda f: f.relu(X, out=X[:2]), ValueError, r"out must have the shape \(3, 4\), got"),
        (lambda f: f.dense_forward(X, X), ValueError, r"x is \(3, 4\), w is \(3, 4\)"),
        (
            lambda f: f.dense_forward(X, X.T.copy(), activation="rleu"),
            ValueError,
            "unknown activation 'rleu'; known are relu",
        ),
        (
            lambda f: f.dense_backward(np.ones((3, 3)), X, np.ones((4, 3)), activation="gelu"),
            ValueError,
            "gelu is differentiated from its input",
        ),
        (
            lambda f: f.batchnorm_forward(X[:1], np.ones(4), np.ones(4)),
            ValueError,
            "at least 2 values per channel",
        ),
        (
            lambda f: f.batchnorm_forward(X, np.ones(4), np.ones(4), training=False),
            ValueError,
            "pass both",
        ),
        (
            lambda f: f.softmax_cross_entropy(X, np.array([0, 4, 1])),
            ValueError,
            r"\[0, 3\] for 4 classes, got 4 in row 1",
        ),
        (lambda f: f.softmax_cross_entropy(X, [0, 1, 1]), TypeError, "labels must be an array"),
        (
            lambda f: f.sgd_update(np.ones(3), np.ones(3), lr=0.1, momentum=0.9),
            ValueError,
            "needs the state v",
        ),
    ],
)
def test_messages(module: Any, call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call(module)


@pytest.mark.parametrize(
    ("spec", "name", "parameters"),
    [
        (None, None, {}),
        ("relu", "relu", {}),
        ("elu", "elu", {"alpha": 1.0}),
        (("leaky_relu", {"negative_slope": 0.2}), "leaky_relu", {"negative_slope": 0.2}),
        (["leaky_relu", {}], "leaky_relu", {"negative_slope": 0.01}),
    ],
)
def test_activation_specifications(spec: Any, name: Any, parameters: dict[str, Any]) -> None:
    assert checks.parse_activation(spec) == (name, parameters)
