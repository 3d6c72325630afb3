"""Callbacks: what to do between the epochs of a `fit`.

A callback is any object with some of the methods on_fit_begin, on_epoch_begin, on_batch_end,
on_epoch_end and on_fit_end, each called with the running `fastnn.training.Training`. Those here have no
`on_batch_end`, so that whole stretches of steps stay one call of the compiled step.

What `monitor` names is a column of the history. One whose name ends in "accuracy" is to rise, any other
to fall, unless `mode` ("min" or "max") says so.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .checks import check_integer, check_not_negative, check_positive
from .files import writable_folder
from .history import COLUMNS, History
from .schedules import Scaled

if TYPE_CHECKING:
    from .training import Training

Mode = Literal["auto", "min", "max"]
Hook = Callable[["Training"], object]


class Best:
    """The best value of a column so far, and the epoch that had it.

    Attributes
    ----------
    value : float
        NaN before the first epoch.
    epoch : int
        0 before the first one.
    """

    def __init__(self, monitor: str, mode: Mode = "auto", min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise TypeError(f"monitor is {monitor!r}, expected a column of the history")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode is {mode!r}, expected 'auto', 'min' or 'max'")
        rises = mode == "max" or (mode == "auto" and monitor.endswith("accuracy"))
        self.monitor, self._sign = monitor, 1 if rises else -1
        self._min_delta = check_not_negative(min_delta, "min_delta")
        self.value, self.epoch = math.nan, 0

    def start(self, training: Training) -> None:
        """Forget the last fit; raise where this one can never have the column."""
        self.value, self.epoch = math.nan, 0
        if self.monitor.startswith("val_") and not training.has_validation:
            raise ValueError(
                f"{self.monitor!r} is to be watched, but this fit has no validation data: pass "
                "validation_data=(X, y) to fit, or watch another column, monitor='loss'"
            )

    def see(self, training: Training) -> bool:
        """Look at the newest epoch; whether it is the best by more than `min_delta` (NaN never is)."""
        history = training.history
        if not history.has(self.monitor):
            there = ", ".join(name for name in history if history.has(name))
            raise ValueError(
                f"the history has no {self.monitor!r} to watch (there are {there}); accuracy is that "
                "of a classification"
            )
        value = history.last[self.monitor]
        better = self._sign * (value - self.value) > self._min_delta
        if better or (self.epoch == 0 and not math.isnan(value)):
            self.value, self.epoch = value, int(history.last["epoch"])
            return True
        return False


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


class Checkpoint:
    """Write the model to a file as it learns.

    Parameters
    ----------
    path : path
        May hold columns of the history to be filled in: ``"run/{epoch:03d}-{val_loss:.4f}.safetensors"``.
        Without them a later file takes the place of the one before, whole or not at all.
    monitor : str, optional
        Write only where this column is the best so far; by default write every time.
    every : int
        Epochs from one file to the next.
    optimizer : bool
        Write also the optimizer's state, so that training can go on: `fastnn.serialization.save`.
    mode : "auto", "min" or "max"

    Attributes
    ----------
    written : list of Path
        The files of this fit, each once.

    Raises
    ------
    ValueError
        `path` has a field that the history has not.
    OSError
        The folder cannot be written: found out before training begins.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import Checkpoint
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(os.path.join(folder, "{epoch:02d}.safetensors"), every=2)
    ...     history = model.fit(np.eye(3), [0, 1, 1], epochs=4, callbacks=[checkpoint])
    ...     twin = fnn.load(checkpoint.written[-1])
    >>> [path.name for path in checkpoint.written]
    ['02.safetensors', '04.safetensors']
    >>> twin.optimizer.step_count
    4
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        every: int = 1,
        optimizer: bool = True,
        mode: Mode = "auto",
    ) -> None:
        self.path = os.fspath(path)
        self._fill({**dict.fromkeys(COLUMNS, 0.0), "epoch": 0})
        self._best = None if monitor is None else Best(monitor, mode)
        self.every = check_integer(every, "every", 1, 2**31 - 1)
        self.optimizer = bool(optimizer)
        self.written: list[Path] = []

    def on_fit_begin(self, training: Training) -> None:
        self.written = []
        if self._best is not None:
            self._best.start(training)
        writable_folder(self._fill({**dict.fromkeys(COLUMNS, 0.0), "epoch": 0}).parent)

    def on_epoch_end(self, training: Training) -> None:
        due = training.epoch % self.every == 0
        if due and (self._best is None or self._best.see(training)):
            path = self._fill(training.history.last)
            training.model.save(path, optimizer=self.optimizer)
            if path not in self.written:
                self.written.append(path)

    def _fill(self, row: dict[str, Any]) -> Path:
        try:
            return Path(self.path.format(**row))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"the path {self.path!r} cannot be filled in ({type(error).__name__}: {error}); "
                f"its fields may be {', '.join(COLUMNS)}, as in '{{epoch:03d}}.safetensors'"
            ) from None


