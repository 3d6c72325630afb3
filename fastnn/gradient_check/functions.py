"""A function and a gradient of the user's own, at a theta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.gradient_check.differences import Array
from fastnn.inputs import as_floats, check_finite

FLOAT64 = np.dtype(np.float64)


class FunctionPoint:
    """`differences.Point` of f and df.

    Parameters
    ----------
    f : callable
        From theta to a number.
    df : callable or what one would return
        From theta to the gradient, in the form of theta.
    theta : array, or mapping of names to arrays
        Copied, as float64.
    """

    def __init__(self, f: Callable[[Any], Any], df: Any, theta: Any) -> None:
        self._f = f
        self._named = isinstance(theta, Mapping)
        given = dict(theta) if isinstance(theta, Mapping) else {"theta": theta}
        if not given:
            raise ValueError("theta is empty, expected at least one array")
        self._theta = {}
        for name, values in given.items():
            array = np.array(as_floats(values, FLOAT64, name))
            check_finite(np.atleast_1d(array), np.atleast_1d(values), name)
            if not array.size:
                raise ValueError(f"{name} is empty: its shape is {array.shape}")
            self._theta[str(name)] = array
        if self._named and len(self._theta) != len(given):
            raise ValueError("theta has two names that read the same")
        self.arrays = [Array(n, a.shape, a.size) for n, a in self._theta.items()]
        self.parameters = sum(a.size for a in self.arrays)
        self._flat = [a.reshape(-1) for a in self._theta.values()]
        self._ends = np.cumsum([a.size for a in self.arrays]).tolist()

        before = np.concatenate(self._flat)
        self.value = self._call()
        self.gradient = self._gradient(df)
        if not np.array_equal(np.concatenate(self._flat), before):
            raise ValueError("f or df changes theta: they must leave it as it is (copy it inside)")
        again = self._call()
        if again != self.value:
            raise ValueError(
                f"f returned {self.value!r} and, for the same theta, {again!r}: it draws random "
                "numbers or keeps something; make it a function of theta alone"
            )

    def _argument(self) -> Any:
        return self._theta if self._named else self._theta["theta"]

    def _call(self) -> float:
        returned = self._f(self._argument())
        if np.size(returned) != 1 or np.asarray(returned).dtype.kind not in "fiu":
            raise TypeError(f"f returned {returned!r:.60}, expected a single number")
        value = float(np.asarray(returned).reshape(-1)[0])
        if not math.isfinite(value):
            raise ValueError(f"f returned {value}: check at a theta where it is finite")
        return value

    def _gradient(self, df: Any) -> np.ndarray:
        returned = df(self._argument()) if callable(df) else df
        grads = returned if self._named else {"theta": returned}
        if not isinstance(grads, Mapping) or set(map(str, grads)) != set(self._theta):
            expected = ", ".join(self._theta)
            raise TypeError(
                f"df returned {returned!r:.60}, expected one array for each of {expected}"
            )
        parts = []
        by_name = {str(name): values for name, values in grads.items()}
        for array in self.arrays:
            part = as_floats(by_name[array.name], FLOAT64, f"the gradient of {array.name}")
            if part.shape != array.shape:
                raise ValueError(
                    f"df returned the shape {part.shape} for {array.name}, expected {array.shape}"
                )
            parts.append(part.reshape(-1))
        return np.concatenate(parts)

    def _place(self, i: int) -> tuple[np.ndarray, int]:
        """The array that holds theta[i], and the index in it."""
        start = 0
        for flat, end in zip(self._flat, self._ends, strict=True):
            if i < end:
                return flat, i - start
            start = end
        raise IndexError(i)

    def at(self, i: int) -> float:
        flat, j = self._place(i)
        return float(flat[j])

    def moved(self, i: int, step: float) -> tuple[float, float]:
        flat, j = self._place(i)
        before = float(flat[j])
        flat[j] = after = before + step
        try:
            return self._call(), after - before
        finally:
            flat[j] = before

    def along(self, direction: np.ndarray, step: float) -> float:
        before = [flat.copy() for flat in self._flat]
        start = 0
        try:
            for flat, end in zip(self._flat, self._ends, strict=True):
                flat += step * direction[start:end]
                start = end
            return self._call()
        finally:
            for flat, kept in zip(self._flat, before, strict=True):
                flat[:] = kept

    def bend(self, i: int, step: float) -> str:
        return ""
