"""A progress bar over the epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training import Training


class ProgressBar:
    """A bar over the epochs with the newest numbers beside it, in a terminal or a notebook.

    `fit` draws one over the steps by itself where standard error is a terminal (``verbose``); this one is
    for everywhere else, with ``verbose=False``.

    Parameters
    ----------
    **options
        Of `tqdm.auto.tqdm`: ``file``, ``desc``, ``leave``, …

    Examples
    --------
    >>> import io, numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import ProgressBar
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> shown = io.StringIO()
    >>> history = model.fit(np.eye(3), [0, 1, 1], epochs=3, verbose=False,
    ...                     callbacks=[ProgressBar(file=shown)])
    >>> "3/3" in shown.getvalue() and "accuracy=" in shown.getvalue()
    True
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._bar: Any = None

    def on_fit_begin(self, training: Training) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(**{"total": training.epochs, "unit": "epoch", **self.options})

    def on_epoch_end(self, training: Training) -> None:
        row = training.history.last
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        shown = {name: f"{row[name]:.4g}" for name in names if not math.isnan(row[name])}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def on_fit_end(self, training: Training) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
