"""JAX: the whole step in one jitted function with donated state, and a whole epoch in one scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fastnn.bench import updates
from fastnn.bench.contenders import jax_kernels, jax_updates
from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Task, Workload

# parameters, momentum, running statistics
State = tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]]
_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def make_step(workload: Workload) -> Callable[[State, jax.Array, jax.Array], tuple[State, Any]]:
    """The step as a pure function (state, x, y) -> (state, loss)."""
    last = len(workload.sizes) - 2
    activation = _ACTIVATIONS[workload.activation]
    keep, n = 1 - workload.bn_momentum, workload.batch

    def loss(
        params: dict[str, jax.Array], running: dict[str, jax.Array], x: jax.Array, y: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        updated = dict(running)
        for i in range(last + 1):
            x = x @ params[f"w{i}"] + params[f"b{i}"]
            if i == last:
                break
            if workload.batchnorm:
                mean = x.mean(axis=0)
                var = x.var(axis=0)
                x = (x - mean) * jax.lax.rsqrt(var + workload.bn_eps)
                x = x * params[f"gamma{i}"] + params[f"beta{i}"]
                for name, value in ((f"mean{i}", mean), (f"var{i}", var * (n / (n - 1)))):
                    updated[name] = keep * running[name] + workload.bn_momentum * value
            x = activation(x)
        rows = jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1)
        return -rows.mean(), updated

    def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
        params, velocity, running = state
        (value, running), grads = jax.value_and_grad(loss, has_aux=True)(params, running, x, y)
        velocity = jax.tree.map(lambda v, g: workload.momentum * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - workload.lr * v, params, velocity)
        return (params, velocity, running), value

    return step


class JaxSteps:
    """One jitted call per step."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, self.y = map(jnp.array, workload.data())
        self.step = jax.jit(make_step(workload), donate_argnums=0)
        self.restore()

    def restore(self) -> None:
        params = {name: jnp.array(a) for name, a in self.workload.parameters().items()}
        running = {}
        if self.workload.batchnorm:
            for i, h in enumerate(self.workload.sizes[1:-1]):
                running[f"mean{i}"] = jnp.zeros(h, self.workload.dtype)
                running[f"var{i}"] = jnp.ones(h, self.workload.dtype)
        self.state: State = (params, jax.tree.map(jnp.zeros_like, params), running)
        jax.block_until_ready(self.state)

    def losses(self, count: int) -> list[float]:
        values = []
        for _ in range(count):
            self.state, loss = self.step(self.state, self.x, self.y)
            values.append(float(loss))
        return values

    def run(self, count: int) -> int:
        state = self.state
        for _ in range(count):
            state, _ = self.step(state, self.x, self.y)
        self.state = jax.block_until_ready(state)
        return count


class JaxScanSteps(JaxSteps):
    """A whole epoch in one call: `lax.scan` over the stacked batches (copies of the fixed one)."""

    def __init__(self, workload: Workload) -> None:
        step = make_step(workload)
        self.epoch = workload.epoch_steps

        def scan(state: State, xs: jax.Array, ys: jax.Array) -> tuple[State, jax.Array]:
            final, losses = jax.lax.scan(lambda s, batch: step(s, *batch), state, (xs, ys))
            return final, losses

        self.scan = jax.jit(scan, donate_argnums=0)
        super().__init__(workload)
        self.xs = jnp.stack([self.x] * self.epoch)
        self.ys = jnp.stack([self.y] * self.epoch)

    def losses(self, count: int) -> list[float]:
        self.state, losses = self.scan(self.state, self.xs[:count], self.ys[:count])
        return [float(loss) for loss in losses]

    def run(self, count: int) -> int:
        epochs = -(-count // self.epoch)
        for _ in range(epochs):
            self.state, losses = self.scan(self.state, self.xs, self.ys)
        jax.block_until_ready((self.state, losses))
        return epochs * self.epoch


class Jax(Contender):
    """JAX under `jit`. Its CPU client takes its thread count from the cores it is pinned to."""

    label = "JAX jit"
    steps_class = JaxSteps

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)  # arrays keep the dtype they come with

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def refuses(self, task: Task) -> str | None:
        if isinstance(task, Kernel) and task.op not in updates.NAMES:
            return None if jax_kernels.function(task) else f"has no {task.op} here"
        return None

    def steps(self, workload: Workload) -> JaxSteps:
        return self.steps_class(workload)

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        if isinstance(task, Kernel) and task.op in updates.NAMES:
            return jax_updates.call(task.op, arrays)
        found = _GEMMS[task.use] if isinstance(task, Gemm) else jax_kernels.function(task)
        assert found is not None  # `refuses` has looked
        names, function = found
        given: dict[str, Any] = {**arrays, "key": jax.random.key(0)}
        operands = [jnp.asarray(given[name]) for name in names]
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*operands))


class JaxScan(Jax):
    """JAX with a whole epoch in one `lax.scan`: no call from Python between the steps.

    It is JAX's answer to networks so small that the call costs as much as the arithmetic, and is
    compared on those alone.
    """

    label = "JAX scan"
    steps_class = JaxScanSteps

    def refuses(self, task: Task) -> str | None:
        if not isinstance(task, Workload):
            return "runs whole steps only"
        small = task.flops < 10_000_000
        return None if small else "compared on networks of less than 10 Mflop a step"


# operands, function
_GEMMS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "forward": (("x", "w"), lambda x, w: (x @ w,)),
    "dx": (("w", "dy"), lambda w, dy: (dy @ w.T,)),
    "dw": (("x", "dy"), lambda x, dy: (x.T @ dy,)),
}
