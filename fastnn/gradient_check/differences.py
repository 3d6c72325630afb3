"""Centred differences of a function of many variables, and what to make of those that disagree.

For each element of theta, with a step h::

    approx = (f(theta + h) - f(theta - h)) / 2h  =  f'(theta) + h² f'''/6 + rounding of f / h

A difference between `approx` and a gradient can have four causes, and only the last one is an error:

- *rounding*: f is known to a few units in its last place. How many is measured (`noise`), so that an
  element is suspect only where it differs by more than that;
- *curvature*: h² f'''/6. It falls with the square of the step, and Richardson's extrapolation from h
  and h/2 removes it;
- *a kink* between theta − h and theta + h, where a ReLU or a maxout switches: the difference is gone
  as soon as the step stops short of it. A kink at theta itself shows as two one-sided derivatives that
  stay apart however small the step, with the gradient between them;
- *a wrong gradient*, which differs with every step.

So suspects are looked at again with smaller steps (`look_closer`). A smaller step takes the element
off the list only if it could have shown the difference, were it there.

Sources: Dennis and Schnabel (1983), section 5.4, on the step; Moré and Wild (2011), Estimating
computational noise, on `noise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fastnn.gradient_check.report import (
    Element,
    GradientReport,
    Kink,
    ParameterResult,
    relative_error,
)

#: Near the cube root of the float64 epsilon, where curvature and rounding are about equal.
STEP = 1e-5
#: Where the gradient is so short that rounding would hide it, steps up to this one are taken.
LARGEST_STEP = 1e-3
#: Fractions of the step that suspects are looked at with, after Richardson's extrapolation.
SMALLER = (1 / 2, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
#: A kink closer to theta than this fraction of the step counts as lying on it.
NEAREST = 1e-3
#: So many standard deviations of rounding are allowed: of 100,000 elements none goes beyond by chance,
#: also where the noise was estimated at half of what it is.
DEVIATIONS = 16.0
#: Once so many suspects have turned out to be wrong, the others are counted without a closer look.
ENOUGH_WRONG = 100
#: A check that rounding spoils still has to confirm this many digits.
COARSEST = 1e-3
#: Units in the last place of the loss. A computation in float64 is far below, one in float32 above.
COARSE_NOISE = 1e5
EPSILON = float(np.finfo(np.float64).eps)


class Array(NamedTuple):
    """A part of theta: its name and shape."""

    name: str
    shape: tuple[int, ...]
    size: int


class Point(Protocol):
    """A function and its gradient at a theta, which is the concatenation of `arrays`."""

    #: Parts of theta; those after the first `parameters` elements are inputs, not parameters.
    arrays: list[Array]
    parameters: int
    value: float
    gradient: np.ndarray

    def at(self, i: int) -> float:
        """theta[i]."""
        ...

    def moved(self, i: int, step: float) -> tuple[float, float]:
        """f with theta[i] moved by `step`, and the step as float64 could make it."""
        ...

    def along(self, direction: np.ndarray, step: float) -> float:
        """f at theta + step · direction."""
        ...

    def bend(self, i: int, step: float) -> str:
        """What switches between theta[i] − step and theta[i] + step; "" where it cannot tell."""
        ...


def noise(point: Point, seed: int) -> float:
    """The standard deviation of the rounding of f near theta.

    High differences of f at points so close together that a smooth f is a polynomial of low degree:
    what is left of them is rounding. Once along random directions, with points very close together,
    and once along single elements, with points about as far apart as the steps are: a function that
    rounds theta to float32 stands still in the first case. The points lie on one side of theta, where
    a kink may be.
    """
    rng = np.random.default_rng(seed)
    size = point.gradient.size
    directions = []
    for _ in range(3):
        direction = rng.choice([-1.0, 1.0], size)
        directions.append(_left_over([point.along(direction, k * 1e-10) for k in range(1, 11)], 3))
    elements = []
    for i in rng.integers(0, size, 15).tolist():
        spacing = STEP / 4 * max(1.0, abs(point.at(i)))
        elements.append(_left_over([point.moved(i, k * spacing)[0] for k in range(1, 11)], 5))
    least = max(0.3 * EPSILON * abs(point.value), 1e-300)
    return max(float(np.median(directions)), float(np.median(elements)), least)


def _left_over(values: list[float], order: int) -> float:
    """The standard deviation of what is no polynomial of a degree below `order`."""
    differences = np.diff(values, order)
    return math.sqrt(float(np.mean(differences**2)) / math.comb(2 * order, order))


@dataclass
class Differences:
    """Centred differences with one step, and how far rounding may move them."""

    point: Point
    noise: float
    step: float

    def deviation(self, i: int, fraction: float = 1.0) -> float:
        """The standard deviation of `centred`."""
        return self.noise / (math.sqrt(2.0) * self.length(i) * fraction)

    def length(self, i: int) -> float:
        """The step of one element: relative for large values."""
        return self.step * max(1.0, abs(self.point.at(i)))

    def centred(self, i: int, fraction: float = 1.0) -> float:
        """(f(theta + h) − f(theta − h)) / 2h, with h a fraction of the element's step."""
        h = self.length(i) * fraction
        (high, up), (low, down) = self.point.moved(i, h), self.point.moved(i, -h)
        return (high - low) / (up - down)

    def one_sided(self, i: int, fraction: float) -> tuple[float, float]:
        """The slopes to the left and to the right."""
        h = self.length(i) * fraction
        (high, up), (low, down) = self.point.moved(i, h), self.point.moved(i, -h)
        return (self.point.value - low) / -down, (high - self.point.value) / up


