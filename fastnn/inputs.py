"""The data that a person gives to a model: checked, and converted where that is harmless.

`fastnn.functional` refuses what its kernels cannot take as it is. Here, one floor up, an array is
converted once to the model's dtype and to C order: other float types, integers and booleans, lists
and tables of numbers, arrays of other libraries (`fastnn.interchange`) are taken; complex numbers, text
and Python objects are not, and neither is a number that the model's dtype cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from .contracts.training import MOST_WEIGHT
from .interchange import to_numpy

Shape = tuple[int, ...]

# Rows are looked at in blocks of about this many elements: in cache, and no large temporary.
BLOCK_ELEMENTS = 1 << 14


def as_floats(values: Any, dtype: np.dtype[Any], name: str) -> np.ndarray:
    """An aligned, C-contiguous array of `dtype`; the array itself where it is one already.

    Raises
    ------
    TypeError
        Complex numbers, text, dates, Python objects, sparse matrices, what another library does not
        let go of (`interchange.to_numpy`).
    ValueError
        Masked values.
    """
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.carray:
        return values  # the usual case, and the only one that must be quick (train_on_batch)
    if callable(values) or hasattr(values, "first_block"):
        raise TypeError(
            f"{name} is a source of batches, expected an array: pass one of its blocks, "
            "or np.concatenate them"
        )
    if hasattr(values, "toarray") and not isinstance(values, np.ndarray):
        raise TypeError(f"{name} is a sparse matrix, expected a dense one: pass {name}.toarray()")
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has masked values: fill them, {name}.filled(...), or drop the rows"
        )
    values = to_numpy(values, name)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(
            f"{name} cannot be read as an array of numbers ({error}); "
            "every row needs the same number of values"
        ) from None
    kind = array.dtype.kind
    if kind not in "fiub":
        raise TypeError(f"{name} {_what_it_holds(array, kind)}")
    with np.errstate(over="ignore"):  # found below, and named with its place
        return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _what_it_holds(array: np.ndarray, kind: str) -> str:
    if kind == "c":
        return "is complex, expected real numbers: pass its real and imaginary parts as columns"
    text = (at for at, value in np.ndenumerate(array) if isinstance(value, (str, bytes)))
    at = next(text, None) if kind in "OUST" else None
    if at is not None:
        return (
            f"holds text ({str(array[at])!r:.40} at {list(at)}), expected numbers: encode such "
            "columns first (fastnn.preprocessing turns categories into one-hot columns)"
        )
    if kind == "O":
        return (
            "holds Python objects, expected numbers: where all of them are numbers, "
            "pass np.asarray(..., dtype=np.float64)"
        )
    return f"has the dtype {array.dtype}, expected numbers: convert it with .astype(np.float64)"


def as_rows(
    X: Any, dtype: np.dtype[Any], input_shape: Shape | None = None, name: str = "X"
) -> np.ndarray:
    """`as_floats` for samples: one row each, none missing, of the shape that the model expects.

    Raises
    ------
    TypeError
        As `as_floats`.
    ValueError
        A single axis, no rows, no columns, or rows of another shape.
    """
    rows = as_floats(X, dtype, name)
    if rows.ndim < 2:
        raise ValueError(
            f"{name} has the shape {rows.shape}, expected one row per sample (N, D): for one "
            f"sample pass {name}.reshape(1, -1), for one feature {name}.reshape(-1, 1)"
        )
    if rows.size == 0:
        raise ValueError(f"{name} is empty: its shape is {rows.shape}")
    if input_shape is not None and rows.shape[1:] != input_shape:
        if rows[0].size == np.prod(input_shape) and len(input_shape) == 1:
            hint = f": flatten the rows with {name}.reshape(len({name}), -1)"
        else:
            hint = ""
        given, expected = _per_row(rows.shape[1:]), _per_row(input_shape)
        raise ValueError(f"{name} has {given} per row, this model takes {expected}{hint}")
    return rows


def _per_row(shape: Shape) -> str:
    return f"{shape[0]} value{'s'[: shape[0] != 1]}" if len(shape) == 1 else f"an array {shape}"


def check_lengths(X: np.ndarray, y: Any, names: tuple[str, str] = ("X", "y")) -> None:
    """Raise unless `y` has as many rows as X."""
    try:
        rows = len(y)
    except TypeError:
        raise TypeError(f"{names[1]} is {y!r}, expected one target for each row") from None
    if len(X) != rows:
        raise ValueError(
            f"{names[0]} has {len(X)} rows but {names[1]} has {rows}: each row needs its own target"
        )


def as_weights(
    weights: Any, n_rows: int, dtype: np.dtype[Any], name: str = "sample_weight", first: int = 0
) -> np.ndarray:
    """`as_floats` for the weights of `n_rows` rows, the first of which has the number `first`.

    A copy: what was checked must stay what the kernels read, whatever happens to the caller's array.

    Raises
    ------
    TypeError
        As `as_floats`.
    ValueError
        Not one weight for each row, one that is negative or not finite, or a sum beyond what the
        losses take (`fastnn.contracts.training`).
    """
    checked = np.array(as_floats(weights, dtype, name))
    if checked.shape != (n_rows,):
        column = checked.shape == (n_rows, 1)
        raise ValueError(
            f"{name} has the shape {checked.shape}, expected one weight for each row ({n_rows},)"
            + (f": pass {name}.ravel()" if column else "")
        )
    check_finite(checked, weights, name, first)
    if n_rows and checked.min() < 0:
        row = int((checked < 0).argmax())
        raise ValueError(
            f"{name} holds {checked[row]:g} at row {first + row}, expected weights from 0 up: "
            "leave such rows out, or weigh them 0"
        )
    most = MOST_WEIGHT[checked.itemsize]
    with np.errstate(over="ignore"):
        total = float(checked.sum(dtype=np.float64))
    if total > most:
        raise ValueError(
            f"{name} adds up to {total:.3g}, expected at most {most:.3g} in {dtype}: divide it by its "
            "largest, only the proportions count"
        )
    return checked


def check_some_weight(weights: np.ndarray, name: str = "sample_weight") -> None:
    """Raise ValueError where weights add up to nothing: there is no mean to speak of."""
    if float(weights.sum(dtype=np.float64)) < np.finfo(weights.dtype).tiny:
        raise no_row_counts(weights.dtype, name)


def no_row_counts(dtype: np.dtype[Any], name: str = "sample_weight") -> ValueError:
    """The error about weights that leave nothing of a loss."""
    return ValueError(
        f"{name} is zero everywhere, as {dtype} has it: at least one row has to count"
    )


def all_finite(array: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity; reads block by block, without a large temporary."""
    if array.size <= BLOCK_ELEMENTS:
        return _finite(array)
    return next(_blocks_not_finite(array), None) is None


