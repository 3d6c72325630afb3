"""Preprocessors: their arithmetic, what they refuse, and the way through a model file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastnn.preprocessing import (
    Center,
    Preparation,
    Standardize,
    TableEncoder,
    TargetEncoder,
    from_state,
    statistics,
)


def through_json(preprocessor):
    """The object as it comes back from a model file."""
    config = json.loads(json.dumps(preprocessor.get_config()))
    copies = {name: array.copy() for name, array in preprocessor.get_arrays().items()}
    return from_state(preprocessor.kind, config, copies)


# Arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", [np.uint8, np.int64, np.float32, np.float64])
def test_standardize_is_the_z_score(source, dtype):
    x = np.random.default_rng(0).integers(0, 250, (500, 7)).astype(source)
    result = Standardize(dtype=dtype).fit(x).transform(x)
    assert result.dtype == dtype and result.flags.c_contiguous
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    np.testing.assert_allclose(result, expected, atol=2e-6 if dtype == "float32" else 1e-13)


def test_standardize_agrees_with_scikit_learn():
    StandardScaler = pytest.importorskip("sklearn.preprocessing").StandardScaler
    x = np.random.default_rng(1).lognormal(size=(300, 5)) * [1, 1e-3, 1e3, 1, 1] + [
        0,
        0,
        0,
        1e6,
        -5,
    ]
    ours = Standardize(dtype="float64").fit(x).transform(x)
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(x), rtol=1e-9, atol=1e-9)


def test_many_blocks_give_what_one_block_gives(monkeypatch):
    x = np.random.default_rng(2).standard_normal((1000, 3)) + 100
    x[::7, 1] = np.nan
    whole = Standardize(impute=True, dtype="float64").fit(x)
    monkeypatch.setattr(statistics, "BLOCK_ELEMENTS", 50)
    cut = Standardize(impute=True, dtype="float64").fit(x)
    np.testing.assert_allclose(cut.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(cut.std, whole.std, rtol=1e-12)
    np.testing.assert_allclose(cut.transform(x), whole.transform(x), rtol=1e-11, atol=1e-11)


def test_no_cancellation_far_from_zero():
    x = 1e9 + np.random.default_rng(3).standard_normal((2000, 1))
    result = Standardize(dtype="float64").fit(x).transform(x)
    assert abs(result.std() - 1) < 1e-9


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300, -7e12])
def test_a_constant_column_becomes_zero_for_ever(value):
    x = np.column_stack([np.full(1000, value), np.arange(1000.0)])
    scaler = Standardize(dtype="float64").fit(x)
    assert (scaler.transform(x)[:, 0] == 0).all()
    assert scaler.transform(np.array([[value + 1e6, 3.0]]))[0, 0] == 0


def test_impute_puts_the_mean():
    x = np.array([[1.0, 5.0], [np.nan, 7.0], [3.0, np.nan]])
    scaler = Standardize(impute=True).fit(x)
    np.testing.assert_allclose(scaler.mean, [2, 6])
    result = scaler.transform(x)
    assert result[1, 0] == 0 and result[2, 1] == 0
    np.testing.assert_allclose(result[[0, 2], 0], [-1, 1])


def test_center_takes_the_mean_off_and_nothing_else():
    x = np.random.default_rng(4).integers(0, 256, (400, 20)).astype(np.uint8)
    np.testing.assert_allclose(Center().fit(x).transform(x), x - x.mean(axis=0), atol=2e-5)


def test_center_takes_the_mean_off_and_one_scale():
    x = np.random.default_rng(4).integers(0, 256, (400, 20)).astype(np.uint8)
    x[0, 0], x[0, 1] = 0, 255
    result = Center(scale="range").fit(x).transform(x)
    np.testing.assert_allclose(result, (x - x.mean(axis=0)) / 255, atol=1e-6)


def test_center_of_equal_values_is_zero():
    assert not Center().fit(np.full((3, 2), 9.0)).transform(np.full((3, 2), 9.0)).any()


@pytest.mark.parametrize("cls", [Standardize, Center])
@pytest.mark.parametrize(
    ("bad", "words"),
    [(np.nan, ["NaN", "row 41", "column 2", "--impute"]), (np.inf, ["infinity", "row 41"])],
)
def test_what_is_not_finite_is_named(cls, bad, words):
    x = np.random.default_rng(5).standard_normal((100, 4))
    good = cls().fit(x)
    x[41, 2] = bad
    for call in (cls().fit, good.transform):
        with pytest.raises(ValueError) as error:
            call(x)
        assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("cls", [Standardize, Center])
def test_infinity_is_refused_even_where_missing_values_are_filled(cls):
    x = np.array([[1.0, np.nan], [2.0, np.inf], [0.0, 1.0]])
    with pytest.raises(ValueError, match="infinity in row 1, column 1"):
        cls(impute=True).fit(x)


def test_what_overflows_is_refused_not_turned_into_infinity():
    scaler = Standardize().fit(np.array([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="too large"):
        scaler.transform(np.array([[1e300]]))
    with pytest.raises(ValueError, match="too large"):
        Standardize().fit(np.array([[1e308], [-1e308], [1.7e308], [1.7e308]]))


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (np.empty((0, 3)), ValueError, "empty"),
        (np.empty((3, 0)), ValueError, "empty"),
        (np.ones(3), ValueError, "rows, columns"),
        ([["a"]], TypeError, "real numbers"),
        (np.ones((2, 2), complex), TypeError, "real numbers"),
    ],
)
def test_standardize_refuses(data, kind, words):
    with pytest.raises(kind, match=words):
        Standardize().fit(data)


def test_a_column_of_missing_values_cannot_be_imputed():
    with pytest.raises(ValueError, match="column 1 has no value"):
        Standardize(impute=True).fit(np.array([[1.0, np.nan], [2.0, np.nan]]))


def test_wrong_width_unfitted_and_dtype():
    scaler = Standardize().fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="4 columns, expected the 3"):
        scaler.transform(np.ones((2, 4)))
    with pytest.raises(RuntimeError, match="call fit"):
        Standardize().transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="float32 or float64"):
        Standardize(dtype="float16")


# Tables -------------------------------------------------------------------------------------------

TABLE = {
    "size": [1.0, 2.0, 3.0, 6.0],
    "colour": ["red", "blue", "red", "green"],
    "old": [True, False, True, True],
    "rooms": [2, 2, 2, 2],
}


def test_features_in_the_order_of_the_columns():
    encoder = TableEncoder(dtype="float64").fit(TABLE)
    assert encoder.feature_names == [
        "size",
        "colour=blue",
        "colour=green",
        "colour=red",
        "old=false",
        "old=true",
        "rooms",
    ]
    size = (np.array(TABLE["size"]) - 3) / np.std(TABLE["size"])
    expected = np.column_stack(
        [size, [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 1], np.zeros(4)]
    )
    np.testing.assert_allclose(encoder.transform(TABLE), expected, atol=1e-15)


def test_columns_are_found_by_name():
    encoder = TableEncoder().fit(TABLE)
    shuffled = {name: TABLE[name] for name in reversed(TABLE)} | {"more": ["x"] * 4}
    np.testing.assert_array_equal(encoder.transform(shuffled), encoder.transform(TABLE))


def test_data_frames_are_taken():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(TABLE)
    encoder = TableEncoder().fit(frame)
    np.testing.assert_array_equal(
        encoder.transform(frame), TableEncoder().fit(TABLE).transform(TABLE)
    )


def test_an_unknown_text_is_none_of_the_known_ones():
    encoder = TableEncoder().fit(TABLE)
    with pytest.warns(UserWarning, match="'colour': 2 rows.*'mauve'"):
        result = encoder.transform({**TABLE, "colour": ["red", "mauve", "mauve", "blue"]})
    assert result[:, 1:4].sum(axis=1).tolist() == [1, 0, 0, 1]


def test_missing_values_are_refused_with_column_and_way_out():
    holes = {**TABLE, "size": [1.0, None, 2.0, None], "colour": ["red", "red", None, "blue"]}
    with pytest.raises(ValueError) as error:
        TableEncoder().fit(holes)
    text = str(error.value)
    assert "'size' (2 of 4 rows, first row 2)" in text and "'colour' (1 of 4" in text
    assert "--impute" in text
    with pytest.raises(ValueError, match="train the model with --impute"):
        TableEncoder().fit(TABLE).transform(holes)


def test_impute_fills_with_mean_and_most_frequent():
    encoder = TableEncoder(impute=True).fit(
        {"n": [1.0, None, 3.0, 2.0, 2.0], "t": ["b", "a", None, "b", "a"]}
    )
    result = encoder.transform({"n": [None, 3.0], "t": ["b", None]})
    assert result[0, 0] == 0
    # "a" and "b" are equally frequent: the first in the alphabet fills the gap.
    assert result[:, 1:].tolist() == [[0, 1], [1, 0]]


def test_a_number_of_the_training_may_come_as_text_and_the_other_way_round():
    encoder = TableEncoder().fit({"n": [1.0, 2.0], "t": ["1", "x"]})
    result = encoder.transform({"n": ["1", "2"], "t": [1, 1.0]})
    np.testing.assert_array_equal(result, [[-1, 1, 0], [1, 1, 0]])
    with pytest.raises(ValueError, match="'n', row 2: 'many' is not a number"):
        encoder.transform({"n": ["1", "many"], "t": ["1", "1"]})


@pytest.mark.parametrize(
    ("table", "kind", "words"),
    [
        ({}, ValueError, "no columns"),
        ({"a": []}, ValueError, "no rows"),
        ({"a": [1, 2], "b": [1]}, ValueError, "different lengths"),
        ({"a": [[1, 2], [3, 4]]}, ValueError, "shape"),
        ({"a": [1.0, np.inf]}, ValueError, "'a', row 2: inf"),
        ({"a": [None, None]}, ValueError, "'a' is empty.*--drop a"),
        ({"a": np.array(["2020-01-01"], "M8[D]")}, TypeError, "'a' holds datetime64"),
        ({"a": np.array([{}, 1], object)}, TypeError, "'a' holds dict"),
        ({"a": [str(i) for i in range(1001)]}, ValueError, "1,001 different.*--drop a"),
        (np.ones((2, 2)), TypeError, "expected a table"),
    ],
)
def test_table_encoder_refuses(table, kind, words):
    with pytest.raises(kind, match=words):
        TableEncoder().fit(table)


def test_an_absent_column_is_named_with_close_ones():
    encoder = TableEncoder().fit(TABLE)
    table = {("Colour" if name == "colour" else name): c for name, c in TABLE.items()}
    with pytest.raises(ValueError, match="no column 'colour' .did you mean 'Colour'"):
        encoder.transform(table)


def test_texts_only_and_numbers_only():
    assert TableEncoder().fit({"t": ["a", "b"]}).transform({"t": ["b"]}).tolist() == [[0, 1]]
    assert TableEncoder().fit({"n": [0, 2]}).transform({"n": [4]}).tolist() == [[3]]


# Targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([3, 1, 3], [1, 3]),
        ([2.0, 1.0], [1, 2]),
        ([True, False], ["false", "true"]),
        (np.array([[7], [5]], np.uint8), [5, 7]),
        (np.arange(100).repeat(20), list(range(100))),
    ],
)
def test_classes(values, classes):
    target = TargetEncoder().fit(values)
    assert target.task == "classification" and target.classes == classes
    labels = target.transform(values)
    assert labels.dtype == np.int64
    assert [classes[label] for label in labels] == target.decode(labels).tolist()
    assert target.outputs == len(classes)


@pytest.mark.parametrize("values", [[0.5, 1.0, 2.5], np.arange(100), np.arange(1, 101).repeat(20)])
def test_other_numbers_are_a_regression(values):
    target = TargetEncoder().fit(values)
    assert target.task == "regression" and target.outputs == 1
    scaled = target.transform(values)
    assert scaled.shape == (len(values), 1)
    assert abs(scaled.mean()) < 1e-12 and abs(scaled.std() - 1) < 1e-12
    np.testing.assert_allclose(target.decode(scaled)[:, 0], values, atol=1e-9)


def test_several_numbers_at_once():
    values = np.random.default_rng(6).standard_normal((50, 3)) * [1, 10, 100]
    target = TargetEncoder().fit(values)
    assert target.outputs == 3
    np.testing.assert_allclose(target.decode(target.transform(values)), values, atol=1e-10)


def test_a_constant_regression_target_stays_finite():
    target = TargetEncoder("regression").fit([5.0, 5.0])
    assert not target.transform([5.0]).any() and target.decode([[0.0]]) == 5


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        ("regression", ["a", "b"], "holds texts such as 'a'"),
        ("classification", [0.5, 1.0], "fractional numbers such as 0.5"),
        ("auto", ["a", "a"], "single class, 'a'"),
        ("auto", ["a", None], "no usable value in 1 of 2 rows, first in row 2"),
        ("auto", [1.0, np.nan], "no usable value"),
        ("auto", [1.0, np.inf], "row 2: inf"),
        ("regression", np.array([[1.0, np.nan], [1, 2]]), "no usable value"),
        ("classification", np.eye(2), "argmax"),
        ("auto", [], "not empty"),
        ("guess", [1, 2], "expected one of"),
    ],
)
def test_target_encoder_refuses(task, values, words):
    with pytest.raises(ValueError, match=words):
        TargetEncoder(task).fit(values)


def test_a_class_of_the_test_rows_only_is_refused():
    with pytest.raises(ValueError, match="row 2, is 'c'.*their classes are a, b"):
        TargetEncoder().fit(["a", "b"]).transform(["a", "c"])


# Through a file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Standardize, Center])
@pytest.mark.parametrize("impute", [False, True])
def test_arrays_come_back(cls, impute):
    x = np.random.default_rng(7).standard_normal((20, 3))
    old = cls(impute=impute, dtype="float64").fit(x)
    new = through_json(old)
    assert type(new) is cls and new.get_config() == old.get_config()
    np.testing.assert_array_equal(new.transform(x), old.transform(x))


@pytest.mark.parametrize("target", [["x", "y", "x", "z"], [1, 2, 1, 3], [0.5, 1.5, 2.0, 0.1]])
def test_a_preparation_comes_back(target):
    old = Preparation(TableEncoder(impute=True), TargetEncoder(name="t")).fit((TABLE, target))
    new = through_json(old)
    np.testing.assert_array_equal(new.transform(TABLE), old.transform(TABLE))
    np.testing.assert_array_equal(new.target.transform(target), old.target.transform(target))
    outputs = [0, 1, 1] if old.target.task == "classification" else [[0.3], [0.1]]
    assert new.target.decode(outputs).tolist() == old.target.decode(outputs).tolist()
    assert new.inputs.feature_names == old.inputs.feature_names


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("wavelets", {}, "unknown preprocessing 'wavelets'"),
        ("standardize", {}, "damaged"),
        ("standardize", {"colour": 3}, "damaged"),
        ("table", {}, "damaged"),
        ("preparation", {"inputs": 3}, "damaged"),
    ],
)
def test_a_damaged_state_is_refused(kind, config, words):
    with pytest.raises(ValueError, match=words):
        from_state(kind, config, {})
