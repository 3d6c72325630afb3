"""NumPy by hand, as fast as NumPy alone goes: every operation writes into a buffer that is there.

It doubles as a readable account of what one step computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Kernel, Task, Workload


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
        if isinstance(task, Kernel) and not hasattr(self, f"_{task.op}"):
            return f"has no {task.op} here"
        return None

    def steps(self, workload: Workload) -> NumPySteps:
        return NumPySteps(workload)

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        if isinstance(task, Gemm):
            return self._gemm(task, arrays)
        call: Call = getattr(self, f"_{task.op}")(**arrays)
        return call

    def _gemm(self, task: Gemm, arrays: Arrays) -> Call:
        x, w, dy = arrays["x"], arrays["w"], arrays["dy"]
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        xt, wt = x.T, w.T
        if task.use == "forward":
            return lambda: (np.matmul(x, w, out=y),)
        if task.use == "dw":
            return lambda: (np.matmul(xt, dy, out=dw),)
        return lambda: (np.matmul(dy, wt, out=dx), np.matmul(xt, dy, out=dw))

    def _relu(self, x: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(x)
        zero = x.dtype.type(0)
        return lambda: (np.maximum(x, zero, out=out),)

    def _leaky_relu(self, x: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(x)
        slope = x.dtype.type(0.01)
        return lambda: (np.maximum(x, np.multiply(x, slope, out=out), out=out),)

    def _tanh(self, x: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(x)
        return lambda: (np.tanh(x, out=out),)

    def _sigmoid(self, x: np.ndarray, **_: Any) -> Call:
        """0.5·tanh(x/2) + 0.5 takes fewer passes than 1/(1 + exp(−x)) and cannot overflow."""
        out = np.empty_like(x)
        half = x.dtype.type(0.5)

        def sigmoid() -> tuple[np.ndarray]:
            np.multiply(x, half, out=out)
            np.tanh(out, out=out)
            np.multiply(out, half, out=out)
            return (np.add(out, half, out=out),)

        return sigmoid

    def _elu(self, x: np.ndarray, **_: Any) -> Call:
        """max(x, 0) + expm1(min(x, 0)); exp minus 1 is faster than expm1 in NumPy, and loses
        digits only where the result is near 0, below the tolerance of the check."""
        out, low = np.empty_like(x), np.empty_like(x)
        zero, one = x.dtype.type(0), x.dtype.type(1)

        def elu() -> tuple[np.ndarray]:
            np.minimum(x, zero, out=low)
            np.exp(low, out=low)
            np.subtract(low, one, out=low)
            np.maximum(x, zero, out=out)
            return (np.add(out, low, out=out),)

        return elu

    def _relu_backward(self, dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(dy)
        return lambda: (np.multiply(dy, np.sign(y, out=out), out=out),)

    def _sigmoid_backward(self, dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(dy)
        one = dy.dtype.type(1)

        def sigmoid_backward() -> tuple[np.ndarray]:
            np.subtract(one, y, out=out)
            np.multiply(out, y, out=out)
            return (np.multiply(out, dy, out=out),)

        return sigmoid_backward

    def _tanh_backward(self, dy: np.ndarray, y: np.ndarray, **_: Any) -> Call:
        out = np.empty_like(dy)
        one = dy.dtype.type(1)

        def tanh_backward() -> tuple[np.ndarray]:
            np.square(y, out=out)
            np.subtract(one, out, out=out)
            return (np.multiply(out, dy, out=out),)

        return tanh_backward

    def _batchnorm_forward(
        self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, **_: Any
    ) -> Call:
        out = np.empty_like(x)
        terms, axes, flat = _flattened(x.ndim)
        x, y, gamma, beta = flat(x), flat(out), flat(gamma), flat(beta)
        n = x.dtype.type(x.size // gamma.size)
        eps = x.dtype.type(1e-5)

        def batchnorm() -> tuple[np.ndarray]:
            np.subtract(x, np.add.reduce(x, axis=axes, keepdims=True) / n, out=y)
            square = np.einsum(f"{terms},{terms}->c", y, y).reshape(gamma.shape)
            np.multiply(y, gamma / np.sqrt(square / n + eps), out=y)
            np.add(y, beta, out=y)
            return (out,)

        return batchnorm

    def _batchnorm_relu_forward(self, x: np.ndarray, **arrays: Any) -> Call:
        batchnorm = self._batchnorm_forward(x, **arrays)
        zero = x.dtype.type(0)

        def batchnorm_relu() -> tuple[np.ndarray]:
            (out,) = batchnorm()
            return (np.maximum(out, zero, out=out),)

        return batchnorm_relu

    def _batchnorm_backward(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        gamma: np.ndarray,
        mean: np.ndarray,
        rstd: np.ndarray,
        **_: Any,
    ) -> Call:
        out, xhat = np.empty_like(x), np.empty_like(x)
        terms, axes, flat = _flattened(x.ndim)
        x, dy, xhat, dx = flat(x), flat(dy), flat(xhat), flat(out)
        gamma, mean, rstd = flat(gamma), flat(mean), flat(rstd)
        n = x.dtype.type(x.size // gamma.size)

        def batchnorm_backward() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            np.subtract(x, mean, out=xhat)
            np.multiply(xhat, rstd, out=xhat)
            dgamma = np.einsum(f"{terms},{terms}->c", dy, xhat)
            dbeta = np.add.reduce(dy, axis=axes)
            np.multiply(xhat, dgamma.reshape(gamma.shape) / n, out=xhat)
            np.subtract(dy, xhat, out=dx)
            np.subtract(dx, dbeta.reshape(gamma.shape) / n, out=dx)
            np.multiply(dx, gamma * rstd, out=dx)
            return out, dgamma, dbeta

        return batchnorm_backward


def _flattened(ndim: int) -> tuple[str, tuple[int, ...], Callable[[np.ndarray], np.ndarray]]:
    """Images as (N, C, H·W): the einsum of such an array, the axes but the channels, and what brings
    arrays and vectors of channels into this shape (a view)."""
    if ndim == 2:
        return "nc", (0,), lambda a: a
    return "ncl", (0, 2), lambda a: a.reshape(*a.shape[:2], -1) if a.ndim > 1 else a[:, None]
