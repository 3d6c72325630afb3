"""Callbacks that watch a column of the history: early stopping, and a lower rate on a plateau."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_integer, check_not_negative, check_positive
from ..schedules import Scaled
from .monitor import Best, Mode

if TYPE_CHECKING:
    from ..training import Training


class EarlyStopping:
    """Stop when nothing has become better for some epochs, and bring the best weights back.

    Parameters
    ----------
    monitor : str
        The column to watch.
    patience : int
        Epochs without a better value after which to stop.
    min_delta : float
        By how much better is better, in the column's unit.
    mode : "auto", "min" or "max"
    restore_best : bool
        Whether the model has parameters and running statistics of the best epoch when the fit has ended,
        also where it came to its last epoch, failed or was interrupted. The optimizer's state is not
        taken back.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value and its epoch.
    stopped_epoch : int or None
        The epoch after which it stopped the fit.

    Raises
    ------
    TypeError, ValueError
        A setting is out of range; in the fit: there is no such column (validation data are missing).

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import EarlyStopping
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((60, 5)), rng.integers(0, 2, 60)  # nothing to learn here
    >>> model = fnn.Sequential([fnn.Dense(32), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> stopping = EarlyStopping(patience=3)
    >>> history = model.fit(X[:40], y[:40], optimizer=fnn.SGD(0.1), batch_size=10, epochs=100,
    ...                     validation_data=(X[40:], y[40:]), callbacks=[stopping])
    >>> history.epochs == stopping.best_epoch + 3 == stopping.stopped_epoch
    True
    >>> bool(abs(model.evaluate(X[40:], y[40:])["loss"] - stopping.best) < 1e-6)
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self._best = Best(monitor, mode, min_delta)
        self.patience = check_integer(patience, "patience", 1, 2**31 - 1)
        self.restore_best = bool(restore_best)
        self.stopped_epoch: int | None = None
        self._kept: np.ndarray | None = None

    @property
    def best(self) -> float:
        """The best value."""
        return self._best.value

    @property
    def best_epoch(self) -> int:
        """The epoch that had it."""
        return self._best.epoch

    def on_fit_begin(self, training: Training) -> None:
        self.stopped_epoch = self._kept = None
        self._best.start(training)

    def on_epoch_end(self, training: Training) -> None:
        if self._best.see(training):
            if self.restore_best:
                self._keep(training.model.flat.state)
        elif training.epoch - self._best.epoch >= self.patience:
            self.stopped_epoch = training.epoch
            training.stop()

    def on_fit_end(self, training: Training) -> None:
        if self._kept is not None:
            training.model.flat.state[:] = self._kept
            self._kept = None

    def _keep(self, state: np.ndarray) -> None:
        if self._kept is None:
            self._kept = state.copy()
        else:
            self._kept[:] = state


class ReduceOnPlateau:
    """Lower the learning rate where a column stops becoming better.

    Parameters
    ----------
    monitor : str
    factor : float, above 0 to below 1
        What the rate is multiplied by. A schedule is multiplied as a whole.
    patience : int
        Epochs without a better value that are waited for.
    min_delta : float
        By how much better is better, in the column's unit.
    cooldown : int
        Epochs after a reduction that do not count.
    min_lr : float
        The rate never falls below it.
    mode : "auto", "min" or "max"

    Attributes
    ----------
    reductions : list of int
        The epochs after which the rate was lowered.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import ReduceOnPlateau
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((60, 5)), rng.integers(0, 2, 60)
    >>> model = fnn.Sequential([fnn.Dense(2)], seed=0)
    >>> reduce = ReduceOnPlateau(monitor="loss", factor=0.5, patience=2, min_delta=1e-3)
    >>> history = model.fit(X, y, optimizer=fnn.SGD(0.5), batch_size=20, epochs=30, callbacks=[reduce])
    >>> model.optimizer.lr == 0.5 * 0.5 ** len(reduce.reductions) < 0.5
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: Mode = "auto",
    ) -> None:
        self._best = Best(monitor, mode, min_delta)
        if not check_positive(factor, "factor") < 1.0:
            raise ValueError(f"factor is {factor!r}, expected a number above 0 and below 1")
        self.factor = float(factor)
        self.patience = check_integer(patience, "patience", 1, 2**31 - 1)
        self.cooldown = check_integer(cooldown, "cooldown", 0, 2**31 - 1)
        self.min_lr = check_not_negative(min_lr, "min_lr")
        self.reductions: list[int] = []
        self._waited = self._cooling = 0

    def on_fit_begin(self, training: Training) -> None:
        self._best.start(training)
        self.reductions = []
        self._waited = self._cooling = 0

    def on_epoch_end(self, training: Training) -> None:
        better = self._best.see(training)
        if better or self._cooling:
            self._cooling = max(0, self._cooling - 1)
            self._waited = 0
            return
        self._waited += 1
        if self._waited < self.patience:
            return
        optimizer = training.optimizer
        lr = optimizer.lr
        if callable(lr):
            optimizer.lr = Scaled(lr, self.factor, self.min_lr)
        elif lr > self.min_lr:
            optimizer.lr = max(self.min_lr, lr * self.factor)
        else:
            return
        self.reductions.append(training.epoch)
        self._waited, self._cooling = 0, self.cooldown
