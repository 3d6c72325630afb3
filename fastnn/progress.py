"""The progress bar of a training run: tqdm where a person is watching, nothing where not."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

# Seconds between two redraws: often enough to look alive, too rare to cost a measurable share.
REDRAW_SECONDS = 0.1


class Progress:
    """One bar over all steps of a run, with the epoch and the newest numbers beside it.

    Parameters
    ----------
    total_epochs, steps_per_epoch : int
        The length of the run; 0 steps where their number is not known yet (`learn` tells it).
    enabled : bool or "auto"
        "auto" shows the bar where standard error is a terminal. A disabled bar imports nothing,
        and its `update` returns at once.

    Examples
    --------
    >>> bar = Progress(2, 100, enabled=False)
    >>> for epoch in (1, 2):
    ...     for step in range(1, 101):
    ...         bar.update(epoch, step, loss=0.5)
    >>> bar.close()
    """

    def __init__(
        self, total_epochs: int, steps_per_epoch: int, enabled: bool | Literal["auto"] = "auto"
    ) -> None:
        self.total_epochs = total_epochs
        self.steps_per_epoch = steps_per_epoch
        self.enabled = on_terminal() if enabled == "auto" else bool(enabled)
        self._bar: Any = None
        self._due = 0.0
        if self.enabled:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total_epochs * steps_per_epoch or None,
                unit="step",
                leave=False,
                dynamic_ncols=True,
                miniters=0,  # the clock in `update` decides when to draw
                mininterval=0.0,
                file=sys.stderr,
            )

    def update(self, epoch: int, step: int, **numbers: float) -> None:
        """Move to `step` (steps done in this epoch) of `epoch` (from 1); `numbers` are shown."""
        if self._bar is None:
            return
        now = time.monotonic()
        done = (epoch - 1) * self.steps_per_epoch + step
        if now < self._due and done != self._bar.total:
            return
        self._due = now + REDRAW_SECONDS
        self._bar.set_description(f"epoch {epoch}/{self.total_epochs}", refresh=False)
        self._bar.set_postfix({name: f"{v:.4g}" for name, v in numbers.items()}, refresh=False)
        self._bar.update(done - self._bar.n)

    def learn(self, steps_per_epoch: int) -> None:
        """Take the number of steps, once an epoch has shown it."""
        self.steps_per_epoch = steps_per_epoch
        if self._bar is not None:
            self._bar.total = self.total_epochs * steps_per_epoch

    def close(self) -> None:
        """Take the bar off the terminal; a second call does nothing."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def on_terminal() -> bool:
    """Whether standard error is a terminal that a person may be watching."""
    return sys.stderr is not None and sys.stderr.isatty()


def write_line(line: str) -> None:
    """Print a line on standard output, above a bar that may be showing."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        print(line, flush=True)
    else:
        tqdm.tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
