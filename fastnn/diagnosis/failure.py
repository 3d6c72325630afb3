"""The rule about numbers that are none any more."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case
from .finding import Finding


def not_finite(case: Case) -> Iterator[Finding]:
    """NaN or infinity: in which step, in which layer."""
    error, probe = case.error, case.probe
    if error is not None:
        place = error.layer if error.layer not in ("loss", "gradient", "input", "") else None
        yield Finding(
            "not_finite",
            str(error),
            "the learning rate is too high, as a rule; else data out of scale, or a loss that "
            "takes the logarithm of 0",
            "a rate ten times lower (fastnn.learning_rate_range_test), scaled inputs, BatchNorm, or "
            "clip_norm in the optimizer",
            place,
            "error",
            error.epoch or None,
            error.step or None,
        )
    elif probe is not None and probe.not_finite is not None:
        place = probe.not_finite if probe.not_finite not in ("loss", "input") else None
        where = f"layer {place}" if place else f"the {probe.not_finite}"
        yield Finding(
            "not_finite",
            f"the forward pass on {probe.rows} rows gives NaN or infinity, first in {where}",
            "parameters that overflowed in training, or rows with values out of any scale",
            "load an earlier state of the model, and look at the rows with numpy.isfinite",
            place,
            "error",
            probe.epoch or None,
        )
