"""The callback that looks on while a model trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..checks import check_integer
from ..progress import write_line
from ..recovery import NonFiniteError
from ..twins import twin_of
from .case import Case, know_targets
from .finding import Finding
from .probe import ROWS, Probe, take
from .rules import examine

if TYPE_CHECKING:
    from ..models import Sequential
    from ..training import Training

#: The share of the training time that looks between the epochs may take.
SHARE = 0.005
#: So many epochs have their curves read one by one; reading takes time as long as the curves, and in a run
#: of thousands of short epochs it has to keep to its share, too.
EACH = 100


class Doctor:
    """A callback that prints findings as they appear, each once.

    It looks into the model before the first step and when the fit has ended, and in between after an
    epoch as soon as a look is worth less than 0.5% of the training time since the last one (or after every
    `every` epochs). The curves are read after each of the first hundred epochs, then as seldom. Steps are
    not interrupted.

    Parameters
    ----------
    every : int, optional
        Epochs from one look into the model to the next, whatever it costs.
    show : callable
        What a finding's text is given to; by default it is printed, above a progress bar. None: nothing
        is shown.
    rows : int
        Of the training data that a look takes, evenly spaced.

    Attributes
    ----------
    findings : list of Finding
        In the order in which they appeared; one for each kind and layer.
    probes : list of fastnn.diagnosis.Probe
        What the looks have shown.
    seconds : float
        Spent on looking and reading.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((300, 8)), rng.integers(0, 3, 300)
    >>> model = fnn.Sequential([fnn.Dense(16), fnn.ReLU(), fnn.Dense(3)], seed=0)
    >>> doctor = fnn.Doctor(show=lambda text: print(text.splitlines()[0]))
    >>> history = model.fit(x, y, optimizer=fnn.SGD(1e-7), batch_size=20, epochs=6, callbacks=[doctor])
    error: loss not falling (epoch 5)
    warning: update ratio (layer 2, epoch 6)
    """

    def __init__(
        self,
        every: int | None = None,
        show: Callable[[str], object] | None = write_line,
        rows: int = ROWS,
    ) -> None:
        self.every = None if every is None else check_integer(every, "every", 1, 2**31 - 1)
        if show is not None and not callable(show):
            raise TypeError(f"show is {show!r}, expected a function of a text, or None")
        self.show = show
        self.rows = check_integer(rows, "rows", 2, 2**31 - 1)
        self.findings: list[Finding] = []
        self.probes: list[Probe] = []
        self.seconds = 0.0
        self._case = Case()
        self._twin: Sequential | None = None

    def on_fit_begin(self, training: Training) -> None:
        self.findings, self.seconds = [], 0.0
        model, loss = training.model, training.model.loss
        assert loss is not None and model.output_shape is not None
        self._x, self._targets = training.sample(self.rows)
        self._case = Case(history=training.history)
        self.probes = self._case.probes
        self._twin = twin_of(model)
        know_targets(self._case, loss, self._targets, model.output_shape)
        self._look(training)
        self._report()

    def on_epoch_end(self, training: Training) -> None:
        self._case.steps = training.step
        if self.every is not None:
            due = training.epoch % self.every == 0
        else:
            due = self._cost <= SHARE * (time.perf_counter() - self._looked)
        if due:
            self._look(training)
        waited = time.perf_counter() - self._reported
        if due or training.epoch <= EACH or self._reading <= SHARE * waited:
            self._report()

    def on_fit_end(self, training: Training) -> None:
        if not self.probes:  # an error before the first step
            return
        self._case.steps = training.step
        if isinstance(training.error, NonFiniteError):
            self._case.error = training.error
        elif training.error is None and self.probes[-1].epoch != training.epoch:
            self._look(training)
        self._report()
        self._twin = None  # it is as large as the model

    def _look(self, training: Training) -> None:
        started = time.perf_counter()
        model = training.model
        fresh = training.optimizer.step_count == 0
        self.probes.append(
            take(model, self._x, self._targets, model.loss, training.epoch, fresh, self._twin)
        )
        self._looked = time.perf_counter()
        self._cost = self._looked - started
        self.seconds += self._cost

    def _report(self) -> None:
        started = time.perf_counter()
        seen = {(finding.kind, finding.layer) for finding in self.findings}
        for finding in examine(self._case):
            if (finding.kind, finding.layer) not in seen:
                seen.add((finding.kind, finding.layer))
                self.findings.append(finding)
                if self.show is not None:
                    self.show(str(finding))
        self._reported = time.perf_counter()
        self._reading = self._reported - started
        self.seconds += self._reading
