"""How far each step moves the weights, relative to their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn.plots.canvas import FAINT, GRID, new_figure, plain, power_of_ten, ramp, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.recorder import Recorder

#: A step that moves weights by a thousandth of their size is about right: a third to three times that.
HEALTHY = (3e-4, 3e-3)


def update_ratios(recorder: Recorder, *, title: str = "Size of the updates") -> Figure:
    """Draw ‖Δw‖ / ‖w‖ of each weight matrix over the epochs, from the first layer (dark) on.

    The band about 1e-3 is where it usually should be: far below, the learning rate is too low for that
    layer, far above too high.

    Parameters
    ----------
    recorder : fastnn.Recorder
        After a `fit` with it among the callbacks.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    ValueError
        Nothing is recorded.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> x = np.random.default_rng(0).standard_normal((200, 3)).astype("float32")
    >>> model = fnn.Sequential([fnn.Dense(8), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> recorder = fnn.Recorder()
    >>> _ = model.fit(x, (x[:, 0] > 0).astype(int), epochs=2, callbacks=[recorder])
    >>> [line.get_label() for line in update_ratios(recorder).axes[0].lines]
    ['0.weight', '2.weight']
    """
    if not recorder.steps or not recorder.ratios:
        raise ValueError(
            "the recorder has seen no update of a weight matrix: fit with callbacks=[recorder] first"
        )
    figure = new_figure(7.4, 4.0)
    axes = figure.subplots()
    style(axes, title, "epoch")
    axes.set_ylabel("‖Δw‖ / ‖w‖ of a step", color=FAINT)
    axes.set_yscale("log")
    axes.axhspan(*HEALTHY, color=GRID, alpha=0.6, lw=0, zorder=0)
    epochs = np.array(recorder.steps) / recorder.steps_per_epoch
    marker = "o" if len(epochs) == 1 else None
    for (name, ratios), colour in zip(
        recorder.ratios.items(), ramp(len(recorder.ratios)), strict=True
    ):
        values = np.array(ratios)
        values[values == 0] = np.nan  # a rate of zero has no place on a logarithmic axis
        axes.plot(epochs, values, color=colour, lw=1.6, marker=marker, label=plain(name))
    axes.yaxis.set_major_formatter(power_of_ten)
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.tick_params(which="minor", length=0)
    axes.margins(x=0.02)
    axes.annotate(
        "usual", (1.0, 1e-3), xycoords=("axes fraction", "data"), xytext=(6, 0),
        textcoords="offset points", va="center", fontsize=9, color=FAINT, annotation_clip=False,
    )  # fmt: skip
    if len(recorder.ratios) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside right center", frameon=False,
            fontsize=9 if len(recorder.ratios) < 16 else 6, labelcolor=FAINT,
        )  # fmt: skip
    return figure
