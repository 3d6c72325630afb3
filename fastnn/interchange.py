"""Arrays and tables of other libraries, as NumPy arrays.

`numpy.asarray` asks an object for its memory: by the buffer protocol, or by `__array__`, as tensors of
PyTorch and arrays of JAX have it. Objects that have only DLPack are asked by that. None of these
copies memory that NumPy can address. DLPack is not the first to be asked because PyTorch exports a
tensor with its negative bit set (`x.conj().imag`) with the wrong sign (seen with 2.13).

Tables of pandas and polars are read by their columns, all of which have to be numbers. They keep each
column in one piece, so a copy is made, in the order that the kernels read; not where a pandas frame
was made around an array of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: What reading the memory of an object of another library may raise.
REFUSALS = (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError)


def to_numpy(values: Any, name: str) -> Any:
    """What another library made, as a NumPy array, without a copy where that can be.

    Parameters
    ----------
    values
        An array or tensor in the CPU's memory, a DataFrame or Series. Anything that says of itself
        neither is handed back: lists, None, sparse matrices of SciPy.
    name : str
        Of the argument, for errors.

    Raises
    ------
    TypeError
        The memory cannot be read (another device, a tensor that requires a gradient), or a column
        of a table does not hold numbers.

    Examples
    --------
    >>> import array
    >>> to_numpy(memoryview(array.array("f", [1.0, 2.0])), "X")
    array([1., 2.], dtype=float32)
    >>> to_numpy([1.0, 2.0], "X")
    [1.0, 2.0]
    """
    if isinstance(values, (np.ndarray, list, tuple)):
        return values
    if hasattr(type(values), "columns") and hasattr(type(values), "dtypes"):
        return _of_table(values, name)
    try:
        if hasattr(values, "__array__") or isinstance(values, memoryview):
            return _of_array(values)
        if hasattr(values, "__dlpack__"):
            return np.from_dlpack(values)
    except REFUSALS as error:
        raise TypeError(f"{name} {_why_not(values, name, error)}") from None
    return values


def _of_array(values: Any) -> np.ndarray:
    array = np.asarray(values)
    kind = array.dtype.kind
    if kind == "V" and array.dtype.fields is None and np.can_cast(array.dtype, np.float32):
        return array.astype(np.float32)  # bfloat16 and its likes, which JAX adds to NumPy
    if kind == "O" and hasattr(values, "isna") and _holds_numbers(values.dtype):
        return _filled(values)
    return array


def _of_table(table: Any, name: str) -> np.ndarray:
    if not hasattr(table, "to_numpy"):
        raise TypeError(
            f"{name} is a {type(table).__name__}, expected a table in memory: pass {name}.collect()"
        )
    for column, dtype in zip(table.columns, table.dtypes, strict=True):
        if not _holds_numbers(dtype):
            raise TypeError(
                f"{name} has the column {column!r} of type {dtype}, expected numbers: leave such "
                "columns out, or encode them first (fastnn.preprocessing.TableEncoder)"
            )
    array = np.asarray(table)
    return _filled(table) if array.dtype.kind == "O" else array


def _filled(pandas: Any) -> np.ndarray:
    """What pandas holds as objects because a value is missing, or numbers stand beside booleans."""
    return np.asarray(pandas.to_numpy(np.float64, na_value=np.nan))


def _holds_numbers(dtype: Any) -> bool:
    """Whether a column of this type, of NumPy, pandas or polars, holds real numbers or booleans."""
    if hasattr(dtype, "kind"):
        return dtype.kind in "fiub"
    if hasattr(dtype, "is_float"):
        return dtype.is_float() or dtype.is_integer() or str(dtype) in ("Boolean", "Null")
    return False


def _why_not(values: Any, name: str, error: BaseException) -> str:
    """The end of a sentence that starts with the name: what came, what was expected, what to do."""
    if getattr(values, "requires_grad", False):
        return f"requires a gradient, which would end in fastnn: pass {name}.detach()"
    if (device := _device(values)) != "cpu":
        return f"lies on the device {device!r}, expected the CPU's memory: pass {name}.cpu()"
    if "bfloat16" in str(getattr(values, "dtype", "")).lower():
        return f"is of type bfloat16, which NumPy has not: pass {name}.float()"
    reason = str(error).strip().partition("\n")[0]
    return f"is a {type(values).__name__} that cannot be read as an array of numbers ({reason})"


def _device(values: Any) -> str:
    """Where a tensor lies, as its library calls it; "cpu" where it does not say."""
    try:
        if values.__dlpack_device__()[0] == 1:  # kDLCPU
            return "cpu"
    except (AttributeError, *REFUSALS):
        pass
    return str(getattr(values, "device", "cpu"))
