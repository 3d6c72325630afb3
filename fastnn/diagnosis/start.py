"""Rules about how a run begins."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case
from .finding import Finding

#: Logits with a standard deviation s add about s²/2 to a cross-entropy at the start. The largest s of a
#: good start is 1.4 (He's variance on inputs of variance 1, an excess of 1 at most); 2 is an s of 2.
EXCESS = 2.0
#: For losses of other kinds: He's variance on the last layer makes three times that of outputs of 0.
TIMES = 5.0
#: Epochs whose losses are within this share of the first one are flat.
FLAT = 0.03
#: A loss that is this share of the first one has fallen.
FALLEN = 0.7


def first_loss(case: Case) -> Iterator[Finding]:
    """The loss before the first step against that of a model that knows nothing (ln C)."""
    if not case.probes or not case.probes[0].fresh or case.silent_loss is None:
        return
    loss, expected = case.probes[0].loss, case.silent_loss
    if loss is None:
        return
    limit = expected + EXCESS if case.classes else TIMES * expected
    if loss > limit:
        name = f"ln {case.classes} = " if case.classes else "with all outputs 0 "
        yield Finding(
            "first_loss",
            f"the loss before the first step is {loss:.4g}; a model that knows nothing yet has "
            f"{name}{expected:.4g}, and more than {limit:.4g} is no good start",
            "the outputs are too large at the start: inputs that are not scaled, or weights drawn "
            "too wide",
            "centre and scale the inputs (fastnn.preprocessing), draw the weights with 'he' or "
            "'xavier', or put a BatchNorm before the activations",
            epoch=0,
        )


def bad_start(case: Case) -> Iterator[Finding]:
    """The loss is flat at first and falls later."""
    loss, lr = case.column("loss"), case.column("lr")
    if len(loss) < 3 or not all(map(_positive, loss)):
        return
    flat = next((i for i, value in enumerate(loss) if value < (1 - FLAT) * loss[0]), len(loss))
    if flat < 2 or min(loss) > FALLEN * loss[0] or max(loss[:flat]) > (1 + FLAT) * loss[0]:
        return
    if lr and max(lr[:flat]) < 0.3 * max(lr):  # a warm-up is meant to be slow
        return
    start = case.start
    if start is not None and loss[0] < 0.8 * start:  # it had fallen within the first epoch
        return
    yield Finding(
        "bad_start",
        f"the loss was flat for {flat} epochs ({loss[0]:.4g} to {loss[flat - 1]:.4g}, within "
        f"{FLAT:.0%}) and then fell to {min(loss):.4g}",
        "the first epochs were spent on getting out of the initial weights: they are too small, or "
        "saturate the units",
        "draw the weights with 'he' (ReLU) or 'xavier' (tanh, sigmoid), scale the inputs, or put a "
        "BatchNorm before the activations",
        epoch=flat,
    )


def _positive(value: float) -> bool:
    return 0 < value < float("inf")
