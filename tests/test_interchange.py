"""Arrays of other libraries are taken as if they were NumPy's; without a copy where that can be."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.inputs import as_rows
from fastnn.interchange import to_numpy

F32 = np.dtype(np.float32)
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((60, 5), np.float32)
LABELS = RNG.integers(0, 3, 60)


def network() -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(8), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(3)], seed=0)


def everything(X: Any, y: Any) -> list[Any]:
    """What each entrance of the high-level API makes of the data."""
    model = network()
    history = model.fit(X, y, batch_size=16, epochs=2, validation_data=(X, y), verbose=False)
    loss = model.train_on_batch(X, y)
    return [
        history["loss"], history["val_loss"], loss, model.evaluate(X, y),
        model.predict(X).tolist(), model.predict_proba(X).tolist(), model.forward(X).tolist(),
    ]  # fmt: skip


class OnlyDLPack:
    """An array of a library that knows DLPack and nothing else."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __len__(self) -> int:
        return len(self.values)


class OnGPU:
    """A tensor in the memory of a GPU, as NumPy meets it."""

    requires_grad = False
    device = "cuda:0"

    def __array__(self, *_: Any, **options: Any) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def polars_table(values: np.ndarray) -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame(values) if values.ndim == 2 else polars.Series(values)


def pandas_table(values: np.ndarray) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(values) if values.ndim == 2 else pandas.Series(values)


def torch_tensor(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").tensor(values)


def jax_array(values: np.ndarray) -> Any:
    return pytest.importorskip("jax").numpy.asarray(values)


def memory_view(values: np.ndarray) -> Any:
    """The buffer protocol, of what is no array."""
    return memoryview(values)


LIBRARIES = [pandas_table, polars_table, torch_tensor, jax_array, OnlyDLPack, memory_view]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda f: f.__name__)
def test_every_entrance_takes_them_and_gives_the_same_bits(library: Any) -> None:
    assert everything(library(ROWS), library(LABELS)) == everything(ROWS, LABELS)


@pytest.mark.parametrize("library", [torch_tensor, jax_array, OnlyDLPack, memory_view])
def test_rows_of_the_right_type_are_not_copied(library: Any) -> None:
    theirs = library(ROWS)
    seen = as_rows(theirs, F32)
    direct = theirs.values if isinstance(theirs, OnlyDLPack) else np.asarray(theirs)
    assert np.shares_memory(seen, direct)


def test_a_frame_around_rows_is_not_copied() -> None:
    pandas = pytest.importorskip("pandas")
    rows = ROWS.copy()
    assert np.shares_memory(as_rows(pandas.DataFrame(rows, copy=False), F32), rows)


def test_other_dtypes_and_orders_are_converted() -> None:
    torch = pytest.importorskip("torch")
    for theirs in (torch.tensor(ROWS).double(), torch.tensor(ROWS.T.copy()).T):
        seen = as_rows(theirs, F32)
        assert seen.flags.c_contiguous and seen.dtype == F32
        np.testing.assert_array_equal(seen, ROWS)
    conjugated = torch.tensor(ROWS + 1j * ROWS).conj()
    with pytest.raises(TypeError, match="X is a Tensor that cannot be read .* negative bit"):
        as_rows(conjugated.imag, F32)  # DLPack would pass it on with the wrong sign


def test_a_type_of_jax_that_numpy_has_not() -> None:
    jax = pytest.importorskip("jax")
    rounded = jax.numpy.asarray(ROWS, jax.numpy.bfloat16)
    np.testing.assert_array_equal(as_rows(rounded, F32), np.asarray(rounded).astype(F32))


# Refused -----------------------------------------------------------------------------------------


def test_a_tensor_that_requires_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(ROWS, requires_grad=True)
    with pytest.raises(TypeError, match=r"X requires a gradient.* pass X\.detach\(\)"):
        network().fit(tensor, LABELS)
    model = network()
    model.compile()
    with pytest.raises(TypeError, match=r"y requires a gradient.* pass y\.detach\(\)"):
        model.train_on_batch(ROWS, torch.zeros(60, requires_grad=True))


def test_a_tensor_on_another_device() -> None:
    expected = r"X lies on the device '{}', expected the CPU's memory: pass X\.cpu\(\)"
    with pytest.raises(TypeError, match=expected.format("cuda:0")):
        network().forward(OnGPU())
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=expected.format("meta")):
        network().fit(torch.empty(60, 5, device="meta"), LABELS)


def test_tensors_that_numpy_cannot_hold() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"X is of type bfloat16.* pass X\.float\(\)"):
        as_rows(torch.tensor(ROWS).bfloat16(), F32)
    with pytest.raises(TypeError, match="X is a Tensor that cannot be read .*to_dense"):
        as_rows(torch.tensor(ROWS).to_sparse(), F32)


# Tables ------------------------------------------------------------------------------------------


def test_columns_of_pandas_that_are_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1.5, 2.0], "b": [True, False], "c": [3, 4]})
    np.testing.assert_array_equal(as_rows(table, F32), [[1.5, 1, 3], [2, 0, 4]])
    table = pandas.DataFrame({"a": [1, None], "b": [1.0, 2.0]}, dtype="Float64")
    assert np.isnan(as_rows(table, F32)).tolist() == [[False, False], [True, False]]
    with pytest.raises(ValueError, match="X holds nan at row 1, column 0"):
        network().fit(table, [0, 1])
    labels = pandas.Series([True, None], dtype="boolean")
    with pytest.raises(ValueError, match="y holds nan in row 1"):
        network().fit(ROWS[:2], labels)


def test_columns_of_polars_that_are_numbers() -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"a": [1.5, 2.0], "b": [True, False], "c": [3, None]})
    with pytest.raises(ValueError, match="X holds nan at row 1, column 2"):
        network().fit(table, [0, 1])
    np.testing.assert_array_equal(as_rows(table[:1], F32), [[1.5, 1, 3]])
    with pytest.raises(TypeError, match=r"X is a LazyFrame, .* pass X\.collect\(\)"):
        as_rows(table.lazy(), F32)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_are_no_numbers_are_named(library: str) -> None:
    frames = pytest.importorskip(library)
    # seen: polars reads dates beside whole numbers as numbers of days
    dates = np.array(["2020-01-01", "2021-01-01"], "datetime64[ms]")
    for column in (dates, ["x", "y"]):
        with pytest.raises(TypeError, match="X has the column 'b' of type .*, expected numbers"):
            as_rows(frames.DataFrame({"a": [1, 2], "b": column}), F32)


def test_what_belongs_to_nobody_is_handed_back() -> None:
    for values in (None, [1, 2], (3.0,), "text", 5):
        assert to_numpy(values, "y") is values
    assert to_numpy(memoryview(array.array("f", [1.0])), "y").dtype == F32
