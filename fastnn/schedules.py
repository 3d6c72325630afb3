"""Schedules: the learning rate as a function of the step.

A schedule is a callable of the step (0, 1, …: the updates that the optimizer has made), and goes where
a learning rate goes: ``fnn.SGD(lr=Cosine(0.1, steps=5000))``. One that has an end goes on at its last
rate after it. `fastnn.callbacks.ReduceOnPlateau` lowers a rate by what it sees instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .checks import check_fraction, check_integer, check_not_negative, check_positive

MAX_STEPS = 2**62


def steps(rows: int, batch_size: int | None, epochs: int = 1) -> int:
    """The steps that `fit` makes: what `Cosine` and `OneCycle` want to know.

    Parameters
    ----------
    rows : int
        Of the training data.
    batch_size : int or None
        As in `fit`; None: all rows in one step.
    epochs : int

    Raises
    ------
    TypeError, ValueError
        One of them is not a whole number of at least 1.

    Notes
    -----
    Where a batch norm would meet a last batch of a single row, `fit` joins it to the one before and
    makes one step less per epoch.

    Examples
    --------
    >>> steps(1437, batch_size=64, epochs=15)
    345
    """
    rows = check_integer(rows, "rows", 1, MAX_STEPS)
    size = rows if batch_size is None else check_integer(batch_size, "batch_size", 1, MAX_STEPS)
    return -(-rows // size) * check_integer(epochs, "epochs", 1, MAX_STEPS)


class Schedule:
    """The base of the schedules here: a check of the step, and `rate`, which each of them defines.

    Raises
    ------
    TypeError, ValueError
        In a call: the step is not a whole number of at least 0. In the constructor: a setting is out
        of range.
    """

    def __call__(self, step: int) -> float:
        return self.rate(check_integer(step, "step", 0, MAX_STEPS))

    def rate(self, step: int) -> float:
        """The learning rate of this step, which is a whole number of at least 0."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(self, step)")


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr · factor^⌊step / every⌋: a tenth (a half, …) of the rate every so many steps.

    Parameters
    ----------
    lr : float
        At the start.
    every : int
        Steps; `steps` counts those of some epochs.
    factor : float, above 0 to below 1

    Examples
    --------
    >>> schedule = StepDecay(0.1, every=100, factor=0.5)
    >>> [schedule(step) for step in (0, 99, 100, 250)]
    [0.1, 0.1, 0.05, 0.025]
    """

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self.lr, "lr")
        check_integer(self.every, "every", 1, MAX_STEPS)
        _check_factor(self.factor)

    def rate(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclass(frozen=True)
class _Decay(Schedule):
    """A rate at the start, and how fast it falls."""

    lr: float
    decay: float

    def __post_init__(self) -> None:
        check_positive(self.lr, "lr")
        check_not_negative(self.decay, "decay")


class Exponential(_Decay):
    """lr · e^(−decay · step).

    Parameters
    ----------
    lr : float
        At the start.
    decay : float
        Per step; ln 2 / n halves the rate every n steps.

    Examples
    --------
    >>> import math
    >>> schedule = Exponential(0.1, decay=math.log(2) / 100)
    >>> [round(schedule(step), 6) for step in (0, 50, 100, 200)]
    [0.1, 0.070711, 0.05, 0.025]
    """

    def rate(self, step: int) -> float:
        return self.lr * math.exp(-self.decay * step)


class InverseTime(_Decay):
    """lr / (1 + decay · step), the 1/t decay.

    Parameters
    ----------
    lr : float
        At the start.
    decay : float
        Per step; 1 / n: half the rate after n steps, a third after 2n.

    Examples
    --------
    >>> schedule = InverseTime(0.1, decay=1 / 100)
    >>> [round(schedule(step), 6) for step in (0, 100, 300)]
    [0.1, 0.05, 0.025]
    """

    def rate(self, step: int) -> float:
        return self.lr / (1.0 + self.decay * step)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From lr to `final` along a half cosine: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5.

    Parameters
    ----------
    lr : float
        At the start.
    steps : int
        The length; the rate is `final` from then on.
    final : float

    Examples
    --------
    >>> schedule = Cosine(0.1, steps=100)
    >>> [round(schedule(step), 6) for step in (0, 50, 100, 1000)]
    [0.1, 0.05, 0.0, 0.0]
    """

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.lr, "lr")
        check_integer(self.steps, "steps", 1, MAX_STEPS)
        check_not_negative(self.final, "final")

    def rate(self, step: int) -> float:
        return _half_cosine(self.lr, self.final, step / self.steps)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A line from near 0 to a rate over the first steps, then that rate or another schedule.

    Step i of n warm-up steps has (i + 1) / n of the rate (Goyal et al. 2017, arXiv:1706.02677, section
    2.2); the schedule that follows starts with its step 0 after them.

    Parameters
    ----------
    steps : int
        Of the warm-up.
    then : float or callable
        The rate after it, or a schedule.

    Examples
    --------
    >>> schedule = WarmUp(4, then=Cosine(0.1, steps=100))
    >>> [round(schedule(step), 6) for step in (0, 1, 2, 3, 4, 54, 104)]
    [0.025, 0.05, 0.075, 0.1, 0.1, 0.05, 0.0]
    """

    steps: int
    then: float | Callable[[int], float]

    def __post_init__(self) -> None:
        check_integer(self.steps, "steps", 1, MAX_STEPS)
        if not callable(self.then):
            check_positive(self.then, "then")

    def rate(self, step: int) -> float:
        after = max(0, step - self.steps)
        then = self.then(after) if callable(self.then) else self.then
        return then * min(1.0, (step + 1) / self.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to a high rate and down to nearly nothing: Smith and Topin 2018, arXiv:1708.07120.

    A half cosine from lr / start to lr over the first `rising` of the steps, then one down to
    lr / end. `fastnn.learning_rate_range_test` finds a rate.

    Parameters
    ----------
    lr : float
        The highest rate.
    steps : int
        The length; the rate is lr / end from its last step on.
    rising : float, 0 to below 1
        The share of the steps in which the rate rises.
    start, end : float
        What lr is divided by at the start, and at the end.

    Examples
    --------
    >>> schedule = OneCycle(1.0, steps=101, rising=0.25)
    >>> [round(schedule(step), 5) for step in (0, 25, 100, 200)]
    [0.04, 1.0, 0.0001, 0.0001]
    """

    lr: float
    steps: int
    rising: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        check_positive(self.lr, "lr")
        check_integer(self.steps, "steps", 1, MAX_STEPS)
        check_fraction(self.rising, "rising")
        check_positive(self.start, "start")
        check_positive(self.end, "end")

    def rate(self, step: int) -> float:
        last = max(1, self.steps - 1)
        top = self.rising * last
        if step < top:
            return _half_cosine(self.lr / self.start, self.lr, step / top)
        return _half_cosine(self.lr, self.lr / self.end, (step - top) / (last - top))


@dataclass(frozen=True)
class Scaled(Schedule):
    """Another schedule times a factor, and at least `minimum`: what `ReduceOnPlateau` makes of one.

    Examples
    --------
    >>> schedule = Scaled(StepDecay(0.1, every=100), factor=0.5, minimum=0.02)
    >>> schedule(0), schedule(100)
    (0.05, 0.02)
    """

    schedule: Callable[[int], float]
    factor: float
    minimum: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            raise TypeError(f"schedule is {self.schedule!r}, expected a callable of the step")
        check_positive(self.factor, "factor")
        check_not_negative(self.minimum, "minimum")

    def rate(self, step: int) -> float:
        return max(self.minimum, self.factor * self.schedule(step))


def _half_cosine(high: float, low: float, share: float) -> float:
    """From `high` to `low` as `share` goes from 0 to 1."""
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(share, 1.0)))


def _check_factor(factor: Any) -> float:
    if not check_positive(factor, "factor") < 1.0:
        raise ValueError(f"factor is {factor!r}, expected a number above 0 and below 1")
    return float(factor)
