"""Checks of one argument: one place, one wording.

A wrong argument gives `TypeError` for something that is no array or has the wrong dtype,
`ValueError` for a wrong shape, layout or value. A message says what was given, what was expected and
how to get there.

What the kernels rely on, and what is therefore checked of every array: it is a plain
`numpy.ndarray` (or a `numpy.memmap`), float32 or float64 in the machine's byte order, C-contiguous
and aligned; an output is writable as well. Nothing is ever copied silently to make it so.

Overlap. An output may be *exactly* an input of the same size where the operation allows it
(elementwise operations, softmax, batch norm, losses: in place); it may never overlap an input in
part, nor another output. A matrix product and maxout take no overlap at all.

The functions here check one thing each; the package `fastnn.contracts` puts them together per operation.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
Activation: TypeAlias = "str | tuple[str, Mapping[str, Any]] | None"
Parsed: TypeAlias = "tuple[str | None, Mapping[str, Any]]"

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

#: Activations that can be fused into dense and batch norm, with their parameters' defaults.
ACTIVATIONS: Mapping[str, Mapping[str, Any]] = {
    "relu": {},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "selu": {},
    "sigmoid": {},
    "tanh": {},
    "softplus": {},
    "relu6": {},
    "hard_sigmoid": {},
    "hard_tanh": {},
    "silu": {},
    "gelu": {"approximate": "none"},
    "hard_swish": {},
}

#: Those whose output does not tell the derivative: their backward takes the saved input.
NEEDS_INPUT = frozenset({"silu", "gelu", "hard_swish"})


# --- arrays ------------------------------------------------------------------------------------


def check_array(
    x: Any,
    name: str,
    *,
    ndim: int | None = None,
    dtype: Any = None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Raise unless `x` is an array the kernels can take as it is.

    Parameters
    ----------
    x
        What the caller passed.
    name
        What the caller calls it.
    ndim, shape
        The expected rank or shape, if one is.
    dtype
        The expected dtype; by default float32 or float64.

    Raises
    ------
    TypeError
        `x` is not an array, or of another dtype or byte order.
    ValueError
        Its shape is wrong, it is not C-contiguous or not aligned.
    """
    if type(x) is not np.ndarray:
        _check_type(x, name)
    given = x.dtype
    if dtype is None:
        if given is not FLOAT32 and given is not FLOAT64:
            _check_dtype(x, name, (FLOAT32, FLOAT64))
    elif given is not dtype:
        _check_dtype(x, name, (np.dtype(dtype),))
    if ndim is not None and x.ndim != ndim:
        raise ValueError(f"{name} must have {_axes(ndim)}, got {_axes(x.ndim)}: shape {x.shape}")
    if shape is not None and x.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {x.shape}")
    flags = x.flags
    if not flags.carray:  # contiguous, aligned and writable, in one look; inputs may be read-only
        _check_layout(x, name, flags)


def check_out(out: Array | None, shape: tuple[int, ...], dtype: Any, name: str = "out") -> Array:
    """Return `out` if it can take a result of this shape and dtype, or a new array if it is None.

    Raises
    ------
    TypeError, ValueError
        As `check_array`; also `ValueError` where `out` is read-only.
    """
    if out is None:
        return np.empty(shape, dtype)
    check_writable(out, name, dtype=dtype, shape=shape)
    return out


def check_writable(x: Any, name: str, *, dtype: Any, shape: tuple[int, ...]) -> None:
    """Raise as `check_array`, and also unless `x` may be written to."""
    check_array(x, name, dtype=dtype, shape=shape)
    if not x.flags.writeable:
        raise ValueError(f"{name} is read-only: pass a writable array")


def check_overlap(out: Array, name: str, same: Mapping[str, Any], apart: Mapping[str, Any]) -> None:
    """Raise where `out` overlaps an input in a way that the operation does not allow.

    `same`: arrays by name that `out` may be exactly; `apart`: arrays that it may not touch at all.
    None values are skipped. The arrays are contiguous, so comparing their bounds is exact.
    """
    # Two arrays that own their memory share none, which is ten times as fast to see.
    owns = out.flags.owndata
    for other_name, other in same.items():
        if other is None or other is out or (owns and other.flags.owndata):
            continue
        if not np.may_share_memory(out, other):
            continue
        if out.nbytes != other.nbytes or out.ctypes.data != other.ctypes.data:
            raise ValueError(
                f"{name} overlaps {other_name} in part: pass {other_name} itself (in place) "
                "or separate memory"
            )
    for other_name, other in apart.items():
        if other is None or (other is not out and owns and other.flags.owndata):
            continue
        if np.may_share_memory(out, other):
            raise ValueError(f"{name} overlaps {other_name}: pass separate memory")


def check_same(x: Any, name: str, like: Array) -> None:
    """Raise unless `x` is a valid array of the shape and dtype of `like`."""
    check_array(x, name, dtype=like.dtype, shape=like.shape)


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"


def _check_type(x: Any, name: str) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array, got {type(x).__name__}: convert it with "
            "np.asarray(..., dtype=np.float32)"
        )
    if isinstance(x, np.matrix | np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain NumPy array, got {type(x).__name__}: pass np.asarray({name})"
        )


