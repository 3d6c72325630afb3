"""Rules about the curve of the training loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Case
from .finding import Finding

#: Before so many epochs and steps a loss that has not fallen says little.
EPOCHS, STEPS = 5, 50
#: A loss above this share of the best constant answer's: nothing about the inputs was learned.
NOTHING_LEARNED = 0.95
#: A loss that two epochs lower to this share is falling.
FALLING = 0.9
#: A fall over all epochs by less than this share is none (where the constant answer is not known).
NO_FALL = 0.03
#: Falls of less than this share, as large in the second half as in the first, are those of small steps.
SLOW_FALL = 0.15
#: A loss this many times that of the start has exploded.
EXPLODED = 2.0
#: A plateau: the best loss of a quarter of the epochs, four at least, is not lower by this share.
NO_PROGRESS = 0.01
PLATEAU_EPOCHS = 8
#: What is left of the first loss where there is nothing more to win.
CONVERGED = 0.02
#: Relative updates below this are too small to train in a sensible time (`updates.LOW`).
SMALL_UPDATES = 1e-4


def loss_not_falling(case: Case) -> Iterator[Finding]:
    """Epoch after epoch the loss stays where it began."""
    loss = case.column("loss")
    if len(loss) < EPOCHS or (case.steps is not None and case.steps < STEPS):
        return
    if any(not math.isfinite(value) for value in loss) or loss[-1] <= 0:
        return
    if any(exploding(case)):  # that says more
        return
    fall = (loss[0] - loss[-1]) / loss[0]
    if case.constant_loss is not None:
        falling = loss[-1] < FALLING * loss[-3]  # from far above, on its way
        stuck = loss[-1] > NOTHING_LEARNED * case.constant_loss and not falling
        against = f", and the best constant answer has {case.constant_loss:.4g}"
    else:
        accuracy = case.column("accuracy")
        middle = loss[len(loss) // 2]
        steady = loss[0] - middle > 0 and middle - loss[-1] > 0.6 * (loss[0] - middle)
        stuck = fall < NO_FALL or (fall < SLOW_FALL and steady)
        stuck = stuck and not (accuracy and accuracy[-1] > 0.9)
        against = ""
    if not stuck:
        return
    evidence = (
        f"after {len(loss)} epochs the loss went from {loss[0]:.4g} to {loss[-1]:.4g}{against}"
    )
    ratios = _ratios(case)
    if ratios and min(ratios) >= SMALL_UPDATES:
        cause = (
            "the steps are not too small (relative updates from "
            f"{min(ratios):.1e}): rather a rate that is too high, units that are dead or saturated, "
            "or targets that do not belong to the rows"
        )
        advice = (
            "a rate ten times lower, and see that the model can overfit 20 rows "
            "(fastnn.diagnosis.overfit_small)"
        )
    else:
        cause = "the learning rate is too low for the loss to move, or nothing can be learned"
        advice = "a rate ten times higher; fastnn.learning_rate_range_test finds one"
        if ratios:
            evidence += f"; relative updates are {min(ratios):.1e} to {max(ratios):.1e}"
    yield Finding("loss_not_falling", evidence, cause, advice, None, "error", epoch=len(loss))


def exploding(case: Case) -> Iterator[Finding]:
    """The loss is far above where it began, or rises again."""
    loss = case.column("loss")
    if not loss:
        return
    start = max(case.start or loss[0], case.silent_loss or 0.0)
    worst = next((i for i, value in enumerate(loss) if not value <= EXPLODED * start), None)
    if worst is not None:
        yield Finding(
            "exploding_loss",
            f"the mean loss of epoch {worst + 1} is {loss[worst]:.4g}, more than {EXPLODED:g} times "
            f"the {start:.4g} of the start",
            "the learning rate is too high: steps jump over the valley and up the other side",
            "a rate three to ten times lower (fastnn.learning_rate_range_test), a warm-up "
            "(fastnn.schedules.WarmUp) or clip_norm in the optimizer",
            None,
            "error",
            worst + 1,
        )
        return
    if len(loss) < 4:
        return
    best = min(loss)
    rises = loss[-1] > loss[-2] > loss[-3]
    lost = (loss[-1] - best) / max(start - best, 1e-300)
    if rises and lost > 0.25 and loss[-1] > 1.5 * best:
        yield Finding(
            "rising_loss",
            f"the loss has risen for two epochs, from {best:.4g} at its best to {loss[-1]:.4g}: "
            f"{lost:.0%} of what had been won is lost again",
            "the learning rate is too high for where the weights have come to",
            "a rate three to ten times lower, one that falls (fastnn.schedules), or clip_norm",
            epoch=len(loss),
        )


def plateau(case: Case) -> Iterator[Finding]:
    """The loss fell and has stopped falling, above 0 and at a rate that is not falling."""
    loss, lr = case.column("loss"), case.column("lr")
    if len(loss) < PLATEAU_EPOCHS or not all(0 < value < math.inf for value in loss):
        return
    window = max(4, len(loss) // 4)
    before, now = min(loss[:-window]), min(loss[-window:])
    start = max(case.start or 0.0, loss[0])
    if before - now > NO_PROGRESS * before or now < CONVERGED * start:
        return
    if before > 0.9 * start:  # it never fell: `loss_not_falling`
        return
    if lr and lr[-1] < 0.5 * lr[-window]:
        return
    yield Finding(
        "plateau",
        f"the best loss of the last {window} epochs, {now:.4g}, is less than {NO_PROGRESS:.0%} below "
        f"the {before:.4g} of before",
        "the steps are too long to settle deeper, or this is what the model can do with these data",
        "a tenth of the learning rate (fastnn.callbacks.ReduceOnPlateau, a schedule), or stop here",
        None,
        "hint",
        len(loss),
    )


def _ratios(case: Case) -> list[float]:
    """Updates relative to their weights, in the newest look that saw a rate above 0; those of a first step
    say little."""
    for probe in reversed(case.probes):
        found = [w.update / w.norm for w in probe.weights if w.update and w.norm > 0]
        if found and not probe.fresh:
            return found
    return []
