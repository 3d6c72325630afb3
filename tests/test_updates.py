"""Updates and clipping beyond what the list of cases says of them: several steps, odd numbers, norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, UPDATES

from fastnn import functional, reference
from fastnn._kernels import machine, updates
from fastnn._kernels.updates import Rule

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
each_module = pytest.mark.parametrize(
    "module", [reference, functional], ids=["reference", "functional"]
)
each_update = pytest.mark.parametrize(
    ("name", "state", "settings"),
    [(name, state, s) for name, state, variants in UPDATES for s in variants],
    ids=str,
)


def normal(seed: int, n: int, dtype: Any) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def test_every_kernel_is_a_rule() -> None:
    names = machine.update_names()
    assert names == {
        "sgd": 0,
        "momentum": 1,
        "nesterov": 1,
        "adagrad": 1,
        "rmsprop": 1,
        "rmsprop_momentum": 2,
        "adam": 2,
    }
    for name, states in names.items():
        w, dw = np.ones(3), np.ones(3)
        Rule(name, 0.5, 0.5, 1e-8).apply(w, dw, [np.zeros(3)] * states, 0.1)
        assert (w < 1).all()
        with pytest.raises(ValueError, match=f"needs {states} arrays of state, got 3"):
            Rule(name).apply(w, dw, [np.zeros(3)] * 3, 0.1)
    with pytest.raises(ValueError, match="unknown update 'adamax': there are sgd, momentum"):
        Rule("adamax")
    with pytest.raises(ValueError, match="does not fit"):
        Rule("momentum", 0.9).apply(np.ones(3), np.ones(3), [np.zeros(2)], 0.1)


# --- agreement with PyTorch ----------------------------------------------------------------------

THEIRS = {
    "sgd_update": "SGD",
    "adagrad_update": "Adagrad",
    "rmsprop_update": "RMSprop",
    "adam_update": "Adam",
    "adamw_update": "AdamW",
}


@each_update
def test_ten_steps_are_pytorchs(
    name: str, state: tuple[str, ...], settings: dict[str, Any], isa: str
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no third party")
    ours = {key: value for key, value in settings.items() if key != "step"}
    theirs = {"weight_decay": 0.01, **ours} if name == "adamw_update" else dict(ours)
    if "rho" in theirs:
        theirs["alpha"] = theirs.pop("rho")
    if "beta1" in theirs:
        theirs["betas"] = theirs.pop("beta1"), theirs.pop("beta2")
    w = normal(0, 37, np.float64)
    their_w = torch.nn.Parameter(torch.tensor(w))
    optimizer = getattr(torch.optim, THEIRS[name])([their_w], **theirs)
    kept = {key: np.zeros_like(w) for key in state}
    for step in range(1, 11):
        dw = normal(step, 37, np.float64)
        their_w.grad = torch.tensor(dw)
        optimizer.step()
        count = {"step": step} if name.startswith("adam") else {}
        getattr(functional, name)(w, dw, **kept, **ours, **count)
        np.testing.assert_allclose(w, their_w.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_bias_correction_of_early_and_late_steps(isa: str) -> None:
    """In float32 as in float64: 1 - beta2^step is taken in double."""
    for step in (1, 2, 1000, 10**6, 2**62):
        truth = np.ones(5)
        reference.adam_update(
            truth, np.full(5, 1e-3), *np.zeros((2, 5)), step=step, lr=0.1, beta2=0.99999
        )
        w, m, v = np.ones(5, np.float32), *np.zeros((2, 5), np.float32)
        dw = np.full(5, 1e-3, np.float32)
        functional.adam_update(w, dw, m, v, step=step, lr=0.1, beta2=0.99999)
        np.testing.assert_allclose(w, truth, rtol=3e-7)


# --- odd numbers ---------------------------------------------------------------------------------


@each_dtype
@each_update
def test_special_values_travel_as_in_the_reference(
    name: str, state: tuple[str, ...], settings: dict[str, Any], dtype: Any, isa: str
) -> None:
    info = np.finfo(dtype)
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, info.eps], dtype)
    w, dw, *kept = (a.ravel().copy() for a in np.meshgrid(*[values] * (2 + len(state))))
    kept = [np.abs(a) for a in kept]  # sums and means of squares are not negative
    results = []
    for module in (reference, functional):
        arrays = {"w": w, "dw": dw, **dict(zip(state, kept, strict=True))}
        arrays = {key: a.copy() for key, a in arrays.items()}
        getattr(module, name)(**arrays, **settings)
        results.append(arrays)
    for key, expected in results[0].items():
        np.testing.assert_allclose(
            results[1][key], expected, rtol=64 * info.eps, atol=64 * info.eps, err_msg=key
        )


@each_dtype
@each_module
def test_averages_end_at_zero_not_among_the_subnormals(module: Any, dtype: Any) -> None:
    tiny = np.finfo(dtype).tiny
    zero = np.zeros(20, dtype)
    for name, state, settings in (
        ("sgd_update", "v", dict(momentum=0.9)),
        ("rmsprop_update", "h", dict(rho=0.9)),
        ("rmsprop_update", "hv", dict(rho=0.9, momentum=0.9)),
        ("adam_update", "mv", dict(step=5, beta1=0.9, beta2=0.9)),
    ):
        kept = {key: np.full(20, tiny * 1.05, dtype) for key in state}
        getattr(module, name)(np.ones(20, dtype), zero, **kept, lr=0.1, **settings)
        assert all((a == 0).all() for a in kept.values()), name


# --- clipping ------------------------------------------------------------------------------------


@each_dtype
@each_module
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e19, 1e38, "largest"])
def test_gradients_of_any_size_are_scaled_to_the_norm(
    module: Any, size: Any, dtype: Any, isa: str
) -> None:
    if size == "largest":
        size = np.finfo(dtype).max
    dw = (np.sign(normal(0, 1001, dtype)) * dtype(size)).astype(dtype)
    norm = math.sqrt(1001.0) * float(dtype(size))
    for limit in (0.5, 1e-3):
        clipped = dw.copy()
        got = module.clip_by_global_norm(clipped, limit)
        if math.isinf(norm):  # more than a float64 can hold: left as it is
            assert got == math.inf
            np.testing.assert_array_equal(clipped, dw)
            continue
        assert got == pytest.approx(norm, rel=1e-13)
        after = np.linalg.norm(clipped.astype(np.float64))
        assert after == pytest.approx(min(norm, limit), rel=4 * float(np.finfo(dtype).eps))


@each_module
def test_norms_at_the_ends_of_the_range(module: Any, isa: str) -> None:
    for value in (5e-324, 1e-310, 1e-200, 1e-150, 1e150, 1e200, 1e300):
        dw = np.full(16, value)
        assert module.clip_by_global_norm(dw, 1e308) == pytest.approx(4 * value, rel=1e-14)
        np.testing.assert_array_equal(dw, value)
    mixed = np.array([3e200, 4e200, 1e-300])
    assert module.clip_by_global_norm(mixed, 1.0) == pytest.approx(5e200, rel=1e-15)
    np.testing.assert_allclose(mixed, [0.6, 0.8, 0.0], rtol=1e-15, atol=1e-300)


@each_dtype
@each_module
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_is_told_and_nothing_is_scaled(
    module: Any, bad: float, dtype: Any, isa: str
) -> None:
    for place in (0, 40, 66):
        dw = normal(0, 67, dtype)
        dw[place] = bad
        before = dw.copy()
        norm = module.clip_by_global_norm(dw, 1e-3)
        assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
        np.testing.assert_array_equal(dw, before)


@each_dtype
@each_module
def test_clipping_by_value_lets_nan_through(module: Any, dtype: Any, isa: str) -> None:
    for n in (1, 7, 16, 33):
        dw = np.resize(np.array([np.nan, np.inf, -np.inf, 0.25, -0.0, 7], dtype), n)
        expected = np.resize(np.array([np.nan, 0.5, -0.5, 0.25, -0.0, 0.5], dtype), n)
        module.clip_by_value(dw, 0.5)
        np.testing.assert_array_equal(dw, expected)
        np.testing.assert_array_equal(np.signbit(dw), np.signbit(expected))


@each_dtype
def test_the_norm_has_the_same_bits_for_any_number_of_threads(
    dtype: Any, isa: str, thread_count: None
) -> None:
    dw = normal(3, 1_500_001, dtype)
    norms, clipped = [], []
    for threads in (1, 2, 3, 4, 8):
        machine.set_num_threads(threads)
        copy = dw.copy()
        norms.append(functional.clip_by_global_norm(copy, 1.0))
        clipped.append(copy.tobytes())
    assert norms == norms[:1] * 5 and clipped == clipped[:1] * 5
    assert norms[0] == pytest.approx(np.linalg.norm(dw.astype(np.float64)), rel=1e-13)


@each_dtype
def test_sums_of_squares_are_taken_in_double(dtype: Any, isa: str) -> None:
    """Of numbers whose squares overflow float32, and of as many that they would stop adding up."""
    for x in (np.full(1001, 1e25, dtype), np.full(20_000_003, 0.1, dtype)):
        exact = x.size * float(x[0]) ** 2
        assert updates.sum_of_squares(x) == pytest.approx(exact, rel=1e-11)