class Verdict(NamedTuple):
    """What a suspect turned out to be, and the best value of its derivative."""

    wrong: bool
    approx: float
    kink: bool = False
    left_out: bool = False


def look_closer(d: Differences, i: int, approx: float, grad: float, tolerance: float) -> Verdict:
    """Tell curvature and kinks from a wrong gradient."""
    gap = abs(approx - grad)
    relative = tolerance * max(abs(approx), abs(grad))
    half = d.centred(i, 0.5)
    extrapolated = (4 * half - approx) / 3
    if abs(extrapolated - grad) <= DEVIATIONS * d.deviation(i) + relative:
        return Verdict(False, extrapolated)
    # Curvature too strong for the extrapolation still falls by about 4 with half the step.
    curved = 3 * abs(half - grad) < gap < 5 * abs(half - grad)
    for fraction in SMALLER:
        smaller = half if fraction == 0.5 else d.centred(i, fraction)
        allowed = DEVIATIONS / 2 * d.deviation(i, fraction)
        if allowed > gap / 2 and fraction < 0.5:
            break  # rounding would hide the difference from here on
        if abs(smaller - grad) <= allowed + relative:
            return Verdict(False, smaller, kink=not curved)
    if _on_a_kink(d, i, grad, relative):
        return Verdict(False, approx, kink=True, left_out=True)
    return Verdict(True, approx)


def _on_a_kink(d: Differences, i: int, grad: float, relative: float) -> bool:
    """Whether theta[i] itself is a kink.

    Where layers are known, they tell. Of a function that is not: the slopes on both sides stay apart,
    and the gradient lies between them.
    """
    if d.point.bend(i, d.length(i) * NEAREST):
        return True
    (left, right), (near_left, near_right) = d.one_sided(i, 1.0), d.one_sided(i, NEAREST)
    allowed = DEVIATIONS * 2 * d.deviation(i, NEAREST)
    jump = abs(near_right - near_left)
    low, high = sorted((near_left, near_right))
    between = low - allowed - relative <= grad <= high + allowed + relative
    # Two slopes of a smooth function would have come a thousand times closer.
    return between and jump > 2 * allowed and jump > 0.3 * abs(right - left)


def choose_step(point: Point, noise: float, count: int, tolerance: float) -> float:
    """The usual step, or as large a one as the verdict needs to see beyond rounding."""
    size = float(np.linalg.norm(point.gradient[: point.parameters]))
    expected = noise / (math.sqrt(2.0) * STEP) * math.sqrt(count)
    if size == 0.0:
        return STEP
    return min(max(STEP, STEP * 4 * expected / (size * tolerance)), LARGEST_STEP)


