"""Every kernel against its NumPy twin: values, bits, outputs, special values.

Each test goes through every instruction set of the machine. What `fastnn.functional` does not have
yet is left out of the comparisons; `test_it_has_*` says what has to be there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    CASES,
    DTYPES,
    Activation,
    Case,
    arrays,
    assert_close,
    copies,
    normal,
    widened,
)

import fastnn
from fastnn import functional, reference
from fastnn._kernels import machine

PRESENT = [case for case in CASES if hasattr(functional, case.name)]
NAMES = sorted({case.name for case in PRESENT})

each_case = pytest.mark.parametrize("case", PRESENT, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def every_isa() -> Iterator[str]:
    """Each instruction set in turn; what was chosen before comes back."""
    before = machine.isa()
    try:
        for isa in fastnn.available_isas():
            machine.use_isa(isa)
            yield isa
    finally:
        machine.use_isa(before)


def assert_same_bits(results: list[Any], expected: list[Any], what: str) -> None:
    for result, other in zip(results, expected, strict=True):
        assert np.asarray(result).tobytes() == np.asarray(other).tobytes(), what


# --- what is there -----------------------------------------------------------------------------


def test_it_has_what_issue_2_asks_for() -> None:
    assert {
        "relu",
        "relu_backward",
        "softmax",
        "softmax_backward",
        "log_softmax",
        "log_softmax_backward",
        "dense_forward",
        "dense_backward",
        "batchnorm_forward",
        "batchnorm_backward",
        "softmax_cross_entropy",
        "sgd_update",
    } <= set(NAMES)


def test_every_public_operation_has_a_twin() -> None:
    assert set(functional.__all__) <= set(reference.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_identical(name: str) -> None:
    def shape(function: Any) -> list[tuple[Any, ...]]:
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert shape(getattr(functional, name)) == shape(getattr(reference, name))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(functional, name))


# --- values ------------------------------------------------------------------------------------


@each_dtype
@each_case
def test_it_equals_its_twin(case: Case, dtype: Any) -> None:
    for shape in case.shapes:
        a = case.example(shape, dtype)
        truth = case.results(reference, widened(a))
        for isa in every_isa():
            try:
                assert_close(case, case.results(functional, a), truth, a, dtype)
            except AssertionError as error:
                raise AssertionError(f"{isa}, example shape {shape}: {error}") from None


@each_dtype
@each_case
def test_same_bits_for_any_number_of_threads(case: Case, dtype: Any, thread_count: None) -> None:
    rows, *rest = max(case.shapes, key=lambda shape: int(np.prod(shape)))
    a = case.example((4 * rows, *rest), dtype)
    for isa in every_isa():
        machine.set_num_threads(1)
        alone = case.results(functional, a)
        for threads in (2, 3, 4, 8):
            machine.set_num_threads(threads)
            what = f"{isa}: {threads} threads give other bits than 1"
            assert_same_bits(case.results(functional, a), alone, what)


@each_case
def test_same_bits_from_call_to_call(case: Case) -> None:
    """Whatever memory was left from the call before, and wherever the arrays lie."""
    for shape in case.shapes[-2:]:
        a = case.example(shape, np.float32)
        expected = case.results(functional, a)
        for shift in (1, 3, 8):
            moved = {
                k: moved_by(shift, v) if isinstance(v, np.ndarray) else v for k, v in a.items()
            }
            assert_same_bits(case.results(functional, moved), expected, f"shifted by {shift} items")


def moved_by(items: int, x: np.ndarray) -> np.ndarray:
    """The same array, starting so many items after an aligned address."""
    block = np.empty(x.size + items, x.dtype)
    moved = block[items:].reshape(x.shape)
    moved[...] = x
    return moved


# --- outputs -----------------------------------------------------------------------------------

RED = 64  # items before and after an output that must stay as they are


def red_zoned(like: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array inside a larger one filled with a pattern, and the larger one's bytes."""
    block = np.full((like.size + 2 * RED) * like.itemsize, 0xA5, np.uint8)
    inside = block.view(like.dtype)[RED : RED + like.size].reshape(like.shape)
    return inside, block


def assert_red_zones_untouched(block: np.ndarray, like: np.ndarray) -> None:
    edge = RED * like.itemsize
    assert (block[:edge] == 0xA5).all(), "something was written before the output"
    assert (block[block.size - edge :] == 0xA5).all(), "something was written after the output"


