"""What a diagnosis says: one finding per thing that was noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: From "training cannot go on like this" to "worth a thought"; findings are sorted in this order.
SEVERITIES = ("error", "warning", "hint")


@dataclass(frozen=True)
class Finding:
    """Something noticed about a run or a model, in words.

    Attributes
    ----------
    kind : str
        What it is, as a name to test for: ``"dead_units"``, ``"overfitting"``, …
    evidence : str
        What was measured, with its numbers and the threshold they passed.
    cause : str
        What it usually comes from.
    advice : str
        What to try.
    layer : str or None
        The layer's name as in ``model.parameters()`` ("2" of "2.weight"), where it concerns one.
    severity : "error", "warning" or "hint"
        "error": numbers are broken, or nothing is learned. "warning": it costs quality or time.
        "hint": how it could go on.
    epoch, step : int or None
        Where it was noticed: the epoch (from 1; 0: before the first step) and the step in it (from 1).

    Examples
    --------
    >>> print(Finding("plateau", "no progress since epoch 7", "the rate is too high to settle",
    ...               "a tenth of the learning rate", severity="hint", epoch=12))
    hint: plateau (epoch 12)
      evidence: no progress since epoch 7
      cause:    the rate is too high to settle
      try:      a tenth of the learning rate
    """

    kind: str
    evidence: str
    cause: str
    advice: str
    layer: str | None = None
    severity: Literal["error", "warning", "hint"] = "warning"
    epoch: int | None = None
    step: int | None = None

    @property
    def title(self) -> str:
        """Kind and place in a line: ``dead units (layer 4, epoch 2)``."""
        places = {"layer": self.layer, "epoch": self.epoch, "step": self.step}
        where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        return self.kind.replace("_", " ") + (f" ({where})" if where else "")

    def __str__(self) -> str:
        lines = (f"{self.severity}: {self.title}", f"evidence: {self.evidence}")
        return "\n  ".join((*lines, f"cause:    {self.cause}", f"try:      {self.advice}"))
