"""Rules about training data against validation data."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case
from .finding import Finding

#: Points of accuracy: ten are far beyond the noise of a validation split of a few hundred rows.
GAP = 0.1
#: A validation loss whose last three values are all above its best by this share, and by this share of the
#: best constant answer's loss: less is the noise of a few hundred rows (seen on digits).
RISEN, RISEN_OF_ALL = 0.3, 0.02
#: For a regression: a validation loss this many times the training loss.
TIMES = 2.0
#: No gap: accuracies within these points, or losses within this share.
NO_GAP, NO_GAP_LOSS = 0.02, 0.1
#: Above this accuracy (below this share of the constant answer's loss) there is little left to win.
GOOD, GOOD_LOSS = 0.95, 0.1
#: The loss has levelled out where three epochs lowered it by less than this share.
LEVEL = 0.05


def overfitting(case: Case) -> Iterator[Finding]:
    """Training data are answered much better than validation data, or ever better at their cost."""
    loss, val_loss = case.column("loss"), case.column("val_loss")
    accuracy, val_accuracy = case.column("accuracy"), case.column("val_accuracy")
    if not loss or not val_loss:
        return
    evidence = None
    best, low = val_loss.index(min(val_loss)), min(val_loss[-3:])
    if accuracy and val_accuracy and accuracy[-1] - val_accuracy[-1] >= GAP:
        gap = 100 * (accuracy[-1] - val_accuracy[-1])
        evidence = (
            f"accuracy is {accuracy[-1]:.1%} on the training data and {val_accuracy[-1]:.1%} on the "
            f"validation data: a gap of {gap:.0f} points"
        )
    elif (
        len(loss) - 1 - best >= 3
        and low > (1 + RISEN) * val_loss[best] > 0
        and low - val_loss[best] > RISEN_OF_ALL * (case.constant_loss or loss[0])
        and loss[-1] < 0.8 * loss[best]
    ):
        evidence = (
            f"the validation loss has risen from {val_loss[best]:.4g} in epoch {best + 1} to "
            f"{val_loss[-1]:.4g}, while the training loss fell from {loss[best]:.4g} to {loss[-1]:.4g}"
        )
    elif not accuracy and len(loss) >= 5 and val_loss[-1] > TIMES * loss[-1]:
        if val_loss[-1] - loss[-1] < 0.05 * (case.constant_loss or loss[0]):
            return
        evidence = (
            f"the validation loss, {val_loss[-1]:.4g}, is more than {TIMES:g} times the training "
            f"loss, {loss[-1]:.4g}"
        )
    if evidence is not None:
        yield Finding(
            "overfitting",
            evidence,
            "the model learns the training rows by heart",
            "more regularisation (l2, Dropout, max_norm), more data or a smaller model; "
            f"fastnn.callbacks.EarlyStopping would have kept epoch {best + 1}",
            epoch=len(loss),
        )


def no_gap(case: Case) -> Iterator[Finding]:
    """Both are answered alike, and neither well: the model could be larger."""
    loss, val_loss = case.column("loss"), case.column("val_loss")
    accuracy, val_accuracy = case.column("accuracy"), case.column("val_accuracy")
    if len(loss) < 5 or not val_loss or loss[-1] <= 0:
        return
    if loss[-4] - loss[-1] > LEVEL * loss[-4] or loss[-1] > loss[0]:
        return
    if case.constant_loss is not None and loss[-1] > 0.95 * case.constant_loss:
        return  # nothing was learned at all: `loss_not_falling`
    if accuracy and val_accuracy:
        alike = accuracy[-1] - val_accuracy[-1] <= NO_GAP and accuracy[-1] < GOOD
        evidence = f"accuracy is {accuracy[-1]:.1%} and {val_accuracy[-1]:.1%}"
    else:
        left = loss[-1] > GOOD_LOSS * (case.constant_loss or loss[0])
        alike = val_loss[-1] <= (1 + NO_GAP_LOSS) * loss[-1] and left
        evidence = f"the loss is {loss[-1]:.4g} and {val_loss[-1]:.4g}"
    if alike:
        yield Finding(
            "no_gap",
            f"{evidence} on training and validation data: no gap, and the training loss has "
            "levelled out",
            "the model has no capacity to spare, is held back by its regularisation, or the data "
            "hold no more",
            "more units or layers; less dropout and smaller penalties",
            None,
            "hint",
            len(loss),
        )