@each_dtype
@each_case
def test_out_is_returned_and_nothing_beside_it_is_written(case: Case, dtype: Any) -> None:
    for shape in case.shapes:
        a = case.example(shape, dtype)
        for isa in every_isa():
            expected = [r for r in case.call(functional, copies(a)) if isinstance(r, np.ndarray)]
            assert len(expected) == len(case.outs)
            zones = [red_zoned(array) for array in expected]
            given = {name: zone[0] for name, zone in zip(case.outs, zones, strict=True)}
            returned = case.call(functional, copies(a), **given)
            got = [r for r in returned if isinstance(r, np.ndarray)]
            for result, out in zip(got, given.values(), strict=True):
                assert result is out
            assert_same_bits(got, expected, f"{isa}, {shape}: out= gives other bits")
            for (_, block), array in zip(zones, expected, strict=True):
                assert_red_zones_untouched(block, array)


@each_case
def test_what_it_changes_in_place_stays_inside_its_array(case: Case) -> None:
    for shape in case.shapes:
        a = case.example(shape, np.float32)
        for isa in every_isa():
            fresh, blocks = copies(a), {}
            for name in case.mutated:
                fresh[name], blocks[name] = red_zoned(a[name])
                fresh[name][...] = a[name]
            case.call(functional, fresh)
            for name, block in blocks.items():
                assert_red_zones_untouched(block, a[name])
            del isa


@each_case
def test_inputs_are_only_read(case: Case) -> None:
    """They may be read-only (a memory-mapped file), and are not written in any case."""
    a = case.example(case.shapes[-1], np.float64)
    for name, array in arrays(a):
        array.flags.writeable = name in case.mutated
    before = {name: array.copy() for name, array in arrays(a) if name not in case.mutated}
    for isa in every_isa():
        case.call(functional, a)
        for name, array in before.items():
            np.testing.assert_array_equal(a[name], array, err_msg=f"{isa}: {name} was written")


def test_memory_mapped_input(tmp_path: Any) -> None:
    x = normal(np.random.default_rng(0), (50, 30), np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(functional.relu(mapped), functional.relu(x))


@each_dtype
def test_a_mask_has_the_bits_of_its_twin(dtype: Any) -> None:
    """On every instruction set, wherever the elements are cut, and with counters beyond 32 bits."""
    rng = np.random.default_rng(0)
    seeds = [(0.5, 1, 0), (0.75, 2, 1), (1 / 256, 3, 7), (1e-10, 4, 8)]
    seeds += [(0.3, 2**64 - 1, 2**64 - 1), (0.9, 2**40 + 5, 2**33)]
    for size in (1, 5, 127, 1025, 70_001):
        x = normal(rng, (size,), dtype)
        for p, seed, offset in seeds:
            expected = reference.dropout(x, p, seed, offset)
            for isa in every_isa():
                y = functional.dropout(x, p, seed, offset)
                assert_same_bits([y], [expected], f"{isa}: {size} elements, p = {p}")
    assert abs(np.mean(expected == 0) - 0.9) < 0.01


@each_dtype
def test_a_dropped_element_is_zero_whatever_it_was(dtype: Any) -> None:
    x = np.resize(np.array([np.nan, np.inf, -np.inf, -1.0], dtype), 1000)
    dropped = reference.dropout(np.ones(1000, dtype), 0.5, 3) == 0
    for isa in every_isa():
        y = functional.dropout(x, 0.5, 3)
        assert (y[dropped] == 0).all() and not np.signbit(y[dropped]).any(), isa
        np.testing.assert_array_equal(y[~dropped], 2 * x[~dropped], err_msg=isa)


@each_dtype
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 7, 8, 9, 256])
def test_maxout_of_ties_and_special_values(pieces: int, dtype: Any) -> None:
    """The first of equal pieces, the first NaN before everything: exactly what the twin says."""
    rng = np.random.default_rng(pieces)
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, np.finfo(dtype).tiny], dtype)
    for units in (1, 2, 15, 33):
        for choice in (values, values[1:], values[5:7], values[2:3]):
            x = rng.choice(choice, (9, units * pieces))
            y, which = reference.maxout(x, pieces)
            dx = reference.maxout_backward(y, which, pieces)
            for isa in every_isa():
                got = functional.maxout(x, pieces)
                np.testing.assert_array_equal(got[0], y, err_msg=isa)
                np.testing.assert_array_equal(got[1], which, err_msg=isa)
                back = functional.maxout_backward(y, which, pieces)
                np.testing.assert_array_equal(back, dx, err_msg=isa)


