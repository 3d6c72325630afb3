"""`Recorder`: a callback that keeps what happens between the epochs, for pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_integer
from .gradient_flow import GradientStatistics, gradients_on
from .norms import norm
from .twins import twin_again

if TYPE_CHECKING:
    from .models import Sequential
    from .training import Training

# A step is looked at so often that this many are seen, but not more than every one of so many.
SEEN, FARTHEST = 40, 50

# Of a larger matrix evenly spaced rows, at least so many, stand for all: about this many elements.
SAMPLED, FEWEST_ROWS = 50_000, 32


class Recorder:
    """A callback that records the loss of each step, the size of the updates and the gradients.

    Only steps that are looked at cost anything to speak of: the weights are copied before, and
    compared after. All others stay in one call of the compiled step. A second `fit` with the same
    recorder starts it afresh.

    Parameters
    ----------
    every : int, optional
        Look at the updates of every so many-th step, the first included. By default of every 50th, in
        short runs of as many as give 40.
    probe : (x, y), optional
        One batch; the gradients on it are recorded (`gradient_statistics`) before the first step
        and after each epoch. A few hundred rows say enough.

    Attributes
    ----------
    losses : list of float
        The loss of each step, from the first.
    steps_per_epoch : int
    steps : list of int
        The steps (from 1) whose updates were looked at.
    ratios : dict of str to list of float
        By parameter with two axes or more, for each of `steps`: ‖w after − w before‖ / ‖w before‖.
        About 1e-3 is a healthy size. NaN where the weights were all zero. Of more than 50,000
        elements, evenly spaced rows are compared.
    gradients : dict of int to dict of str to GradientStatistics
        By epoch, 0 before the first step.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> x = np.random.default_rng(0).standard_normal((200, 3)).astype("float32")
    >>> y = (x[:, 0] > 0).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(8), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> recorder = fnn.Recorder(every=5, probe=(x, y))
    >>> _ = model.fit(x, y, optimizer=fnn.SGD(lr=0.01), batch_size=20, epochs=2,
    ...               callbacks=[recorder])
    >>> len(recorder.losses), recorder.steps
    (20, [1, 6, 11, 16])
    >>> all(1e-4 < ratio < 1e-2 for ratio in recorder.ratios["0.weight"])
    True
    >>> list(recorder.gradients)
    [0, 1, 2]
    """

    #: Gradients come from the probe; the steps of the fit stay as fast as without a callback.
    needs_gradients = False

    def __init__(self, every: int | None = None, probe: tuple[Any, Any] | None = None) -> None:
        self.every = None if every is None else check_integer(every, "every", 1, 2**31 - 1)
        if probe is not None and (not isinstance(probe, tuple | list) or len(probe) != 2):
            raise TypeError("probe is expected as a pair (x, y), or None")
        self.probe = probe
        self._start(0)

    def _start(self, steps_per_epoch: int) -> None:
        self.losses: list[float] = []
        self.steps_per_epoch = steps_per_epoch
        self.steps: list[int] = []
        self.ratios: dict[str, list[float]] = {}
        self.gradients: dict[int, dict[str, GradientStatistics]] = {}
        self._weights: dict[str, np.ndarray] = {}
        self._before: dict[str, tuple[np.ndarray, float]] = {}
        self._twin: Sequential | None = None
        self._stride = 1

    def on_fit_begin(self, training: Training) -> None:
        self._start(training.steps_per_epoch)
        total = training.epochs * training.steps_per_epoch
        # Of batches from an iterator nobody knows at first how many there are.
        self._stride = self.every or min(FARTHEST, max(1, total // SEEN) if total else FARTHEST)
        self._weights = {
            name: _some_rows(array)
            for name, array in training.model.parameters().items()
            if array.ndim > 1
        }
        self.ratios = {name: [] for name in self._weights}
        self._keep_weights()
        self._look_at_gradients(training)

    def next_step(self, training: Training) -> int:
        """The weights are copied after one step, and compared after the next."""
        waits = -training.step % self._stride
        return training.step + (waits or 1)

    def on_batch_end(self, training: Training) -> None:
        self._take_losses(training)
        step = training.step
        if (step - 1) % self._stride == 0:
            self.steps.append(step)
            for name, (before, size) in self._before.items():
                before -= self._weights[name]
                self.ratios[name].append(norm(before) / size if size else float("nan"))
        if step % self._stride == 0:
            self._keep_weights()

    def on_epoch_end(self, training: Training) -> None:
        self._take_losses(training)
        self.steps_per_epoch = self.steps_per_epoch or training.step
        self._look_at_gradients(training)

    def on_fit_end(self, training: Training) -> None:
        self._take_losses(training)
        self.steps_per_epoch = self.steps_per_epoch or training.step
        self._weights, self._before = {}, {}  # the model may go on without us
        self._twin = None

    def _take_losses(self, training: Training) -> None:
        """Those of the steps since the last time, which were in one epoch."""
        new = training.step - len(self.losses)
        self.losses += training.losses[len(training.losses) - new :].tolist()

    def _keep_weights(self) -> None:
        for name, weights in self._weights.items():
            copied = weights.copy()
            self._before[name] = copied, norm(copied)

    def _look_at_gradients(self, training: Training) -> None:
        if self.probe is None:
            return
        model, loss = training.model, training.model.loss
        assert loss is not None
        self._twin = twin_again(self._twin, model, optimizer=False)
        self.gradients[training.epoch] = gradients_on(self._twin, *self.probe, loss)


def _some_rows(array: np.ndarray) -> np.ndarray:
    """A view of evenly spaced rows."""
    stride = min(-(-array.size // SAMPLED), len(array) // FEWEST_ROWS)
    return array[:: max(1, stride)]