class CSVLog:
    """One line per epoch in a CSV file, written as it ends: a run can be watched, and leaves its record.

    Parameters
    ----------
    path : path
    append : bool
        Go on with the file of an earlier fit, counting its epochs on; by default it is replaced.

    Raises
    ------
    ValueError
        The file to be gone on with is not the record of a run.
    OSError
        The file cannot be written: found out before training begins.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import CSVLog
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "log.csv")
    ...     for _ in range(2):
    ...         history = model.fit(np.eye(3), [0, 1, 1], epochs=2,
    ...                             callbacks=[CSVLog(path, append=True)])
    ...     fnn.History.from_csv(path)["epoch"]
    [1, 2, 3, 4]
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = bool(append)
        self._log = History()
        self._header: list[str] = []

    def on_fit_begin(self, training: Training) -> None:
        goes_on = self.append and os.path.exists(self.path)
        self._log = History.from_csv(self.path) if goes_on else History()
        self._before = int(self._log["epoch"][-1]) if self._log.epochs else 0
        self._write_whole()

    def on_epoch_end(self, training: Training) -> None:
        row = training.history.last
        self._log.append(**{**row, "epoch": self._before + row["epoch"]})
        if list(self._log) != self._header:  # somebody added a column
            self._write_whole()
            return
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            self._log.write_rows(csv.writer(file, lineterminator="\n"), self._log.epochs - 1)

    def _write_whole(self) -> None:
        self._log.to_csv(self.path)
        self._header = list(self._log)


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


class LambdaCallback:
    """A callback of functions: for anything that fits into a line.

    Parameters
    ----------
    on_fit_begin, on_epoch_begin, on_batch_end, on_epoch_end, on_fit_end : callable, optional
        Called with the `fastnn.training.Training`. With `on_batch_end` steps are made one by one.
    needs_gradients : bool, optional
        Whether they read ``training.model.gradients()``; by default where there is an `on_batch_end`.

    Raises
    ------
    TypeError
        One of them cannot be called, or none is given.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import LambdaCallback
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> seen = []
    >>> callback = LambdaCallback(on_epoch_end=lambda training: seen.append(training.epoch))
    >>> history = model.fit(np.eye(3), [0, 1, 1], epochs=3, callbacks=[callback])
    >>> seen
    [1, 2, 3]
    """

    def __init__(
        self,
        *,
        on_fit_begin: Hook | None = None,
        on_epoch_begin: Hook | None = None,
        on_batch_end: Hook | None = None,
        on_epoch_end: Hook | None = None,
        on_fit_end: Hook | None = None,
        needs_gradients: bool | None = None,
    ) -> None:
        hooks = {
            "on_fit_begin": on_fit_begin,
            "on_epoch_begin": on_epoch_begin,
            "on_batch_end": on_batch_end,
            "on_epoch_end": on_epoch_end,
            "on_fit_end": on_fit_end,
        }
        given = {name: hook for name, hook in hooks.items() if hook is not None}
        if not given:
            raise TypeError(f"no function is given; there are {', '.join(hooks)}")
        for name, hook in given.items():
            if not callable(hook):
                raise TypeError(f"{name} is {hook!r}, expected a function of the training")
            setattr(self, name, hook)  # only these: `fit` calls what is there
        if needs_gradients is not None:
            self.needs_gradients = bool(needs_gradients)