@each_dtype
@pytest.mark.parametrize(
    "name", ["mean_squared_error", "mean_absolute_error", "huber", "binary_cross_entropy"]
)
def test_losses_of_special_values(name: str, dtype: Any) -> None:
    """Value for value, at every place of a vector: large, tiny, infinite, NaN, and none at all."""
    case = find(name)
    large = 1e18 if dtype is np.float32 else 1e150  # whose square is finite
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-30, -1e-30, 20, -20, 80, -80, large, -large])
    x = x.astype(dtype)
    for t in (0.0, 1.0, 0.25):
        for shift in (0, 3):
            a = {
                "pred": np.roll(x, shift)[:, None].copy(),
                "target": np.full((len(x), 1), t, dtype),
            }
            if name == "binary_cross_entropy":
                a["logits"] = a.pop("pred")
            truth = case.results(reference, widened(a))
            for _ in every_isa():
                assert_close(case, case.results(functional, a), truth, a, dtype)
            alone = {key: value[7:11].copy() for key, value in a.items()}
            truth = case.results(reference, widened(alone))
            assert np.isfinite(truth[0]) or shift
            for _ in every_isa():
                assert_close(case, case.results(functional, alone), truth, alone, dtype)


@each_dtype
def test_binary_cross_entropy_keeps_small_gradients(dtype: Any) -> None:
    """Of a decision that is right by far, and of its loss: relative to the true value."""
    x = np.concatenate([np.linspace(-80, 80, 1000), np.linspace(-1e-3, 1e-3, 100)]).astype(dtype)
    for t in (np.zeros_like(x), np.ones_like(x)):
        wide = -x.astype(np.longdouble) * np.where(t == 0, -1, 1)
        true = np.exp(-np.abs(wide)) / (1 + np.exp(-np.abs(wide)))
        true = np.where(wide > 0, 1 - true, true) * np.where(t == 0, 1, -1) / len(x)
        for isa in every_isa():
            _, slope = functional.binary_cross_entropy(x, t)
            error = np.abs((slope - true) / true)
            assert error.max() < 8 * np.finfo(dtype).eps, f"{isa}: {float(error.max())}"


def test_dense_backward_leaves_out_what_is_not_needed() -> None:
    dy, x, w = np.ones((3, 2)), np.ones((3, 4)), np.ones((4, 2))
    full = functional.dense_backward(dy, x, w)
    dx, dw, db = functional.dense_backward(dy, x, w, need_dx=False, need_db=False)
    assert dx is None and db is None
    np.testing.assert_array_equal(dw, full[1])
    for module in (functional, reference):  # frozen weights
        dx, dw, db = module.dense_backward(dy, x, w, need_dw=False)
        assert dw is None
        np.testing.assert_array_equal(dx, full[0])
        np.testing.assert_array_equal(db, full[2])
    with pytest.raises(ValueError, match="dw_out is given, but need_dw is False"):
        functional.dense_backward(dy, x, w, need_dw=False, dw_out=np.empty((4, 2)))


# --- special values ----------------------------------------------------------------------------


def specials(dtype: Any) -> np.ndarray:
    """NaN, infinities, zeros of both signs, subnormals, and the ends of the range."""
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, info.eps, 1.0, 100.0, info.max, np.inf]
    return np.array([np.nan, *positive, *(-v for v in positive)], dtype=dtype)


def each_activation(activation: Activation) -> Iterator[tuple[Any, ...]]:
    for parameters in activation.parameters:
        forward, backward = activation.name, f"{activation.name}_backward"
        if hasattr(functional, forward):
            yield parameters, forward, backward


def find(label_start: str) -> Case:
    return next(case for case in CASES if case.label.startswith(label_start))


@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_activation_of_special_values(activation: Activation, dtype: Any) -> None:
    if not hasattr(functional, activation.name):
        pytest.skip(f"functional has no {activation.name} yet")
    values = specials(dtype)
    for parameters, forward, backward in each_activation(activation):
        x = np.tile(values, 5)  # every value at every place of a vector
        dy, at = (v.ravel().copy() for v in np.meshgrid(values, values))
        kept = at if activation.saved == "x" else getattr(reference, forward)(at, **parameters)
        straight = {"x": x, **parameters}
        back = {"dy": dy, activation.saved: kept, **parameters}
        for name, a, truth_from in (
            (forward, straight, widened(straight)),
            # In its own dtype: whether alpha + y is 0, which times infinity is NaN, is rounding.
            (backward, back, back),
        ):
            case = find(name)
            truth = case.results(reference, truth_from)
            for _ in every_isa():
                assert_close(case, case.results(functional, a), truth, a, dtype)


@each_dtype
def test_gates_give_large_numbers_and_zeros_back(dtype: Any) -> None:
    """Where the gate is 1 the result is x to the last bit, in each binade; a zero keeps its sign."""
    info = np.finfo(dtype)
    binades = np.exp2(np.arange(6, info.maxexp, dtype=dtype))[:, None]
    fractions = 1 + np.append(np.random.default_rng(0).random(61), [0, 0.5, 1 - info.eps])
    large = np.append((binades * fractions.astype(dtype)).ravel(), dtype(np.inf))
    zeros = np.array([-0.0, 0.0] * 20, dtype)
    for isa in every_isa():
        for gate in (
            functional.silu,
            functional.gelu,
            partial(functional.gelu, approximate="tanh"),
            functional.hard_swish,
        ):
            np.testing.assert_array_equal(gate(large), large, err_msg=isa)
            assert (np.signbit(gate(zeros)) == np.signbit(zeros)).all(), (isa, gate)


@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_an_element_does_not_know_its_neighbours(activation: Activation, dtype: Any) -> None:
    """The bits of a result depend on its own input alone, also where another method takes over."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(331) * np.repeat([1, 5], [200, 131])).astype(dtype)
    alone = np.sort(x)  # among others of their size; and in lengths that no vector divides
    for parameters, forward, backward in each_activation(activation):
        for _ in every_isa():
            apply = partial(getattr(functional, forward), **parameters)
            back = partial(getattr(functional, backward), **parameters)
            expected = dict(zip(x.tolist(), apply(x).tolist(), strict=True))
            assert apply(alone).tolist() == [expected[v] for v in alone.tolist()]
            assert [apply(x[i : i + 1]).item() for i in range(0, x.size, 7)] == apply(x)[
                ::7
            ].tolist()
            saved = x if activation.saved == "x" else apply(x)
            dx = back(x, saved)
            order = np.argsort(saved, kind="stable")
            np.testing.assert_array_equal(back(x[order], saved[order]), dx[order])


@each_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_special_values(name: str, dtype: Any) -> None:
    for width in (2, 5, 16, 33):
        rows = np.zeros((7, width), dtype)
        rows[0, -1] = np.nan
        rows[1, 0] = np.inf
        rows[2, :-1] = -np.inf
        rows[3] = -np.inf
        rows[4] = np.finfo(dtype).max
        rows[5, 0] = -np.finfo(dtype).max
        rows[6, 0] = 1e4
        case = find(name)
        for a in ({"x": rows}, {"x": rows.T.copy(), "axis": 0}):
            truth = case.results(reference, widened(a))
            for _ in every_isa():
                assert_close(case, case.results(functional, a), truth, a, dtype)


@each_dtype
def test_nan_and_infinity_travel_through_dense(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for rows, inputs, units in ((5, 7, 3), (20, 33, 18), (64, 40, 70)):
        a = {
            "x": normal(rng, (rows, inputs), dtype),
            "w": normal(rng, (inputs, units), dtype),
            "b": normal(rng, (units,), dtype),
        }
        a["x"][1, 2] = np.nan
        a["x"][3, 4] = np.inf
        a["w"][1, 1] = -np.inf
        a["b"][2] = np.nan
        with np.errstate(invalid="ignore"):
            truth = a["x"].astype(np.float64) @ a["w"] + a["b"]
        for isa in every_isa():
            y = functional.dense_forward(**a)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(truth), err_msg=isa)
            np.testing.assert_array_equal(np.isinf(y), np.isinf(truth), err_msg=isa)
            dx, dw, db = functional.dense_backward(y, a["x"], a["w"])
            with np.errstate(invalid="ignore"):
                wide = truth.astype(dtype).astype(np.float64)
                expected = wide @ a["w"].T, a["x"].T @ wide, wide.sum(axis=0)
            for got, true in zip((dx, dw, db), expected, strict=True):
                np.testing.assert_array_equal(np.isnan(got), np.isnan(true), err_msg=isa)


@each_dtype
def test_a_bad_channel_does_not_touch_the_others(dtype: Any) -> None:
    case = find("batchnorm_forward")
    a = case.example((64, 33), dtype)
    clean = case.results(functional, a)
    a["x"][5, 3], a["x"][6, 17] = np.nan, np.inf
    good = np.delete(np.arange(33), [3, 17])
    for isa in every_isa():
        y, mean, rstd = case.call(functional, copies(a))
        assert np.isnan(y[:, [3, 17]]).all() and np.isnan(mean[3]) and np.isnan(rstd[[3, 17]]).all()
        for got, expected in zip((y, mean, rstd), clean, strict=False):
            np.testing.assert_allclose(got[..., good], expected[..., good], rtol=1e-4, err_msg=isa)


@each_dtype
def test_cross_entropy_of_special_values(dtype: Any) -> None:
    case, labels = find("softmax_cross_entropy"), np.array([0, 1, 2])
    impossible = np.zeros((3, 4), dtype)
    impossible[:, 3] = -np.inf  # a class that is ruled out, and is not the label
    huge = np.full((3, 4), 3e38, dtype)
    for logits in (impossible, huge):
        a = {"logits": logits, "labels": labels}
        truth = case.results(reference, widened(a))
        assert np.isfinite(truth[0])
        for _ in every_isa():
            assert_close(case, case.results(functional, a), truth, a, dtype)
    for value in (np.nan, np.inf):
        bad = np.zeros((3, 4), dtype)
        bad[1, 2] = value
        for isa in every_isa():
            loss, dlogits = functional.softmax_cross_entropy(bad, labels)
            assert np.isnan(loss), isa
            assert np.isnan(dlogits[1]).all() and np.isfinite(dlogits[[0, 2]]).all(), isa


# --- accuracy of statistics --------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1000, 1_000_000])
def test_batchnorm_far_from_zero(rows: int) -> None:
    """A mean of 1e4 with a spread of 1, in float32: no more is lost than by rounding the mean."""
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((rows, 3))).astype(np.float32)
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    true_y, true_mean, true_rstd = reference.batchnorm_forward(
        x.astype(np.float64), np.ones(3), np.zeros(3)
    )
    half_ulp = np.spacing(np.float32(1e4)) / 2
    for isa in every_isa():
        y, mean, rstd = functional.batchnorm_forward(x, one, zero)
        np.testing.assert_allclose(mean, true_mean, rtol=0, atol=1.01 * half_ulp, err_msg=isa)
        np.testing.assert_allclose(rstd, true_rstd, rtol=1e-6, err_msg=isa)
        np.testing.assert_allclose(y, true_y, rtol=1e-5, atol=1.1 * half_ulp, err_msg=isa)


@each_dtype
@pytest.mark.parametrize("rows", [2, 37, 1000])
def test_batchnorm_of_constant_columns(rows: int, dtype: Any) -> None:
    values = np.array([0.1, -3.3, 1e4, 0.0, 1 / 3], dtype)
    x = np.repeat(values[None], rows, axis=0)
    gamma, beta = np.full(5, 2.0, dtype), np.arange(5).astype(dtype)
    running_mean, running_var = np.zeros(5, dtype), np.ones(5, dtype)
    for isa in every_isa():
        y, mean, _ = functional.batchnorm_forward(
            x, gamma, beta, running_mean, running_var, momentum=1.0
        )
        np.testing.assert_allclose(mean, values, rtol=2 * np.finfo(dtype).eps, err_msg=isa)
        np.testing.assert_allclose(running_var, 0, atol=1e-10, err_msg=isa)
        # An ulp of 1e4 in the mean would be multiplied by 1 / sqrt(eps) = 316.
        np.testing.assert_allclose(y, np.broadcast_to(beta, y.shape), atol=1e-5, err_msg=isa)


def test_batchnorm_gives_back_the_identity() -> None:
    x = 5 + 3 * np.random.default_rng(0).standard_normal((50, 33))
    gamma, beta = np.sqrt(x.var(axis=0) + 1e-5), x.mean(axis=0)
    for isa in every_isa():
        y, _, _ = functional.batchnorm_forward(x, gamma, beta)
        np.testing.assert_allclose(y, x, rtol=1e-12, err_msg=isa)


def test_sums_do_not_lose_accuracy_with_the_batch() -> None:
    """Column sums over a million rows of float32: sequential sums would be off by 1e-3."""
    dy = np.full((1_000_000, 3), 0.1, np.float32)
    x = np.ones((1_000_000, 1), np.float32)
    exact = 1_000_000 * float(np.float32(0.1))
    for isa in every_isa():
        _, _, db = functional.dense_backward(dy, x, np.ones((1, 3), np.float32), need_dx=False)
        np.testing.assert_allclose(db, exact, rtol=1e-6, err_msg=isa)
        loss, _ = functional.softmax_cross_entropy(dy, np.zeros(len(dy), np.int64))
        np.testing.assert_allclose(loss, np.log(3), rtol=1e-6, err_msg=isa)
