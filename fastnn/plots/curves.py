"""Loss and accuracy over the epochs, of one run or of many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastnn.history import History
from fastnn.plots.canvas import COLOURS, FAINT, INK, colours, new_figure, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Above this ratio of the largest to the smallest loss a linear axis shows only the first epochs.
LOG_RATIO = 50.0

# End values and best epochs of more runs would hide each other.
LABELLED = 7


def training_curves(
    runs: History | Mapping[str, History],
    *,
    title: str | None = None,
    validation: str = "validation",
) -> Figure:
    """Draw the loss and, where there is one, the accuracy of training runs over their epochs.

    Of a single run the two splits have a colour each; of several, each run has a colour, and the
    validation data are the solid line, the training data the thin dotted one. Up to seven runs have
    their end values at the ends of the lines, and a ring at the epoch of the lowest validation loss.

    Parameters
    ----------
    runs : History, or mapping of labels to histories
    title : str, optional
        Above the picture.
    validation : str
        What to call the validation data ("test").

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        There is no run, or one without epochs.

    Examples
    --------
    >>> history = History()
    >>> for epoch in (1, 2, 3):
    ...     history.append(epoch=epoch, loss=1 / epoch, accuracy=1 - 0.3 / epoch)
    >>> figure = training_curves(history, title="three epochs")
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Loss', 'Accuracy']
    """
    histories = {"": runs} if isinstance(runs, History) else dict(runs)
    if not histories:
        raise ValueError("there is no run to draw")
    for name, history in histories.items():
        if not history.epochs:
            raise ValueError(
                f"the history{f' of {name!r}' * bool(name)} is empty: no epoch to draw"
            )
    panels = [("loss", "Loss")]
    if any(history.has("accuracy") for history in histories.values()):
        panels.append(("accuracy", "Accuracy"))

    figure = new_figure(5.4 * len(panels), 4.0)
    for axes, (column, heading) in zip(
        np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels, strict=True
    ):
        style(axes, heading, "epoch")
        _scale(axes, column, histories)
        ends = []
        count = len(histories)
        for (name, history), colour in zip(histories.items(), colours(count), strict=True):
            ends += _draw(axes, column, history, name, colour, validation, count)
        if count > 1 and any(line.get_linestyle() == ":" for line in axes.lines):
            _explain_dashes(axes, validation)
        _label_ends(axes, ends)
        first = min(min(history["epoch"]) for history in histories.values())
        last = max(max(history["epoch"]) for history in histories.values())
        margin = 0.02 * (last - first) or 0.5
        axes.set_xlim(first - margin, last + margin)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(handles), 4),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
    if title:
        figure.suptitle(plain(title, 100), fontsize=13, color=INK)
    return figure


def _draw(
    axes: Axes,
    column: str,
    history: History,
    name: str,
    colour: str,
    validation: str,
    runs: int,
) -> list[tuple[float, float, str]]:
    """The lines of one run; returns (last epoch, last value, colour) of each to be labelled."""
    ends = []
    marker = "o" if history.epochs == 1 else None  # a line of one point is invisible
    for split, prefix in (("training", ""), (validation, "val_")):
        if not history.has(prefix + column):
            continue
        if runs == 1:
            colour, width, dashes, label = COLOURS[bool(prefix)], 2.0, "-", split
        else:
            solid = bool(prefix) or not history.has("val_" + column)
            width, dashes = (2.0 if runs <= LABELLED else 1.4, "-") if solid else (1.1, ":")
            # The legend says once what is solid and what is dotted; a run without either is told.
            label = plain(name) if prefix else f"{plain(name)} ({split})" if solid else "_dotted"
        epochs, values = np.array(history["epoch"]), np.array(history[prefix + column])
        axes.plot(epochs, values, dashes, color=colour, lw=width, label=label, marker=marker)
        if dashes == "-" and runs <= LABELLED:
            finite = np.flatnonzero(np.isfinite(values))
            if len(finite):
                ends.append((float(epochs[finite[-1]]), float(values[finite[-1]]), colour))
        if prefix and column == "loss" and history.epochs > 1 and runs <= LABELLED:
            best = int(np.nanargmin(values))
            ring = axes.plot(
                epochs[best], values[best], "o", ms=7, mfc="white", mec=colour, mew=1.6, zorder=3
            )
            if runs == 1:
                ring[0].set_label(f"lowest {validation} loss")
    return ends


def _explain_dashes(axes: Axes, validation: str) -> None:
    """Two grey entries for the legend of several runs: which split is solid, which dotted."""
    for dashes, split in (("-", validation), (":", "training")):
        axes.plot([], [], dashes, color=FAINT, lw=1.4, label=split)


def _scale(axes: Axes, column: str, histories: Mapping[str, History]) -> None:
    """Percent for accuracies; a logarithm for losses that fall by orders of magnitude."""
    if column == "accuracy":
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        return
    losses = np.concatenate(
        [history[name] for history in histories.values() for name in ("loss", "val_loss")]
    )
    if loss_axis(axes, losses):
        style(axes, "Loss (logarithmic)", "epoch")


def loss_axis(axes: Axes, losses: np.ndarray) -> bool:
    """Let the axis of losses begin at zero, or be logarithmic where they fall by orders of magnitude.

    Returns whether it is logarithmic.
    """
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() > 0 and losses.max() > LOG_RATIO * losses.min():
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
        return True
    if losses.size and losses.min() >= 0:
        axes.set_ylim(bottom=0.0, top=1.05 * losses.max() or 1.0)
    return False


def _label_ends(axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Write each line's last value beside it, moved apart where they would overlap."""
    percent = axes.get_title(loc="left") == "Accuracy"
    axes.autoscale_view()
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    gap = 13.0 * axes.figure.dpi / 72  # a line of text
    height = -np.inf
    for epoch, value, colour in sorted(ends, key=lambda end: end[1]):
        x, y = to_pixels((epoch, value))
        height = max(y, height + gap)
        axes.annotate(
            f"{value:.1%}" if percent else f"{value:.3g}",
            xy=tuple(to_data((x, height))),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )
