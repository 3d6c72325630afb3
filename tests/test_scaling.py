"""Column scalers on what is hard: channels, batches, far-off means, constant and missing columns."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastnn as fnn
from fastnn.preprocessing import Center as Mean
from fastnn.preprocessing import MinMax, Standardize, from_state, scaling, statistics
from fastnn.preprocessing.statistics import ColumnStatistics, column_moments
from fastnn.sources import BatchSource

SCALERS = {
    "mean image": lambda **o: Mean(**o),
    "channel means": lambda **o: Mean(channels=3, **o),
    "planes": lambda **o: Mean(channels=3, channel_order="first", scale="range", **o),
    "z-score": lambda **o: Standardize(**o),
    "z-score of channels": lambda **o: Standardize(channels=3, **o),
    "min-max": lambda **o: MinMax(low=-1, high=2, **o),
    "min-max of channels": lambda **o: MinMax(channels=3, **o),
}


@pytest.fixture(params=SCALERS)
def make(request):
    return SCALERS[request.param]


def expected(scaler, x, axes=(0,)):
    """The textbook formula over these axes of (N, …)."""
    x = x.astype(np.float64)
    mean = x.mean(axis=axes, keepdims=True)
    if isinstance(scaler, Standardize):
        return (x - mean) / x.std(axis=axes, keepdims=True)
    if isinstance(scaler, MinMax):
        low, high = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
        return (x - low) / (high - low) * (scaler.high - scaler.low) + scaler.low
    return (x - mean) / (np.ptp(x) if scaler._extremes else 1.0)


def images(dtype, rows=40, make=None):
    """With the channels where the scaler that is made has them."""
    x = np.random.default_rng(0).integers(3, 250, (rows, 4, 5, 3)).astype(dtype)
    first = make is not None and make().channel_order == "first"
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_images_keep_their_shape(make, dtype):
    x = images(dtype, make=make)
    scaler = make(dtype="float64").fit(x)
    axes = (0,)
    if scaler.channels:
        axes = (0, 1, 2) if scaler.channel_order == "last" else (0, 2, 3)
    np.testing.assert_allclose(scaler.transform(x), expected(scaler, x, axes), atol=1e-12)
    flat = make(dtype="float64").fit(x.reshape(len(x), -1))
    np.testing.assert_array_equal(
        flat.transform(x.reshape(len(x), -1)), scaler.transform(x).reshape(len(x), -1)
    )


def test_batches_give_what_the_array_gives(make, monkeypatch):
    monkeypatch.setattr(scaling, "BLOCK_ELEMENTS", 500)
    monkeypatch.setattr(statistics, "BLOCK_ELEMENTS", 700)
    x = images("float32", make=make)
    whole, batches = make(dtype="float64").fit(x), [x[:7], x[7:9], x[9:]]
    scaler = make(dtype="float64").fit(iter(batches))  # one pass is enough
    np.testing.assert_allclose(scaler.transform(x), whole.transform(x), rtol=1e-12, atol=1e-12)
    source = scaler.transform(BatchSource(batches))
    parts = [block.x for block in source.blocks()]
    np.testing.assert_array_equal(np.concatenate(parts), scaler.transform(x))


def test_it_comes_back_through_a_model_file(make, tmp_path):
    x = images("uint8", make=make)
    x[0, 0, 0] = 0
    model = fnn.Sequential([fnn.Dense(2)], input_dim=60, seed=0)
    model.preprocessing = make().fit(x)
    model.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors").preprocessing
    assert loaded.get_config() == model.preprocessing.get_config()
    np.testing.assert_array_equal(loaded.transform(x), model.preprocessing.transform(x))


def test_out_of_any_memory(make, tmp_path):
    x = images("float32", make=make)
    scaler = make().fit(x)
    file = np.memmap(tmp_path / "out", np.float32, "w+", shape=x.shape)
    assert scaler.transform(x, out=file) is file
    np.testing.assert_array_equal(file, scaler.transform(x))
    y = x.copy()
    assert scaler.transform(y, out=y) is y
    np.testing.assert_array_equal(y, file)
    for bad in (np.empty((40, 60), np.float32), np.empty(x.shape), [1]):
        with pytest.raises(ValueError, match="out is"):
            scaler.transform(x, out=bad)


@pytest.mark.parametrize("rows", [3, 5000])
def test_a_mean_of_1e4_with_a_spread_of_1(rows):
    rng = np.random.default_rng(1)
    x = (1e4 + rng.standard_normal((rows, 7))).astype(np.float32)
    scaler = Standardize().fit(x)
    wide = x.astype(np.float64)
    assert np.abs(scaler.mean - wide.mean(axis=0)).max() < 1e-7
    assert np.abs(scaler.std / wide.std(axis=0) - 1).max() < 3e-7
    z = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    # the last digit: the mean alone, rounded to float32, would be off by up to 5e-4
    assert np.abs(scaler.transform(x) - z).max() < 2e-6
    assert np.abs(Mean().fit(x).transform(x) - (wide - wide.mean(axis=0))).max() < 1e-6


def test_sorted_rows_and_an_outlier_in_front_lose_nothing():
    rng = np.random.default_rng(2)
    x = np.sort(rng.standard_normal((20000, 2)), axis=0)
    x[0] = 1e6
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 5e-6)):
        statistics = ColumnStatistics(dtype=dtype).fit(x.astype(dtype))
        wide = x.astype(dtype).astype(np.float64)
        assert (np.abs(statistics.mean - wide.mean(axis=0)) < tolerance * wide.std(axis=0)).all()
        np.testing.assert_allclose(statistics.m2 / len(x), wide.var(axis=0), rtol=tolerance)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e12, 1e30])
def test_any_unit_that_float32_can_hold(unit):
    x = np.random.default_rng(3).standard_normal((300, 2)).astype(np.float32)
    z = Standardize().fit(x).transform(x)
    scaled = Standardize().fit(x * np.float32(unit)).transform(x * np.float32(unit))
    np.testing.assert_allclose(scaled, z, atol=2e-6)


def test_the_kernel_has_the_same_bits_on_any_number_of_threads(isa):
    x = np.random.default_rng(4).standard_normal((3000, 129)).astype(np.float32)
    results = []
    for threads in (1, 3):
        with fnn.threads(threads):
            results.append(column_moments(x))
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0][0], x.mean(axis=0, dtype=np.float64), atol=1e-7)
    np.testing.assert_allclose(results[0][1] / 3000, x.var(axis=0, dtype=np.float64), rtol=3e-7)


@pytest.mark.parametrize("value", [0.1, -7e12, 1e-300, 1e200])
@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("make", [SCALERS[name] for name in SCALERS if name != "planes"])
def test_constant_columns_are_found_exactly(make, value, batches):
    x = np.random.default_rng(5).standard_normal((700, 6))
    x[:, ::3] = value  # with three channels: the first
    scaler = make(dtype="float64")
    result = scaler.fit(iter([x[:300], x[300:]]) if batches else x).transform(x)
    assert np.isfinite(result).all()
    assert (result[:, ::3] == getattr(scaler, "low", 0.0)).all()


def test_missing_values_become_the_scaled_mean(make):
    x = np.random.default_rng(6).standard_normal((50, 6))
    x[3:9, 2] = np.nan
    scaler = make(impute=True, dtype="float64")
    assert not scaler.channels or scaler.channels == 3
    whole = scaler.fit(x)
    result = whole.transform(x)
    assert np.isfinite(result).all()
    # in place of NaN stands what the mean of the column, or channel, is scaled to
    filled = x.copy()
    channel = np.arange(6) if scaler.channels is None else scaler._channel_of(6)
    filled[3:9, 2] = scaler.mean[channel[2]]
    np.testing.assert_allclose(result, whole.transform(filled), atol=1e-14)
    parts = make(impute=True, dtype="float64").fit(iter([x[:3], x[3:9], x[9:]]))
    np.testing.assert_allclose(parts.transform(x), result, atol=1e-12)
    with pytest.raises(ValueError, match="NaN in row 3, column 2"):
        make().fit(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_in_a_batch_is_named_by_its_row(make, bad):
    x = np.random.default_rng(7).standard_normal((30, 6)).astype(np.float32)
    x[21, 4] = bad
    with pytest.raises(ValueError, match="row 21, column 4"):
        make().fit(iter([x[:10], x[10:]]))


def test_a_bad_fit_leaves_the_old_one():
    scaler = Standardize().fit(np.array([[1.0], [3.0]]))
    with pytest.raises(ValueError, match="NaN"):
        scaler.fit(np.array([[1.0], [np.nan]]))
    assert scaler.transform(np.array([[5.0]])) == 3


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: Mean(channels=4).fit(np.ones((2, 6))),
            ValueError,
            "6 columns cannot be 4 channels",
        ),
        (lambda: Mean(channels=0), ValueError, "channels"),
        (
            lambda: Mean(channels=3).fit(np.ones((2, 3, 8, 8))),
            ValueError,
            r"\(3, 8, 8\) have 8 channels",
        ),
        (
            lambda: Standardize(channels=3, channel_order="first").fit(np.ones((2, 8, 8, 3))),
            ValueError,
            "8 channels in the order 'first', expected 3",
        ),
        (
            lambda: MinMax(channels=3).fit(np.ones((2, 4, 4, 3))).transform(np.ones((2, 3, 4, 4))),
            ValueError,
            r"\(3, 4, 4\) have 4 channels",
        ),
        (lambda: Mean(channel_order="middle"), ValueError, "'last' or 'first'"),
        (lambda: Mean(scale=0.0), ValueError, "above 0"),
        (lambda: MinMax(low=1, high=1), ValueError, "low < high"),
        (lambda: MinMax(high=np.nan), ValueError, "low < high"),
        (lambda: Mean().fit(iter([])), ValueError, "empty"),
        (
            lambda: Mean().fit(iter([np.ones((2, 3)), np.ones((2, 4))])),
            ValueError,
            "have 4 numbers",
        ),
        (lambda: Mean().fit(iter([np.ones(3)])), ValueError, "expected .n, D."),
        (lambda: Mean().fit(np.ones((0, 3))), ValueError, "empty"),
        (lambda: Mean().fit(np.ones((2, 3))).transform(iter([]), out=1), TypeError, "leave out"),
    ],
)
def test_what_is_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_a_file_of_the_first_version_is_read():
    """Center had one scale of all columns, and no channels."""
    arrays = {"mean": np.array([1.0, 2.0]), "scale": np.array([4.0])}
    old = from_state("center", json.loads('{"impute": false, "dtype": "float32"}'), arrays)
    assert old.transform(np.array([[5.0, 2.0]])).tolist() == [[1, 0]]


def test_grey_images_have_no_axis_of_channels():
    images = np.random.default_rng(0).random((10, 28, 27), dtype=np.float32)
    for order in ("last", "first"):
        scaler = Standardize(channels=1, channel_order=order).fit(images)
        assert scaler.transform(images).mean() == pytest.approx(0, abs=1e-6)
