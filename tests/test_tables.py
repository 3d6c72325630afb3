"""Tables and data sets from files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn import datasets


def read(tmp_path, content, name="table.csv", **options):
    pytest.importorskip("polars")
    from fastnn.tables import read_table

    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " , "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_line_ends(tmp_path, separator, end):
    rows = [["n", "f", "t"], ["1", "0.5", "x y"], ["2", "-3e2", "z"]]
    content = end.join(separator.join(row) for row in rows) + end
    columns = read(tmp_path, content)
    assert {name: column.tolist() for name, column in columns.items()} == {
        "n": [1, 2],
        "f": [0.5, -300],
        "t": ["x y", "z"],
    }
    assert columns["n"].dtype == np.int64 and columns["t"].dtype == object


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "nan", "NULL", "?", " NA ", '""'])
def test_missing_cells(tmp_path, cell):
    columns = read(tmp_path, f"n,t\n1,x\n{cell},{cell}\n2,y\n")
    assert math.isnan(columns["n"][1]) and columns["n"].dtype == np.float64
    assert columns["t"].tolist() == ["x", None, "y"]


def test_a_text_in_the_last_of_many_rows_makes_a_column_text(tmp_path):
    columns = read(tmp_path, "a\n" + "1\n" * 5000 + "x\n")
    assert columns["a"][0] == "1" and columns["a"][-1] == "x"


def test_columns_asked_for_as_text_keep_their_zeros(tmp_path):
    columns = read(tmp_path, "zip,n\n00780,1\n", text=["zip", "absent"])
    assert columns["zip"].tolist() == ["00780"]


def test_quotes_a_byte_order_mark_and_boolean_spellings(tmp_path):
    columns = read(tmp_path, '\ufeff"a","b"\n"x, y",True\n"say ""z""",FALSE\n')
    assert columns["a"].tolist() == ["x, y", 'say "z"']
    assert columns["b"].tolist() == ["true", "false"]


