"""fastnn itself, through its public API."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Kernel, Task, Workload

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
        return FastNNSteps(workload)

    def refuses(self, task: Task) -> str | None:
        if isinstance(task, Kernel):
            op = task.op.replace("batchnorm_relu", "batchnorm")
            if not hasattr(self.module, op):
                return f"has no {op}"
        return None

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        f = self.module
        x, dy = arrays["x"], arrays["dy"]
        if isinstance(task, Gemm):
            return self._gemm(task, **arrays)
        if task.op in ("batchnorm_forward", "batchnorm_relu_forward"):
            gamma, beta, out = arrays["gamma"], arrays["beta"], np.empty_like(x)
            activation = "relu" if "relu" in task.op else None
            forward = f.batchnorm_forward
            return lambda: forward(x, gamma, beta, activation=activation, y_out=out)[:1]
        if task.op == "batchnorm_backward":
            gamma, mean, rstd = arrays["gamma"], arrays["mean"], arrays["rstd"]
            dx = np.empty_like(x)
            return lambda: f.batchnorm_backward(dy, x, gamma, mean, rstd, dx_out=dx)
        function, out = getattr(f, task.op), np.empty_like(x)
        if task.op.endswith("_backward"):
            y = arrays["y"]
            return lambda: (function(dy, y, dx_out=out),)
        return lambda: (function(x, out=out),)

    def _gemm(self, task: Gemm, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> Call:
        forward, backward = self.module.dense_forward, self.module.dense_backward
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        if task.use == "forward":
            return lambda: (forward(x, w, out=y),)
        if task.use == "dw":
            return lambda: backward(dy, x, w, need_dx=False, need_db=False, dw_out=dw)[1:2]
        return lambda: backward(dy, x, w, need_db=False, dx_out=dx, dw_out=dw)[:2]


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