def _blocks_not_finite(array: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        if not _finite(array[rows]):
            yield rows


def _finite(block: np.ndarray) -> bool:
    if block.flags.carray and block.dtype.char in "fd":
        # Here: the command line imports this module before it can say that the kernels cannot be.
        from ._kernels import updates as kernels

        return kernels.all_finite(block)  # four times as fast as NumPy, and without a temporary
    return bool(np.isfinite(block).all())


def check_finite(array: np.ndarray, original: Any, name: str, first: int = 0) -> None:
    """Raise ValueError at the first NaN or infinity, naming its row and column.

    `original` is what the user gave: a finite number there means that it did not fit the dtype.
    `first` is the number of the array's first row.
    """
    if array.dtype.kind == "f":
        for rows in _blocks_not_finite(array):
            _refuse(array, np.asarray(original), rows, name, first)


def _refuse(
    array: np.ndarray, original: np.ndarray, rows: slice, name: str, first: int
) -> NoReturn:
    bad = np.argwhere(~np.isfinite(array[rows]))
    place = (rows.start + int(bad[0][0]), *map(int, bad[0][1:]))
    value = array[place]
    at = f"row {first + place[0]}"
    if len(place) == 2:
        at += f", column {place[1]}"
    elif len(place) > 2:
        at += f", position {place[1:]}"
    numbers = original.shape == array.shape and original.dtype.kind in "fiub"
    given = original[place] if numbers else value
    if given.dtype.kind != "f" or np.isfinite(given):
        raise ValueError(
            f"{name} holds {given:g} at {at}, more than {array.dtype} can hold: "
            "scale the data, or build the model with dtype='float64'"
        )
    more = " (not the only one)" if len(bad) > 1 else ""
    raise ValueError(
        f"{name} holds {value:g} at {at}{more}, expected finite numbers: drop such rows, or fill "
        "the gaps (np.nan_to_num, fastnn.preprocessing, --impute on the command line)"
    )


def evenly(n: int, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Indices of at most `count` of n rows, evenly spaced: of every class where the rows are sorted.

    With weights, rows are there as often as these say: none of weight 0, heavy ones more than once.

    Examples
    --------
    >>> evenly(9, 3).tolist(), evenly(4, 4, np.array([0.0, 2.0, 1.0, 1.0])).tolist()
    ([0, 4, 8], [1, 1, 2, 3])
    """
    if weights is not None and weights.any():
        up_to = np.cumsum(weights, dtype=np.float64)
        places = (np.arange(min(n, count)) + 0.5) / min(n, count)
        return np.searchsorted(up_to, places * up_to[-1], side="right")
    return np.linspace(0, n - 1, min(n, count)).round().astype(np.int64)