def check(
    point: Point,
    indices: np.ndarray,
    *,
    step: float | None,
    tolerance: float,
    seed: int,
    advance: Callable[[int], object] = lambda done: None,
) -> GradientReport:
    """Compare the gradient with centred differences at these elements of theta.

    Parameters
    ----------
    point : Point
    indices : ndarray of int
        Sorted.
    step : float or None
        None to choose it.
    tolerance : float
    seed : int
        Of the directions in which rounding is measured.
    advance : callable
        Called with the number of elements that are done since the last call.
    """
    sigma = noise(point, seed)
    counted = int(np.searchsorted(indices, point.parameters)) or len(indices)
    if step is None:
        step = choose_step(point, sigma, counted, tolerance)
    d = Differences(point, sigma, step)
    grad = point.gradient[indices]
    approx = np.empty(len(indices))
    allowed = np.empty(len(indices))
    for k, i in enumerate(indices.tolist()):
        approx[k] = d.centred(i)
        allowed[k] = DEVIATIONS * d.deviation(i)
        if k % 64 == 63:
            advance(64)
    rounding = float(np.linalg.norm(allowed[:counted])) / DEVIATIONS
    allowed += tolerance * np.maximum(np.abs(approx), np.abs(grad))
    with np.errstate(invalid="ignore"):
        excess = np.abs(approx - grad) / allowed
    excess[~np.isfinite(excess)] = np.inf  # a value that is not a number is as wrong as can be

    kept = np.ones(len(indices), bool)
    differ = np.zeros(len(indices), bool)
    kinks: list[Kink] = []
    names = _Names(point.arrays)
    suspects = np.flatnonzero(excess > 1)
    for k in suspects[np.argsort(-excess[suspects], kind="stable")].tolist():
        i = int(indices[k])
        if differ.sum() >= ENOUGH_WRONG or excess[k] == np.inf:
            differ[k] = True
            continue
        verdict = look_closer(d, i, float(approx[k]), float(grad[k]), tolerance)
        approx[k], differ[k] = verdict.approx, verdict.wrong
        if verdict.kink:
            kept[k] = not verdict.left_out
            where = point.bend(i, d.length(i))
            kinks.append(Kink(*names.place(i), where, verdict.left_out))

    parts = kept.copy()
    parts[counted:] = False  # inputs count element by element
    error = relative_error(approx[parts], grad[parts])
    size = (float(np.linalg.norm(approx[parts])) + float(np.linalg.norm(grad[parts]))) / 2
    order = np.flatnonzero(differ)
    order = order[np.argsort(-excess[order], kind="stable")][:ENOUGH_WRONG]
    return GradientReport(
        error=error,
        tolerance=tolerance,
        step=step,
        checked=int(parts.sum()),
        total=point.parameters or point.gradient.size,
        differ=int(differ.sum()),
        rounding=rounding / size if size else 0.0,
        worst=tuple(
            Element(
                *names.place(int(indices[k])),
                float(grad[k]),
                float(approx[k]),
                relative_error(approx[k], grad[k]),
            )
            for k in order.tolist()
        ),
        kinks=tuple(kinks),
        parameters=tuple(_by_array(point.arrays, indices, approx, grad, kept, differ)),
        trouble=_trouble(point, sigma, int(parts.sum()), bool(differ.any()), error, tolerance),
    )


def _trouble(
    point: Point, sigma: float, checked: int, differ: bool, error: float, tolerance: float
) -> str:
    """Why the check says nothing, beside elements that differ."""
    if not checked:
        return (
            "every element lies on a kink, so there is no derivative to compare with: move the "
            "parameters a little (random ones instead of zeros) and check again"
        )
    if error < tolerance or (differ and sigma <= COARSE_NOISE * EPSILON * abs(point.value)):
        return ""
    if sigma > COARSE_NOISE * EPSILON * abs(point.value):
        return (
            f"the loss is only exact to {sigma / (abs(point.value) or 1.0):.1g} of itself: something "
            "computes in float32 (a layer or function that converts its input?); float64 is needed"
        )
    if error > COARSEST:
        length = float(np.linalg.norm(point.gradient))
        return (
            f"the gradient (of length {length:.2g}) is lost in the rounding of the loss "
            f"({point.value:.2g}): check at parameters where the loss is steeper"
        )
    return ""


class _Names:
    """From an index into theta to the array and the place in it."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        self.ends = np.cumsum([a.size for a in arrays])

    def place(self, i: int) -> tuple[str, tuple[int, ...]]:
        at = int(np.searchsorted(self.ends, i, "right"))
        array = self.arrays[at]
        inside = np.unravel_index(i - int(self.ends[at]) + array.size, array.shape)
        return array.name, tuple(int(n) for n in inside)


def _by_array(
    arrays: Sequence[Array],
    indices: np.ndarray,
    approx: np.ndarray,
    grad: np.ndarray,
    kept: np.ndarray,
    differ: np.ndarray,
) -> list[ParameterResult]:
    results, start = [], 0
    for array in arrays:
        low, high = np.searchsorted(indices, [start, start + array.size])
        rows = slice(int(low), int(high))
        here = kept[rows]
        error = relative_error(approx[rows][here], grad[rows][here])
        results.append(
            ParameterResult(
                array.name, array.shape, int(here.sum()), int(differ[rows].sum()), error
            )
        )
        start += array.size
    return results
