"""What a callback watches: a column of the history, and its best value so far.

A column whose name ends in "accuracy" is to rise, any other to fall, unless `mode` ("min" or "max") says
so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ..checks import check_not_negative

if TYPE_CHECKING:
    from ..training import Training

Mode = Literal["auto", "min", "max"]


class Best:
    """The best value of a column so far, and the epoch that had it.

    Attributes
    ----------
    value : float
        NaN before the first epoch.
    epoch : int
        0 before the first one.
    """

    def __init__(self, monitor: str, mode: Mode = "auto", min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise TypeError(f"monitor is {monitor!r}, expected a column of the history")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode is {mode!r}, expected 'auto', 'min' or 'max'")
        rises = mode == "max" or (mode == "auto" and monitor.endswith("accuracy"))
        self.monitor, self._sign = monitor, 1 if rises else -1
        self._min_delta = check_not_negative(min_delta, "min_delta")
        self.value, self.epoch = math.nan, 0

    def start(self, training: Training) -> None:
        """Forget the last fit; raise where this one can never have the column."""
        self.value, self.epoch = math.nan, 0
        if self.monitor.startswith("val_") and not training.has_validation:
            raise ValueError(
                f"{self.monitor!r} is to be watched, but this fit has no validation data: pass "
                "validation_data=(X, y) to fit, or watch another column, monitor='loss'"
            )

    def see(self, training: Training) -> bool:
        """Look at the newest epoch; whether it is the best by more than `min_delta` (NaN never is)."""
        history = training.history
        if not history.has(self.monitor):
            there = ", ".join(name for name in history if history.has(name))
            raise ValueError(
                f"the history has no {self.monitor!r} to watch (there are {there}); accuracy is that "
                "of a classification"
            )
        value = history.last[self.monitor]
        better = self._sign * (value - self.value) > self._min_delta
        if better or (self.epoch == 0 and not math.isnan(value)):
            self.value, self.epoch = value, int(history.last["epoch"])
            return True
        return False
