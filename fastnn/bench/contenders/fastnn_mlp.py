"""fastnn itself, through its public API."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.bench import kernels
from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import DIGITS_ROWS, Gemm, Task, Workload

_LAYERS = {"relu": "ReLU", "tanh": "Tanh"}


class FastNNSteps:
    """The compiled step, run as `fit` runs it: many steps in one call, rows picked by an order."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, self.y = workload.data()
        layers: list[Any] = []
        keys: list[tuple[str, str]] = []
        for i, h in enumerate(workload.sizes[1:]):
            keys += [(f"w{i}", f"{len(layers)}.weight"), (f"b{i}", f"{len(layers)}.bias")]
            layers.append(fnn.Dense(h))
            if i == len(workload.sizes) - 2:
                break
            if workload.batchnorm:
                keys += [(f"gamma{i}", f"{len(layers)}.gamma"), (f"beta{i}", f"{len(layers)}.beta")]
                layers.append(fnn.BatchNorm(momentum=workload.bn_momentum, eps=workload.bn_eps))
            layers.append(getattr(fnn, _LAYERS[workload.activation])())
        self.model = fnn.Sequential(layers, input_dim=workload.sizes[0], dtype=workload.dtype)
        parameters = self.model.parameters()
        initial = workload.parameters()
        self.slots = [(parameters[key], initial[name]) for name, key in keys]
        self.optimizer = fnn.SGD(workload.lr, momentum=workload.momentum)
        self.model.compile(
            loss="softmax_cross_entropy", optimizer=self.optimizer, batch_size=workload.batch
        )
        self.step = self.model.step_for(workload.batch)
        self.order = np.empty(0, np.int64)
        self.rates = np.empty(0)
        self.restore()

    def restore(self) -> None:
        for view, initial in self.slots:
            view[...] = initial
        for name, a in self.model.state().items():
            if name.endswith("running_mean"):
                a.fill(0)
            elif name.endswith("running_var"):
                a.fill(1)
        for a in self.optimizer.state.values():
            a.fill(0)

    def losses(self, count: int) -> list[float]:
        return [self._run(1).last_loss for _ in range(count)]

    def run(self, count: int) -> int:
        return int(self._run(count).steps)

    def _run(self, count: int) -> Any:
        if len(self.rates) < count:
            self.order = np.tile(np.arange(self.workload.batch), count)
            self.rates = np.full(count, self.workload.lr)
        return self.step.run(self.x, self.y, self.order, 0, count, self.rates[:count])


class FitSteps(FastNNSteps):
    """The same network through `Sequential.fit`: shuffled, with history and progress bar."""

    epochs = 30

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.data = workload.data(rows=DIGITS_ROWS)
        self.steps = self.epochs * -(-DIGITS_ROWS // workload.batch)

    def losses(self, count: int) -> list[float]:
        """Epochs of the one batch: a step each."""
        return [float(loss) for loss in self._fit(self.x, self.y, count)["loss"]]

    def run(self, count: int) -> int:
        fits = -(-count // self.steps)
        for _ in range(fits):
            self._fit(*self.data, self.epochs)
        return fits * self.steps

    def _fit(self, x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
        size = self.workload.batch
        return self.model.fit(
            x, y, optimizer=self.optimizer, batch_size=size, epochs=epochs, verbose=True
        )


class FastNN(Contender):
    """fastnn: the compiled step, and `fastnn.functional` for single calls."""

    label = "fastnn"
    functions = "functional"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        fnn.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        return {"fastnn": fnn.__version__, "isa": fnn.isa()}

    @property
    def module(self) -> Any:
        """Where the single calls come from."""
        return getattr(fnn, self.functions)

    def steps(self, workload: Workload) -> FastNNSteps:
        return FitSteps(workload) if workload.fit else FastNNSteps(workload)

    def refuses(self, task: Task) -> str | None:
        return kernels.missing(self.module, task) if isinstance(task, Kernel) else None

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        if isinstance(task, Gemm):
            return self._gemm(task, **arrays)
        return kernels.call(self.module, task, arrays)

    def _gemm(self, task: Gemm, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> Call:
        forward, backward = self.module.dense_forward, self.module.dense_backward
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        if task.use == "forward":
            return lambda: (forward(x, w, out=y),)
        if task.use == "dw":
            return lambda: backward(dy, x, w, need_dx=False, need_db=False, dw_out=dw)[1:2]
        return lambda: backward(dy, x, w, need_dw=False, need_db=False, dx_out=dx)[:1]


class Reference(FastNN):
    """The readable NumPy twins of the kernels, `fastnn.reference`, one call at a time."""

    label = "reference"
    functions = "reference"

    def __init__(self, threads: int) -> None:
        self.threads = threads  # NumPy's, set by the environment

    def versions(self) -> dict[str, str]:
        return {"fastnn": fnn.__version__, "numpy": np.__version__}

    def refuses(self, task: Task) -> str | None:
        if isinstance(task, Workload):
            return "has no training step"
        return super().refuses(task)
