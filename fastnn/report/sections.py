"""What a page can tell about a run, a section each; what the data do not hold is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import plots
from fastnn.plots.confusion import confusion_counts
from fastnn.report import html

if TYPE_CHECKING:
    from fastnn.diagnosis import Finding
    from fastnn.history import History
    from fastnn.models import Sequential
    from fastnn.recorder import Recorder

# Of mistakes, and of the rows of the table of epochs (the first and the last ones).
MISTAKES, ROWS = 5, 200

# Of the data, to look at activations with.
PROBED = 500

NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "val_loss": "{split} loss",
    "val_accuracy": "{split} accuracy",
    "lr": "learning rate",
    "samples_per_second": "samples/s",
}


def findings(found: Sequence[Finding]) -> str:
    """What the diagnosis noticed."""
    if not found:
        return html.section(
            "Findings", html.paragraph("The diagnosis found nothing to complain of.")
        )
    return html.section("Findings", *map(html.finding, found))


def curves(history: History, split: str) -> str:
    """Loss and accuracy over the epochs, with their table."""
    figure = plots.training_curves(history, validation=split)
    words = f"Loss{' and accuracy' if history.has('accuracy') else ''} by epoch"
    return html.section("Learning curves", html.picture(figure, words), _epochs(history, split))


def _epochs(history: History, split: str) -> str:
    names = [name for name in history if history.has(name)]
    heads = [NAMES.get(name, name.replace("_", " ")).format(split=split) for name in names]
    rows = list(zip(*(history[name] for name in names), strict=True))
    shown = rows if len(rows) <= ROWS else rows[: ROWS // 2] + rows[-ROWS // 2 :]
    note = "" if shown is rows else f", the first and the last {ROWS // 2}"
    which = f"All {len(rows):,} epochs" if len(rows) > 1 else "The epoch"
    return html.table(heads, shown, f"{which} in numbers{note}")


def confusion(
    truth: np.ndarray, predicted: np.ndarray, classes: Sequence[object], split: str
) -> str:
    """Which classes are taken for which: the matrix, the worst mistakes, and numbers by class."""
    counts = confusion_counts(truth, predicted, len(classes))
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(wrong, axis=None)[::-1][:MISTAKES]
    mistakes = [
        f"{classes[row]} taken for {classes[column]} "
        f"({wrong[row, column]:,} of {counts[row].sum():,})"
        for row, column in (np.unravel_index(place, wrong.shape) for place in worst)
        if wrong[row, column]
    ]
    words = "Most frequent: " + "; ".join(mistakes) if mistakes else "There are no mistakes"
    figure = plots.confusion_matrix(truth, predicted, classes)
    right, taken, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        rows = zip(
            classes, there.tolist(), _percent(right / there), _percent(right / taken), strict=True
        )
    numbers = html.table(
        ("class", "rows", "recall", "precision"), rows, "Recall and precision of each class"
    )
    return html.section(
        f"Confusion matrix, {split} rows",
        html.paragraph(f"{words}."),
        html.picture(figure, f"Confusion matrix of {len(classes)} classes"),
        numbers,
    )


def _percent(shares: np.ndarray) -> list[str]:
    return ["" if np.isnan(share) else f"{share:.1%}" for share in shares]


def regression(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[object], split: str
) -> str:
    """Predicted against true values."""
    figure = plots.predicted_against_true(truth, predicted, names)
    shown = len(figure.axes)
    note = f"The first {shown} of {len(names)} outputs." if shown < len(names) else ""
    return html.section(
        f"Predicted against true, {split} rows",
        html.paragraph(
            "On the line a prediction is right; the error is the root mean square over all rows. "
            + note
        ),
        html.picture(figure, "Predicted over true values"),
    )


def weights(model: Sequential, image_shape: tuple[int, ...] | None) -> str:
    """The first layer as images."""
    figure = plots.first_layer_weights({"": model}, image_shape)
    return html.section(
        "First-layer weights",
        html.paragraph(
            "What each unit looks for in an image: red pixels speak for it, blue ones against it, "
            "each unit on its own scale. Noise says: train longer, at a lower rate, or with more "
            "regularisation."
        ),
        html.picture(figure, "Weights of the first layer as images"),
    )


def activations(model: Sequential, x: Any) -> str:
    """What comes out of the activations, by layer."""
    from fastnn.statistics import activation_statistics

    statistics = activation_statistics(model, x[:PROBED], training=False).activations()
    return html.section(
        "Activations",
        html.paragraph(
            "What each layer puts out, with mean and standard deviation. It should neither shrink "
            "from layer to layer nor pile up at the ends, where units are saturated, or at zero "
            "alone, where they are dead."
        ),
        html.picture(plots.activation_histograms(statistics), "Histograms of activations by layer"),
    )


def steps(recorder: Recorder) -> str:
    """Updates and gradients between the epochs."""
    parts = []
    if recorder.steps and recorder.ratios:
        parts += [
            html.paragraph(
                "How far a step moves each weight matrix, relative to its size. Usual is about "
                "0.001; far above it the learning rate is too high, far below too low."
            ),
            html.picture(plots.update_ratios(recorder, title=""), "Update ratios by step"),
        ]
    if recorder.gradients and any(recorder.gradients.values()):
        parts += [
            html.paragraph(
                "The sizes of the gradients, the first layer at the top. Hills that move left from "
                "row to row upwards are gradients that vanish on their way back."
            ),
            html.picture(
                plots.gradient_histograms(recorder, title=""), "Histograms of gradients by layer"
            ),
        ]
    return html.section("Updates and gradients", *parts) if parts else ""


def facts(model: Sequential | None, given: Mapping[str, object]) -> str:
    """How the run was made, to make it again."""
    values: dict[str, Any] = dict(given)
    parts = []
    if model is not None and model.built:
        values.setdefault("seed", str(model.seed))
        if model.loss is not None:
            values.setdefault("loss", repr(model.loss))
        if model.optimizer is not None:
            values.setdefault("optimizer", _constants(model.optimizer))
        lines = [(layer.name, repr(layer), _size(layer)) for layer in model.layers]
        parts = [html.table(("", "layer", "parameters"), lines, "The layers")]
    if not values and not parts:
        return ""
    return html.section("How it was made", html.settings(values) if values else "", *parts)


def _constants(optimizer: Any) -> str:
    """The optimizer without its rate where that is a schedule, a function without a name to show."""
    config = {k: v for k, v in optimizer.get_config().items() if not callable(v)}
    return f"{type(optimizer).__name__}({', '.join(f'{k}={v!r}' for k, v in config.items())})"


def _size(layer: Any) -> int:
    return sum(int(array.size) for array in layer.parameters.values())
