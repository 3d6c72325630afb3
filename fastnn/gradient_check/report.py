"""What a gradient check found, as an object that is true where it passed and prints as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from fastnn.text import aligned

#: Rows of the list of worst elements in the printed report.
SHOWN = 10


def relative_error(approx: np.ndarray | float, grad: np.ndarray | float) -> float:
    """‖approx − grad‖₂ / ((‖approx‖₂ + ‖grad‖₂) / 2); 0 where both are zero.

    Examples
    --------
    >>> relative_error(np.array([3.0, 4.0]), np.array([3.0, 4.0]))
    0.0
    >>> relative_error(1.0, 3.0)
    1.0
    """
    approx, grad = np.ravel(approx), np.ravel(grad)
    size = (float(np.linalg.norm(approx)) + float(np.linalg.norm(grad))) / 2
    return float(np.linalg.norm(approx - grad)) / size if size else 0.0


@dataclass(frozen=True)
class Element:
    """One element of a parameter, with both values of its derivative.

    Attributes
    ----------
    name : str
        The parameter, such as "0.weight".
    index : tuple of int
        The place in it.
    gradient, difference : float
        By backward, and by centred differences.
    error : float
        `relative_error` of the two.
    """

    name: str
    index: tuple[int, ...]
    gradient: float
    difference: float
    error: float


@dataclass(frozen=True)
class Kink:
    """An element whose difference quotient meets a kink of the loss.

    Attributes
    ----------
    name, index
        As in `Element`.
    where : str
        The layer that bends there, such as "2 (ReLU)", or "loss"; empty where it is not known (a
        layer or a function of the user's).
    left_out : bool
        The kink lies at the parameter's value itself, so there is no derivative to compare with.
        Else it lies beside it, and the element was checked with a step that stops before it.
    """

    name: str
    index: tuple[int, ...]
    where: str
    left_out: bool


@dataclass(frozen=True)
class ParameterResult:
    """One parameter: how many of its elements were checked and differ, and its `relative_error`."""

    name: str
    shape: tuple[int, ...]
    checked: int
    differ: int
    error: float


@dataclass(frozen=True)
class GradientReport:
    """The result of `fastnn.gradcheck`: true where it passed; printing it tells what was found.

    Attributes
    ----------
    error : float
        ‖approx − grad‖₂ / ((‖approx‖₂ + ‖grad‖₂) / 2) over all parameters together.
    tolerance : float
        What it is compared with.
    step : float
        Of the centred differences, times max(1, \\|θ\\|) for a parameter θ.
    checked, total : int
        Elements of the parameters that were compared, and all there are.
    differ : int
        Elements whose two values differ by more than rounding and kinks explain.
    worst : tuple of Element
        The worst of these, worst first.
    kinks : tuple of Kink
    parameters : tuple of ParameterResult
        In the model's order; "x" stands for the input.
    rounding : float
        The part of `error` that the rounding of the loss explains.
    trouble : str
        Why the check failed although no element differs; empty otherwise.
    """

    error: float
    tolerance: float
    step: float
    checked: int
    total: int
    differ: int
    rounding: float
    worst: tuple[Element, ...] = ()
    kinks: tuple[Kink, ...] = ()
    parameters: tuple[ParameterResult, ...] = ()
    trouble: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """The verdict."""
        return not self.differ and not self.trouble

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterable[str]:
        if self.passed and self.error < self.tolerance:
            yield f"gradient check passed: relative error {self.error:.2g}, below {self.tolerance:g}"
        elif self.passed:
            yield (
                f"gradient check passed: relative error {self.error:.2g}, which the rounding of the "
                f"loss explains ({self.rounding:.2g})"
            )
        elif self.differ:
            yield (
                f"gradient check FAILED: {self.differ:,} element{'s'[: self.differ != 1]} differ, "
                f"relative error {self.error:.2g} (passes below {self.tolerance:g})"
            )
        else:
            yield f"gradient check FAILED: relative error {self.error:.2g}"
        if self.trouble:
            yield f"  {self.trouble}"
        part = "all" if self.checked == self.total else f"{self.checked:,} of"
        yield f"  {part} {self.total:,} elements, steps of {self.step:g}, float64"
        yield from (f"  {note}" for note in self.notes)
        yield from (f"  {line}" for line in self._about_kinks())
        yield ""
        rows = [("parameter", "shape", "checked", "differ", "relative error")]
        for p in self.parameters:
            counts = f"{p.checked:,}", f"{p.differ:,}"
            rows.append((p.name, str(p.shape), *counts, self._error_of(p)))
        yield from aligned(rows, "<<")
        if self.worst:
            yield ""
            shown = f", the worst {SHOWN}" if self.differ > SHOWN else ""
            yield f"elements that differ{shown}:"
            rows = [("parameter", "index", "by backward", "by differences", "relative error")]
            for e in self.worst[:SHOWN]:
                values = f"{e.gradient:.9g}", f"{e.difference:.9g}", f"{e.error:.2g}"
                rows.append((e.name, str(list(e.index)), *values))
            yield from aligned(rows, "<<")

    def _error_of(self, parameter: ParameterResult) -> str:
        # A gradient of zero, such as that of a bias before a batch norm, has no relative error.
        small = parameter.differ or parameter.error < self.tolerance
        return f"{parameter.error:.2g}" if small else "rounding"

    def _about_kinks(self) -> Iterable[str]:
        for left_out, what in (
            (False, "met a kink beside them and agree with a smaller step"),
            (True, "lie on a kink, where there is no derivative, and are left out"),
        ):
            places = Counter(k.where for k in self.kinks if k.left_out is left_out)
            if places:
                where = ", ".join(f"{place or 'unknown'}: {n:,}" for place, n in places.items())
                yield f"{sum(places.values()):,} elements {what} ({where})"