def test_dropped_columns(tmp_path):
    assert list(read(tmp_path, "a,b,c\n1,2,3\n", drop=["b"])) == ["a", "c"]
    with pytest.raises(ValueError, match="no column 'C' .did you mean 'c'"):
        read(tmp_path, "a,b,c\n1,2,3\n", drop=["C"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "'a' stands twice"),
        ("a,b\n1,2,3\n", "cannot be read as a CSV"),
        (b"a\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_what_is_no_table(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, content)


def test_parquet(tmp_path):
    pl = pytest.importorskip("polars")
    from fastnn.tables import read_table

    path = tmp_path / "t.parquet"
    pl.DataFrame(
        {
            "i": [1, None, 3],
            "t": ["x", None, "y"],
            "b": [True, False, None],
            "c": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
            "d": pl.Series(["1.5", "2.5", "0.0"]).cast(pl.Decimal(10, 2)),
            "none": pl.Series([None, None, None]),
        }
    ).write_parquet(path)
    columns = read_table(path)
    np.testing.assert_array_equal(columns["i"], [1, np.nan, 3])
    assert columns["t"].tolist() == ["x", None, "y"]
    assert columns["b"].tolist() == ["true", "false", None]
    assert columns["c"].tolist() == ["u", "v", "u"]
    assert columns["d"].tolist() == [1.5, 2.5, 0]
    assert np.isnan(columns["none"]).all()


def test_parquet_that_cannot_be_used(tmp_path):
    pl = pytest.importorskip("polars")
    from fastnn.tables import read_table

    path = tmp_path / "t.parquet"
    pl.DataFrame({"when": ["2020-01-01"], "n": [1]}).with_columns(
        pl.col("when").str.to_date()
    ).write_parquet(path)
    with pytest.raises(ValueError, match="'when' holds Date.*--drop when"):
        read_table(path)
    assert list(read_table(path, drop=["when"])) == ["n"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cannot be read as a Parquet"):
        read_table(path)


def test_without_polars_the_extra_is_named(tmp_path, monkeypatch):
    from fastnn.tables import read_table

    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn\[table\]'"):
        read_table(tmp_path / "t.csv")


# Data sets ----------------------------------------------------------------------------------------


def test_split_keeps_the_shares_and_repeats_itself():
    y = np.repeat([0, 1, 2], [600, 300, 100])
    train, test = datasets.split(y, 0.2)
    assert sorted([*train, *test]) == list(range(1000))
    assert np.bincount(y[test]).tolist() == [120, 60, 20]
    again = datasets.split(y, 0.2)
    np.testing.assert_array_equal(test, again[1])
    assert (test != datasets.split(y, 0.2, seed=1)[1]).any()
    # Not simply the first or last rows of each class.
    assert test.min() < 20 and test.max() > 980 and len(np.unique(np.diff(test))) > 3


def test_split_leaves_every_class_a_training_row():
    y = np.array([0, 0, 0, 0, 1])
    train, _ = datasets.split(y, 0.5)
    assert set(y[train]) == {0, 1}


def test_split_refuses():
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        datasets.split(np.zeros(10), 1.0)
    with pytest.raises(ValueError, match="2 rows are too few"):
        datasets.split(np.array([0, 1]), 0.2)
    assert len(datasets.split(np.zeros(3), 0.0)[1]) == 0


def test_digits():
    pytest.importorskip("sklearn")
    data = datasets.digits()
    assert data.X_train.dtype == np.uint8 and data.X_train.max() == 16
    assert data.rows == (1438, 359)
    share = np.bincount(data.y_test) / np.bincount(np.concatenate([data.y_train, data.y_test]))
    assert abs(share - 0.2).max() < 0.005


def test_npz_with_its_own_split(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
    labels = np.arange(30) % 3
    np.savez(
        tmp_path / "a.npz",
        X_train=images[:20],
        y_train=labels[:20],
        X_test=images[20:],
        y_test=labels[20:],
    )
    data = datasets.load_npz(tmp_path / "a.npz")
    assert data.X_train.shape == (20, 48) and data.X_test.shape == (10, 48)
    np.testing.assert_array_equal(data.X_test[0], images[20].ravel())
    with pytest.raises(ValueError, match="brings its own test rows"):
        datasets.load_npz(tmp_path / "a.npz", test_fraction=0.5)


def test_npz_without_a_split(tmp_path):
    X, y = np.arange(200.0).reshape(100, 2), np.arange(100) % 2
    np.savez(tmp_path / "a.npz", X=X, y=y)
    data = datasets.load_npz(tmp_path / "a.npz", test_fraction=0.3)
    assert data.rows == (70, 30) and np.bincount(data.y_test).tolist() == [15, 15]
    np.testing.assert_array_equal(data.X_test[:, 0] / 2 % 2, data.y_test)
    assert datasets.load_npz(tmp_path / "a.npz", test_fraction=0.0).X_test is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"A": np.ones(3)}, "holds A; expected X and y"),
        ({"X": np.ones((3, 2)), "y": np.ones(4)}, "X has 3 rows and y 4"),
        ({"X": np.ones(3), "y": np.ones(3)}, "at least two axes"),
        ({"X": np.ones((0, 2)), "y": np.ones(0)}, "empty"),
        (
            {"X_train": np.ones((3, 2)), "y_train": np.ones(3), "X_test": np.ones((1, 2))},
            "only one",
        ),
        ({"X": np.ones((2, 2)), "y": np.array([{}, {}])}, "Python objects"),
        ({"X": np.array([[1, 2], [3, np.nan]]), "y": [0, 1]}, "X: NaN in row 1, column 1"),
        (
            {
                "X_train": np.ones((2, 2)),
                "y_train": [0, 1],
                "X_test": np.ones((2, 3)),
                "y_test": [0, 1],
            },
            "expected the same",
        ),
    ],
)
def test_npz_that_cannot_be_used(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        datasets.load_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 broken"])
def test_npz_that_is_none(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as an .npz"):
        datasets.load_npz(path)


def test_truncated_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.ones((100, 10)), y=np.zeros(100))
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 30):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cannot be read as an .npz"):
            datasets.load_npz(path)


def test_a_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="single array"):
        datasets.load_npz(tmp_path / "a.npy")