def _check_dtype(x: Array, name: str, expected: tuple[np.dtype[Any], ...]) -> None:
    given = x.dtype
    if given in expected:
        return
    wanted = " or ".join(map(str, expected))
    if given.newbyteorder("=") in expected:
        raise TypeError(
            f"{name} must be in the byte order of this machine, got {given.str!r}: "
            f"convert it with {name}.astype(np.{given.newbyteorder('=')})"
        )
    raise TypeError(
        f"{name} must be {wanted}, got {given}: convert it with {name}.astype(np.{expected[0]})"
    )


def _check_layout(x: Array, name: str, flags: Any) -> None:
    if not flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous, got shape {x.shape} with strides {x.strides} (bytes): "
            f"pass np.ascontiguousarray({name})"
        )
    if not flags.aligned:
        raise ValueError(
            f"{name} must be aligned to its {x.dtype.itemsize}-byte items, but starts at an odd "
            f"address: pass {name}.copy()"
        )


# --- numbers -----------------------------------------------------------------------------------


def check_real(value: Any, name: str) -> float:
    """Return `value` as a float, or raise `TypeError` where it is no real number."""
    if type(value) is float:
        return value
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    return float(value)


def check_positive(value: Any, name: str) -> float:
    """Return `value` as a float, or raise unless it is finite and greater than 0."""
    number = check_real(value, name)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name} must be finite and greater than 0, got {value!r}")
    return number


def check_slope(value: Any, name: str) -> float:
    """Return `value` as a float, or raise unless it is greater than 0 and float32 can hold it.

    For both dtypes: an activation is the same whatever it is computed in.
    """
    number = check_real(value, name)
    if not 0.0 < number <= LARGEST_FLOAT32:
        raise ValueError(
            f"{name} must be greater than 0 and at most {LARGEST_FLOAT32:.1e}, the largest float32, "
            f"got {value!r}"
        )
    return number


def check_not_negative(value: Any, name: str) -> float:
    """Return `value` as a float, or raise unless it is finite and at least 0."""
    number = check_real(value, name)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
    return number


def check_fraction(value: Any, name: str, *, closed: bool = False) -> float:
    """Return `value` as a float, or raise unless it is in [0, 1), with `closed` in [0, 1]."""
    number = check_real(value, name)
    if not (0.0 <= number < 1.0 or (closed and number == 1.0)):
        raise ValueError(f"{name} must be in [0, 1{']' if closed else ')'}, got {value!r}")
    return number


def check_integer(value: Any, name: str, low: int, high: int) -> int:
    """Return `value` as an int, or raise unless it is an integer with low <= value <= high."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} ({type(value).__name__})"
        ) from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {number}")
    return number


def check_axis(axis: Any, ndim: int) -> int:
    """Return `axis` counted from the front, or raise where an array of `ndim` axes has no such."""
    number = check_integer(axis, "axis", -ndim, ndim - 1)
    return number + ndim if number < 0 else number


# --- activations -------------------------------------------------------------------------------


def check_approximate(value: Any) -> str:
    """Return the form of GELU, or raise unless it is "none" or "tanh"."""
    if value not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", got {value!r}')
    return str(value)


_PARAMETER_CHECKS: Mapping[str, Any] = {
    "negative_slope": lambda value: check_slope(value, "negative_slope"),
    "alpha": lambda value: check_slope(value, "alpha"),
    "approximate": check_approximate,
}

_PLAIN: dict[Any, Parsed] = {
    None: (None, MappingProxyType({})),
    **{name: (name, MappingProxyType(dict(given))) for name, given in ACTIVATIONS.items()},
}


def parse_activation(spec: Activation) -> Parsed:
    """Return the name and all parameters of an activation specification.

    Parameters
    ----------
    spec
        None, a name, or a pair of a name and some or all of its parameters.

    Returns
    -------
    name, parameters
        (None, {}) for None; parameters that were not given have their defaults.

    Raises
    ------
    TypeError, ValueError
        Unknown name, unknown parameter, or a parameter out of range.

    Examples
    --------
    >>> name, parameters = parse_activation(("leaky_relu", {"negative_slope": 0.2}))
    >>> name, dict(parameters)
    ('leaky_relu', {'negative_slope': 0.2})
    """
    try:
        return _PLAIN[spec]
    except (KeyError, TypeError):  # TypeError: the pair holds a dict, which has no hash
        return _parse_pair(spec)


def _parse_pair(spec: Any) -> Parsed:
    if isinstance(spec, str):
        _unknown_activation(spec)
    if not (isinstance(spec, tuple | list) and len(spec) == 2 and isinstance(spec[1], Mapping)):
        raise TypeError(
            'activation must be None, a name such as "relu", or a pair such as '
            f'("leaky_relu", {{"negative_slope": 0.2}}), got {spec!r}'
        )
    name, given = spec
    if not isinstance(name, str) or name not in ACTIVATIONS:
        _unknown_activation(name)
    defaults = ACTIVATIONS[name]
    unknown = sorted(set(given) - set(defaults), key=str)
    if unknown:
        raise ValueError(
            f"{name} has no parameter {unknown[0]!r}; it takes "
            + (", ".join(defaults) if defaults else "none")
        )
    checked = {key: _PARAMETER_CHECKS[key](given.get(key, defaults[key])) for key in defaults}
    return name, MappingProxyType(checked)


def _unknown_activation(name: Any) -> NoReturn:
    raise ValueError(f"unknown activation {name!r}; known are {', '.join(ACTIVATIONS)}")
