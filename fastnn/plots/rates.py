"""The loss over the learning rate, as a range test has seen it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn.plots.canvas import COLOURS, FAINT, INK, new_figure, plain, power_of_ten, short, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.lr_range_test import RangeTest


def rate_range(found: RangeTest, *, title: str = "Loss by learning rate") -> Figure:
    """Draw the losses of a range test, smoothed (bold) and as they were (faint), over the rates.

    Where the line falls, the rate is high enough to learn something; where it rises, too high. The
    suggestion and the rate of the lowest loss are marked.

    Parameters
    ----------
    found : result of `fastnn.learning_rate_range_test`
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> x = np.random.default_rng(0).standard_normal((500, 10))
    >>> y = (x[:, 0] > x[:, 1]).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(32), fnn.ReLU(), fnn.Dense(2)], input_dim=10, seed=0)
    >>> found = fnn.learning_rate_range_test(model, x, y, batch_size=50)
    >>> rate_range(found).axes[0].get_xscale()
    'log'
    """
    figure = new_figure(7.4, 4.0)
    axes = figure.subplots()
    style(axes, plain(title), "learning rate")
    axes.set_ylabel("loss", color=FAINT)
    axes.set_xscale("log")
    losses, smoothed = (
        np.where(np.isfinite(values), values, np.nan) for values in (found.losses, found.smoothed)
    )
    axes.plot(found.rates, losses, color=COLOURS[0], lw=1.0, alpha=0.35)
    axes.plot(found.rates, smoothed, color=COLOURS[0], lw=2.2)
    # All until the lowest is shown; a last loss of 1e10 would make a flat line of all others.
    if np.isfinite(smoothed).any():
        best = int(np.nanargmin(smoothed))
        low, high = np.nanmin(losses), np.nanmax([*losses[: best + 1], *smoothed[:-1]])
        room = max(high - low, 1e-6 * abs(high)) or 1.0
        axes.set_ylim(low - 0.06 * room, high + 0.06 * room)
    for rate, name in ((found.suggestion, "suggestion"), (found.lowest, "lowest")):
        if rate is not None:
            axes.axvline(rate, color=COLOURS[1], lw=1.4, ls="-" if name == "suggestion" else ":")
            axes.annotate(
                f"{name} {short(rate)}", (rate, 1.0), xycoords=("data", "axes fraction"), xytext=(-4, -4),
                textcoords="offset points", rotation=90, ha="right", va="top", fontsize=9, color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
            )  # fmt: skip
    axes.xaxis.set_major_formatter(power_of_ten)
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.tick_params(which="minor", length=0)
    return figure
