"""Rules about what goes on inside, layer by layer: units, gradients, updates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Case
from .finding import Finding

#: Share of a layer's units that are dead: some always are (10% is common), this many cost capacity.
DEAD = 0.25
#: The same on so few rows that a unit may have been quiet by chance.
DEAD_FEW, FEW_ROWS = 0.9, 100
#: Share of a layer's units that are saturated. tanh on inputs of variance 1 with Xavier's weights has none,
#: and trained networks have a few.
SATURATED = 0.5
#: How much smaller or larger than at the last layer with weights the gradient is at another one.
VANISHED, EXPLODED = 1e-3, 1e3
#: Updates relative to their weights; about 1e-3 is right, two powers of ten more or less are not.
HIGH, LOW = 1e-1, 1e-5


def dead_units(case: Case) -> Iterator[Finding]:
    """Rectifiers that are 0 for every row."""
    probe = case.probe
    if probe is None:
        return
    limit = DEAD if probe.rows >= FEW_ROWS else DEAD_FEW
    for units in probe.units:
        if units.dead is not None and units.dead >= limit * units.count and units.count > 1:
            yield Finding(
                "dead_units",
                f"{units.dead} of {units.count} units of layer {units.label} are 0 for each of "
                f"{probe.rows} rows ({units.dead / units.count:.0%}; up to {limit:.0%} is common)",
                "no gradient comes through a unit that is never above 0: a step was too long, or the "
                "bias or the inputs pushed it there",
                "a lower learning rate, initializer='he', a small positive bias (bias_init=0.01), "
                "LeakyReLU, or BatchNorm before the activation",
                units.layer,
                "error" if units.dead == units.count else "warning",
                probe.epoch,
            )


def saturated_units(case: Case) -> Iterator[Finding]:
    """Units at the flat ends of tanh or sigmoid for most rows."""
    probe = case.probe
    if probe is None:
        return
    for units in probe.units:
        if units.saturated is None or units.last or units.count < 2:
            continue
        if units.saturated >= SATURATED * units.count:
            yield Finding(
                "saturated_units",
                f"{units.saturated} of {units.count} units of layer {units.label} are at the flat "
                f"ends of their activation for most of {probe.rows} rows "
                f"({units.saturated / units.count:.0%})",
                "their inputs are too large, and hardly any gradient comes through: weights drawn "
                "too wide, inputs not scaled, or steps too long",
                "initializer='xavier', scaled inputs, BatchNorm before the activation, or ReLU",
                units.layer,
                epoch=probe.epoch,
            )


def gradient_flow(case: Case) -> Iterator[Finding]:
    """Gradients that fade, or grow, on their way from the last layer to the first."""
    probe = case.probe
    if probe is None or len(probe.weights) < 2:
        return
    *below, top = probe.weights
    if top.signal == 0:  # the loss itself has none: everything is answered to the last bit
        return
    faded = [w for w in below if w.signal < VANISHED * top.signal]
    grown = [w for w in below if w.signal > EXPLODED * top.signal]
    for kind, found, causes in (
        (
            "vanishing_gradients",
            faded,
            "each layer passes on a fraction only: weights too small (or all 0), sigmoids, or "
            "saturated and dead units",
        ),
        (
            "exploding_gradients",
            grown,
            "each layer passes on a multiple: weights drawn too wide for so many layers",
        ),
    ):
        if not found:
            continue
        worst = (min if kind == "vanishing_gradients" else max)(found, key=lambda w: w.signal)
        names = ", ".join(w.layer for w in found)
        yield Finding(
            kind,
            f"the gradient by the output of layer {worst.label} is {worst.signal / top.signal:.1e} "
            f"times that of layer {top.label} (layers beyond a factor of 1000: {names})",
            causes,
            "initializer='he' (ReLU) or 'xavier' (tanh), BatchNorm between the layers, fewer layers"
            + ("" if kind == "vanishing_gradients" else ", clip_norm in the optimizer"),
            worst.layer,
            epoch=probe.epoch,
        )


def update_ratio(case: Case) -> Iterator[Finding]:
    """The size of an update relative to that of the weights, which should be about 1e-3."""
    probe = case.probe
    if probe is None:
        return
    ratios = {
        w.layer: w.update / w.norm for w in probe.weights if w.update is not None and w.norm > 0
    }
    if not ratios:
        return
    layer = max(ratios, key=lambda name: ratios[name])
    if ratios[layer] > HIGH:
        yield _ratio_finding(case, layer, ratios[layer], "long", "high", "lower", probe.epoch)
    # A first step has no momentum yet; and where the loss is nearly 0, so is its gradient.
    learned = probe.loss is not None and (
        case.constant_loss is None or probe.loss < 0.5 * case.constant_loss
    )
    top = max(ratios.values())
    if 0 < top < LOW and not probe.fresh and not learned:
        yield _ratio_finding(case, layer, top, "short", "low", "higher", probe.epoch)


def _ratio_finding(
    case: Case, layer: str, ratio: float, length: str, rate: str, other: str, epoch: int
) -> Finding:
    decades = abs(math.log10(ratio / 1e-3))
    return Finding(
        "update_ratio",
        f"a step changes the weights of layer {case.label(layer)} by {ratio:.1e} of their size, "
        f"{decades:.1f} powers of ten from the 1e-3 that is about right"
        + (" (and those of the others by less)" if length == "short" else ""),
        f"steps are too {length}: the learning rate is too {rate} for weights of this size",
        f"a {other} learning rate (fastnn.learning_rate_range_test)",
        layer,
        epoch=epoch,
    )
