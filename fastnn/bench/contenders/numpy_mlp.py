"""NumPy by hand, as fast as NumPy alone goes: every operation writes into a buffer that is there.

It doubles as a readable account of what one step computes.
"""

from __future__ import annotations

import numpy as np

from fastnn.bench import updates
from fastnn.bench.contenders import numpy_kernels, numpy_updates
from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Task, Workload


class NumPySteps:
    """The step of `workload`, on one flat buffer of parameters."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, self.y = workload.data()
        self.rows = np.arange(workload.batch)
        self.initial = workload.parameters()
        size = sum(a.size for a in self.initial.values())
        self.values, self.gradients, self.velocity, self.scratch = (
            np.zeros(size, workload.dtype) for _ in range(4)
        )
        self.p, self.g = self._views(self.values), self._views(self.gradients)
        n, widths = workload.batch, workload.sizes[1:]

        def buffers() -> list[np.ndarray]:
            return [np.empty((n, h), workload.dtype) for h in widths]

        self.outputs, self.deltas = buffers(), buffers()
        self.normalised = buffers() if workload.batchnorm else []
        self.rstd = [np.empty(h, workload.dtype) for h in widths]
        self.running = [(np.zeros(h, workload.dtype), np.ones(h, workload.dtype)) for h in widths]
        self.restore()

    def _views(self, flat: np.ndarray) -> Arrays:
        views, start = {}, 0
        for name, a in self.initial.items():
            views[name] = flat[start : start + a.size].reshape(a.shape)
            start += a.size
        return views

    def restore(self) -> None:
        for name, a in self.initial.items():
            self.p[name][...] = a
        self.velocity.fill(0)
        for mean, var in self.running:
            mean.fill(0)
            var.fill(1)

    def losses(self, count: int) -> list[float]:
        return [self._step() for _ in range(count)]

    def run(self, count: int) -> int:
        for _ in range(count):
            self._step()
        return count

    def _step(self) -> float:
        inputs = self.x
        last = len(self.outputs) - 1
        for i, out in enumerate(self.outputs):
            np.matmul(inputs, self.p[f"w{i}"], out=out)
            out += self.p[f"b{i}"]
            if i < last:
                if self.workload.batchnorm:
                    self._batchnorm(i, out)
                self._activate(out)
            inputs = out
        loss = self._cross_entropy(self.outputs[-1], self.deltas[-1])
        for i in range(last, -1, -1):
            delta = self.deltas[i]
            if i < last:
                self._activate_backward(delta, self.outputs[i])
                if self.workload.batchnorm:
                    self._batchnorm_backward(i, delta)
            below = self.outputs[i - 1] if i else self.x
            np.matmul(below.T, delta, out=self.g[f"w{i}"])
            np.add.reduce(delta, axis=0, out=self.g[f"b{i}"])
            if i:
                np.matmul(delta, self.p[f"w{i}"].T, out=self.deltas[i - 1])
        self.velocity *= self.workload.momentum
        self.velocity += self.gradients
        np.multiply(self.velocity, self.workload.lr, out=self.scratch)
        self.values -= self.scratch
        return loss

    def _batchnorm(self, i: int, z: np.ndarray) -> None:
        """z becomes gamma·x̂ + beta; x̂ and 1/σ are kept for the way back."""
        w, xhat, rstd, (mean, var) = (
            self.workload,
            self.normalised[i],
            self.rstd[i],
            self.running[i],
        )
        batch_mean = np.add.reduce(z, axis=0) / w.batch
        z -= batch_mean
        batch_var = np.einsum("nc,nc->c", z, z) / w.batch
        np.sqrt(batch_var + w.bn_eps, out=rstd)
        np.reciprocal(rstd, out=rstd)
        np.multiply(z, rstd, out=xhat)
        np.multiply(xhat, self.p[f"gamma{i}"], out=z)
        z += self.p[f"beta{i}"]
        mean += w.bn_momentum * (batch_mean - mean)
        var += w.bn_momentum * (batch_var * (w.batch / (w.batch - 1)) - var)

    def _batchnorm_backward(self, i: int, delta: np.ndarray) -> None:
        """delta becomes gamma/σ · (dy − mean(dy) − x̂·mean(dy·x̂))."""
        xhat, dgamma, dbeta = self.normalised[i], self.g[f"gamma{i}"], self.g[f"beta{i}"]
        np.einsum("nc,nc->c", delta, xhat, out=dgamma)
        np.add.reduce(delta, axis=0, out=dbeta)
        xhat *= dgamma / self.workload.batch
        delta -= xhat
        delta -= dbeta / self.workload.batch
        delta *= self.p[f"gamma{i}"] * self.rstd[i]

    def _activate(self, z: np.ndarray) -> None:
        if self.workload.activation == "relu":
            np.maximum(z, 0, out=z)
        else:
            np.tanh(z, out=z)

    def _activate_backward(self, delta: np.ndarray, y: np.ndarray) -> None:
        """delta times the derivative; y becomes that derivative, it is not read again."""
        if self.workload.activation == "relu":
            np.sign(y, out=y)
        else:
            np.square(y, out=y)
            np.subtract(1, y, out=y)
        delta *= y

    def _cross_entropy(self, logits: np.ndarray, delta: np.ndarray) -> float:
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=delta)
        total = delta.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - logits[self.rows, self.y]))
        delta /= total
        delta[self.rows, self.y] -= 1
        delta /= self.workload.batch
        return loss


class NumPy(Contender):
    """The best form that NumPy has for each operation: `out=` and in place."""

    label = "NumPy"

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def refuses(self, task: Task) -> str | None:
        if isinstance(task, Kernel) and task.op not in updates.NAMES:
            return None if hasattr(numpy_kernels, task.op) else f"has no {task.op} here"
        return None

    def steps(self, workload: Workload) -> NumPySteps:
        return NumPySteps(workload)

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        if isinstance(task, Kernel):
            if task.op in updates.NAMES:
                return numpy_updates.call(task.op, arrays)
            if task.op.startswith("batchnorm"):
                return numpy_kernels.with_channels(task, arrays)
            call: Call = getattr(numpy_kernels, task.op)(**arrays)
            return call
        x, w, dy = arrays["x"], arrays["w"], arrays["dy"]
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        xt, wt = x.T, w.T
        if task.use == "forward":
            return lambda: (np.matmul(x, w, out=y),)
        if task.use == "dw":
            return lambda: (np.matmul(xt, dy, out=dw),)
        return lambda: (np.matmul(dy, wt, out=dx),)
