"""The matrix of odd cases: the reference's answer or the reference's error, and never a crash.

Every operation, bare and (where it can be) fused with ReLU and with an activation that needs its
input, is called with each of its arguments spoiled in turn, with each kind of bad output, with no or one
entry along each axis, and with NaN, infinities, -0 and subnormals among its numbers. What
`fastnn.reference` makes of it is what `fastnn.functional` must make of it: the same type of error, whose
message names the argument, or the same values. `test_guard_pages.py` sees that nothing is touched
beyond an array, `test_kernels.py` that the kernels themselves refuse what would let them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES, DTYPES, Case, arrays, copies

from fastnn import checks, functional, reference


def _chosen() -> list[Case]:
    """Of each operation, rank, axis and set of arrays, bare and fused: the last case, with most to say."""
    chosen: dict[tuple[Any, ...], Case] = {}
    for case in CASES:
        a = case.example(case.shapes[-1], np.float64)
        activation, labels = a.get("activation"), a.get("labels")
        if activation in (None, "relu", "gelu") and hasattr(functional, case.name):
            rank, soft = len(case.shapes[-1]), None if labels is None else labels.ndim
            given = tuple(name for name, _ in arrays(a))
            key = case.name, rank, soft, activation, a.get("training"), a.get("axis"), given
            chosen[key] = case
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
    "False": lambda x: False,
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
    single = any(getattr(theirs, "dtype", None) == np.float32 for theirs in twins[1])
    size = 1e-5 if single else 1e-9
    for mine, theirs in zip(ours[1], twins[1], strict=True):
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


@each_case
def test_overlapping_changes(case: Case) -> None:
    """An array that is changed in place over one that is read, or over another that is changed."""
    a = example(case)
    for name in case.mutated:
        if a.get(name) is None or a.get("training") is False:  # then it is not changed
            continue
        for other, array in arrays(a):
            for shift in (0, 1) if other != name else ():
                pair = []
                for module in (functional, reference):
                    fresh = copies(a)
                    fresh[other], fresh[name] = overlapping(array, a[name], shift)
                    pair.append(outcome(module, case, fresh))
                where = f"{name} over {other}, shifted by {shift}"
                assert pair[0] == pair[1], where
                assert pair[0][0] is ValueError and "overlap" in pair[0][1], where


# --- shapes and numbers ------------------------------------------------------------------------


def thin(case: Case) -> list[tuple[int, ...]]:
    """A shape of the case with no, or one, entry along each axis in turn."""
    shape = next(s for s in case.shapes if s and min(s) >= 2)
    return [(*shape[:i], n, *shape[i + 1 :]) for i in range(len(shape)) for n in (0, 1)]


@each_case
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_empty_and_single_axes(case: Case, dtype: Any, isa: str) -> None:
    for shape in thin(case):
        try:
            a, again = case.example(shape, dtype), case.example(shape, dtype)
        except ValueError:  # the forward whose results this takes refuses it
            continue
        ours, twins = outcome(functional, case, a), outcome(reference, case, again)
        try:
            assert_same_outcome(ours, twins)
        except AssertionError as error:
            raise AssertionError(f"{isa}, {shape}: {error}") from None


def sprinkled(x: np.ndarray, value: float, rng: np.random.Generator) -> np.ndarray:
    """x with the value in some places, the first and the last among them."""
    x = x.copy()
    flat = x.reshape(-1)
    flat[[0, -1, *rng.integers(0, x.size, 3)]] = value
    return x


#: By name, in the float type of the array.
ODD_NUMBERS: dict[str, Callable[[Any], float]] = {
    "NaN": lambda info: math.nan,
    "infinity": lambda info: math.inf,
    "minus infinity": lambda info: -math.inf,
    "minus zero": lambda info: -0.0,
    "subnormal": lambda info: float(3 * info.smallest_subnormal),
}


def no_output(case: Case, name: str, value: float) -> bool:
    """Whether this cannot be: -infinity as the output of an activation that is never below 0, or an infinite
    probability (of which the loss is infinite or NaN, as the order of sums and products has it)."""
    if name == "labels":
        return math.isinf(value)
    return name == "y" and value == -math.inf and case.name.endswith("_backward")


def sound_channels(case: Case, results: list[Any], kept: Any) -> list[Any]:
    """Of a batch norm only the channels without odd numbers: in the others it is NaN or infinite either way.

    Which of the two depends on the order of sums and products, which the reference does not fix.
    """
    if not case.name.startswith("batchnorm") or kept is None:
        return results
    axis, sound = kept
    return [np.take(r, np.flatnonzero(sound), axis if r.ndim > 1 else 0) for r in results]


def channels(case: Case, a: dict[str, Any], name: str) -> Any:
    """The channel axis of a batch norm, and which channels of an argument are finite."""
    if not case.name.startswith("batchnorm"):
        return None
    x, axis = a[name], a.get("axis", 1)
    finite = np.isfinite(x)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return axis, finite.all(axis=others) if x.ndim > 1 else finite


@each_case
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_odd_numbers(case: Case, dtype: Any, isa: str) -> None:
    rng = np.random.default_rng(0)
    shape = next(s for s in case.shapes if s and min(s) >= 2)
    for name, array in arrays(case.example(shape, dtype)):
        if array.dtype.kind != "f":
            continue
        for what, number in ODD_NUMBERS.items():
            value = number(np.finfo(dtype))
            if no_output(case, name, value):
                continue
            a = case.example(shape, dtype)
            a[name] = sprinkled(array, value, rng)
            again, kept = copies(a), channels(case, a, name)
            with np.errstate(all="ignore"):
                ours, twins = outcome(functional, case, a), outcome(reference, case, again)
            if ours[0] is None is twins[0]:
                ours, twins = ((None, sound_channels(case, o[1], kept)) for o in (ours, twins))
            try:
                assert_same_outcome(ours, twins)
            except AssertionError as error:
                raise AssertionError(f"{isa}, {what} in {name}: {error}") from None


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
        (lambda f: f.elu(X, 1e39), ValueError, r"alpha must be .* at most 3\.4e\+38.* got 1e\+39"),
        (lambda f: f.leaky_relu(X, 0), ValueError, "negative_slope must be greater than 0"),
        (
            lambda f: f.dense_forward(X, X.T.copy(), activation=("elu", {"alpha": np.inf})),
            ValueError,
            "alpha must be greater than 0 and at most",
        ),
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
            lambda f: f.softmax_cross_entropy(X, np.eye(3, 4, dtype=int)),
            TypeError,
            r"got int64: pass labels\.argmax\(axis=1\) if they are one-hot",
        ),
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
