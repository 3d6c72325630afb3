"""Callbacks that write files: checkpoints, and a log of the epochs."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_integer
from ..files import writable_folder
from ..history import COLUMNS, History
from .monitor import Best, Mode

if TYPE_CHECKING:
    from ..training import Training


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
