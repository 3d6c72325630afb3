"""Putting a page together and writing it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.files import replacing
from fastnn.preprocessing import Preparation
from fastnn.report import html, sections

if TYPE_CHECKING:
    from fastnn.diagnosis import Finding
    from fastnn.history import History
    from fastnn.models import Sequential
    from fastnn.preprocessing import TargetEncoder
    from fastnn.recorder import Recorder

ENDINGS = (".html", ".htm")


def write_report(
    path: str | os.PathLike[str],
    history: History,
    *,
    model: Sequential | None = None,
    x: Any = None,
    y: Any = None,
    findings: Sequence[Finding] | None = None,
    recorder: Recorder | None = None,
    classes: Sequence[object] | None = None,
    image_shape: tuple[int, ...] | None = None,
    split: str = "test",
    title: str = "Training report",
    subtitle: str = "",
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write a training run as one HTML page: pictures inside, no scripts, nothing from a network.

    It has what the arguments allow: curves always; the confusion matrix of a classification, or
    predicted against true values of a regression, and what the activations put out, with `model`, `x`
    and `y`; first-layer weights with a `model` on images; updates and gradients with a `recorder`; and
    the findings of `fastnn.diagnose`. It reads well in light and dark, and prints.

    Parameters
    ----------
    path : path
        Ends in .html; an old file is replaced whole.
    history : History
    model : Sequential, optional
        Trained. If its `preprocessing` is a `Preparation`, classes are named and regressions are in
        the unit of the data.
    x, y : array (N, D) and targets, optional
        Rows to judge the model on, prepared as for `Sequential.evaluate`; best those never seen.
    findings : sequence of Finding, optional
        Of `fastnn.diagnose`; an empty one says that nothing was found.
    recorder : Recorder, optional
        That was among the callbacks of the fit.
    classes : sequence, optional
        The names of the classes, or of the outputs of a regression.
    image_shape : tuple of int, optional
        As in `fastnn.plots.first_layer_weights`. Without it weights are drawn only where the inputs
        have a shape of two axes or more.
    split : str
        What `x`, `y` and the history's validation data are.
    title, subtitle : str
    facts : mapping, optional
        More lines on how the run was made, such as ``{"data": "digits"}``.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    OSError
        The file cannot be written.
    ValueError
        The history is empty and there are no findings that say why, the ending is another one, only
        one of `x` and `y` is given, or `image_shape` does not fit the model.

    Examples
    --------
    >>> import tempfile, numpy as np, fastnn as fnn
    >>> x = np.random.default_rng(0).standard_normal((200, 3)).astype("float32")
    >>> y = (x[:, 0] > 0).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(8), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> history = model.fit(x, y, epochs=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = fnn.write_report(f"{folder}/run.html", history, model=model, x=x, y=y,
    ...                             classes=["left", "right"], split="training")
    ...     "Confusion matrix, training rows" in page.read_text()
    True
    """
    check_ending(path)
    if (x is None) != (y is None):
        raise ValueError("x and y belong together: give both, or none of them")
    import fastnn

    parts = [] if findings is None else [sections.findings(findings)]
    if history.epochs or not findings:
        parts.append(sections.curves(history, split))
    if model is not None and x is not None:
        parts.append(_quality(model, x, y, classes, split))
    if model is not None and (image_shape is not None or _takes_images(model)):
        parts.append(sections.weights(model, image_shape))
    if model is not None and x is not None:
        parts.append(sections.activations(model, x))
    if recorder is not None:
        parts.append(sections.steps(recorder))
    parts.append(sections.facts(model, facts or {}))
    text = html.page(
        title, subtitle, _numbers(history, split), list(filter(None, parts)), fastnn.__version__
    )
    with replacing(path, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(path)


def check_ending(path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless the name is that of an HTML file."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise ValueError(f"the report {str(path)!r} is expected to end in .html")


def _quality(
    model: Sequential, x: Any, y: Any, classes: Sequence[object] | None, split: str
) -> str:
    """The section on how good the model is on these rows; nothing for targets of several labels."""
    target = _target(model)
    predicted, truth = model.predict(x), np.asarray(y)
    if model.kind == "classification":
        if truth.ndim == 2 and truth.shape[1] == 1:
            truth = truth[:, 0]
        if predicted.ndim > 1 or truth.ndim > 1:
            return ""
        truth = truth.astype(np.int64)
        if classes is None:
            count = int(max(truth.max(), predicted.max(), model.output_shape[0] - 1)) + 1
            classes = range(count) if target is None else target.classes
        return sections.confusion(truth, predicted.astype(np.int64), classes, split)
    names = classes
    if target is not None:
        truth, predicted = target.decode(truth), target.decode(predicted)
        if names is None and truth.shape[-1] == 1:
            names = [target.name]
    truth, predicted = truth.reshape(len(truth), -1), predicted.reshape(len(predicted), -1)
    if names is None:
        names = [f"output {k}" for k in range(truth.shape[1])]
    return sections.regression(truth, predicted, names, split)


def _target(model: Sequential) -> TargetEncoder | None:
    prepared = model.preprocessing
    return prepared.target if isinstance(prepared, Preparation) else None


def _takes_images(model: Sequential) -> bool:
    return model.built and model.input_shape is not None and len(model.input_shape) > 1


def _numbers(history: History, split: str) -> dict[str, str]:
    """What to see first: the last epoch, in a handful of numbers."""
    last = history.last if history.epochs else {}
    numbers = {}
    for name, words in (
        ("val_accuracy", f"{split} accuracy"),
        ("accuracy", "training accuracy"),
        ("val_loss", f"{split} loss"),
        ("loss", "training loss"),
    ):
        if history.has(name):
            value = last[name]
            numbers[words] = f"{value:.1%}" if "accuracy" in name else f"{value:.4g}"
    numbers["epochs" if history.epochs != 1 else "epoch"] = f"{history.epochs:,}"
    if history.has("seconds"):
        numbers["of training"] = _duration(float(np.nansum(history["seconds"])))
    return numbers


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes / 60:.1f} h"
