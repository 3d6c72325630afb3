"""What `fit` calls: the hooks of its callbacks, and the steps after which each one wants to be called."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .training import Training

HOOKS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_fit_end")


class Hooks:
    """The callbacks of one fit, called in the order in which they were given."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._functions = {
            name: [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]
            for name in HOOKS
        }
        self._watchers = [
            _Watcher(callback) for callback in callbacks if hasattr(callback, "on_batch_end")
        ]

    def call(self, hook: str, training: Training) -> None:
        """Any hook but that of the steps."""
        for function in self._functions[hook]:
            function(training)

    def begin(self, training: Training) -> None:
        """`on_fit_begin`; then callbacks are asked after which step they want to be called first."""
        self.call("on_fit_begin", training)
        for watcher in self._watchers:
            watcher.plan(training)

    def steps_until_due(self, step: int) -> float:
        """How many steps may follow `step` before somebody is to be called; infinite where nobody is."""
        return min((watcher.due - step for watcher in self._watchers), default=math.inf)

    def after_steps(self, training: Training) -> None:
        """`on_batch_end` of those who are due."""
        for watcher in self._watchers:
            if watcher.due <= training.step:
                watcher.call(training)
                watcher.plan(training)


class _Watcher:
    """A callback with `on_batch_end`, and the step after which it is due."""

    def __init__(self, callback: Any) -> None:
        self.callback, self.call = callback, callback.on_batch_end
        self.ask = getattr(callback, "next_step", None)
        self.due = 0.0

    def plan(self, training: Training) -> None:
        if self.ask is None:
            self.due = training.step + 1
            return
        due = self.ask(training)
        is_number = isinstance(due, numbers.Real)
        if not is_number or not due > training.step:
            raise ValueError(
                f"next_step of {self.callback!r} returned {due!r} after step {training.step}: "
                "a later step is expected, or math.inf for none"
            )
        self.due = float(due) if due < 2**53 else math.inf


def checked_callbacks(callbacks: Any) -> list[Any]:
    """A list of them; one alone need not be in a list.

    Raises
    ------
    TypeError
        One has none of the hooks, or a `next_step` that cannot be called.
    """
    alone = _is_callback(callbacks) or isinstance(callbacks, type)
    checked = [callbacks] if alone else list(callbacks or ())
    for callback in checked:
        if not _is_callback(callback):
            raise TypeError(
                f"the callback {callback!r} has none of the methods {', '.join(HOOKS)}"
                + (": make an object of this class" if isinstance(callback, type) else "")
            )
        if not callable(next_step := getattr(callback, "next_step", print)):
            raise TypeError(
                f"next_step of {callback!r} is {next_step!r}, expected a method: next_step(training) "
                "returns the step after which on_batch_end is wanted"
            )
    return checked


def need_gradients(callbacks: Sequence[Any]) -> bool:
    """Whether one may read gradients: between the steps, or where it says so with `needs_gradients`."""
    return any(
        getattr(callback, "needs_gradients", hasattr(callback, "on_batch_end"))
        for callback in callbacks
    )


def _is_callback(candidate: Any) -> bool:
    return not isinstance(candidate, type) and any(hasattr(candidate, name) for name in HOOKS)
