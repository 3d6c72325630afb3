"""The learning-rate range test: which rates make the loss fall, and from where on it explodes."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_integer, check_positive
from .inputs import as_rows, check_finite, check_lengths
from .losses import Loss
from .optimizers import SGD, Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .models import Sequential

#: Of the exponential average that smooths the losses, with its bias taken off.
KEEP = 0.8
#: A smoothed loss this many times the best one has exploded.
EXPLODED = 4.0
#: The loss has to fall by this share of where it began before a rate is suggested.
FALL = 0.05


@dataclass(frozen=True, repr=False)
class RangeTest:
    """What a range test has found.

    Attributes
    ----------
    rates : ndarray of float64
        Of the steps that were made, rising.
    losses : ndarray of float64
        The loss of each step, before its update; the last one may be infinite.
    smoothed : ndarray of float64
        Their exponential average.
    steepest, lowest : float or None
        The rates where the smoothed loss falls fastest, and where it is least; None where it never fell.
    suggestion : float or None
        A rate to train with: a tenth of `lowest` (a run is longer than this test).
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float | None
    lowest: float | None

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate with the lowest loss."""
        return None if self.lowest is None else self.lowest / 10

    def __repr__(self) -> str:
        return f"RangeTest({self})"

    def __str__(self) -> str:
        tried = (
            f"{len(self.rates)} steps with rates from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        )
        if self.lowest is None:
            return f"{tried}: the loss never fell; try rates in another range, or fastnn.diagnose"
        more = " (and was falling still)" if self.lowest == self.rates[-1] else ""
        return (
            f"{tried}: the loss falls fastest at {self.steepest:.1e} and is lowest at "
            f"{self.lowest:.1e}{more}; train with about {self.suggestion:.1e}"
        )

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, title: str | None = None
    ) -> Figure:
        """The losses over the rates; see `fastnn.plots.rate_range`.

        Raises
        ------
        ImportError
            matplotlib is not installed (the `plot` extra).
        ValueError, OSError
            `path` does not end in .png, .svg or .pdf, or cannot be written.
        """
        from .plots import rate_range, save

        figure = rate_range(self, **({} if title is None else {"title": title}))
        if path is not None:
            save(figure, path)
        return figure


def learning_rate_range_test(
    model: Sequential,
    x: Any,
    y: Any,
    *,
    loss: str | Loss | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int = 128,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
) -> RangeTest:
    """Train a copy of the model for some steps with a rate that rises exponentially.

    Where the rate is too low nothing happens, where it is right the loss falls, where it is too high the
    loss explodes, and the test ends. Source: Smith 2017, arXiv:1506.01186, section 3.3.

    Parameters
    ----------
    model : Sequential
        It stays as it is.
    x, y : arrays
        As `fit` takes them.
    loss : str or Loss, optional
        By default the model's, or softmax cross-entropy.
    optimizer : Optimizer, optional
        Whose settings are to be used; by default the model's, or SGD with a momentum of 0.9.
    batch_size : int
        That of the training to come: the right rate depends on it.
    low, high : float
        The rates of the first and of the last step.
    steps : int
        At least 10. Rows are shuffled, and used again where they do not suffice.

    Returns
    -------
    RangeTest

    Raises
    ------
    TypeError, ValueError
        A setting is out of range, or data cannot be trained on.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 10))
    >>> y = (x[:, 0] > x[:, 1]).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(32), fnn.ReLU(), fnn.Dense(2)], input_dim=10, seed=0)
    >>> found = fnn.learning_rate_range_test(model, x, y, batch_size=50)
    >>> 0.001 < found.suggestion < 0.3
    True
    """
    check_positive(low, "low")
    if not check_positive(high, "high") > low:
        raise ValueError(f"high is {high!r}, expected a rate above low, {low!r}")
    check_integer(steps, "steps", 10, 2**31 - 1)
    twin = copy.deepcopy(model)
    rows = as_rows(x, twin.dtype, twin.input_shape if twin.built else None, "x")
    check_lengths(rows, y, ("x", "y"))
    check_finite(rows, x, "x")
    if not twin.built:
        twin.build(rows.shape[1:])
    settings = optimizer or model.optimizer or SGD(momentum=0.9)
    trial = settings.copy()
    twin.compile(loss, trial)
    assert twin.loss is not None and twin.output_shape is not None
    targets = twin.loss.prepare_targets(y, len(rows), twin.output_shape, twin.dtype)
    size = min(len(rows), check_integer(batch_size, "batch_size", 1, 2**31 - 1))
    step = twin.step_for(size, targets)
    rng = np.random.default_rng(twin.seed)
    passes = -(-steps * size // len(rows))
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(passes)])
    rates = np.geomspace(low, high, steps)
    losses, smoothed, average = [], [], 0.0
    for i in range(steps):
        outcome = step.run(rows, targets, order, i * size, 1, rates[i : i + 1])
        trial.step_count = i + 1
        value = outcome.last_loss
        losses.append(value)
        average = KEEP * average + (1 - KEEP) * value
        smoothed.append(average / (1 - KEEP ** (i + 1)))
        if outcome.failure is not None or not smoothed[-1] <= EXPLODED * min(smoothed):
            break
    return _judged(rates[: len(losses)], np.array(losses), np.array(smoothed))


def _judged(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray) -> RangeTest:
    """The first losses, whose average is of a few only, say where it began."""
    known = np.flatnonzero(np.isfinite(smoothed))
    best = int(known[smoothed[known].argmin()]) if known.size else 0
    start = float(np.median(losses[:5]))
    if not smoothed[best] < (1 - FALL) * start or best == 0:
        return RangeTest(rates, losses, smoothed, None, None)
    slopes = np.gradient(smoothed[: best + 1], np.log(rates[: best + 1]))
    return RangeTest(
        rates, losses, smoothed, float(rates[int(slopes.argmin())]), float(rates[best])
    )
