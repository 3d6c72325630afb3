"""PyTorch: eager, and through torch.compile."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Kernel, Task, Workload

_ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
F = torch.nn.functional


class TorchSteps:
    """`torch.nn.Sequential`, cross-entropy and the fused SGD."""

    def __init__(self, workload: Workload, compiled: bool) -> None:
        self.initial = workload.parameters()
        dtype = getattr(torch, workload.dtype)
        layers: list[torch.nn.Module] = []
        self.slots: list[tuple[str, torch.nn.Parameter]] = []
        for i, (d, h) in enumerate(pairwise(workload.sizes)):
            dense = torch.nn.Linear(d, h, dtype=dtype)
            layers.append(dense)
            self.slots += [(f"w{i}", dense.weight), (f"b{i}", dense.bias)]
            if i == len(workload.sizes) - 2:
                break
            if workload.batchnorm:
                norm = torch.nn.BatchNorm1d(
                    h, eps=workload.bn_eps, momentum=workload.bn_momentum, dtype=dtype
                )
                layers.append(norm)
                self.slots += [(f"gamma{i}", norm.weight), (f"beta{i}", norm.bias)]
            layers.append(_ACTIVATIONS[workload.activation]())
        self.model = torch.nn.Sequential(*layers)
        self.x, self.y = map(torch.from_numpy, workload.data())
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=workload.lr, momentum=workload.momentum, fused=True
        )
        self.loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._loss
        if compiled:
            self.loss = torch.compile(self._loss)
        self.restore()

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.model(x), y)

    def restore(self) -> None:
        with torch.no_grad():
            for name, slot in self.slots:
                a = torch.from_numpy(self.initial[name])
                slot.copy_(a.T if name.startswith("w") else a)
            for module in self.model:
                if isinstance(module, torch.nn.BatchNorm1d):
                    module.reset_running_stats()
            for state in self.optimizer.state.values():
                state["momentum_buffer"].zero_()

    def _step(self) -> torch.Tensor:
        loss = self.loss(self.x, self.y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def losses(self, count: int) -> list[float]:
        return [self._step().item() for _ in range(count)]

    def run(self, count: int) -> int:
        for _ in range(count):
            self._step()
        return count


class Torch(Contender):
    """PyTorch in eager mode, with `out=` where it takes it."""

    label = "PyTorch eager"
    compiled = False

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

    def versions(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    def refuses(self, task: Task) -> str | None:
        if isinstance(task, Kernel) and not hasattr(self, f"_{task.op}"):
            return f"has no {task.op} here"
        return None

    def steps(self, workload: Workload) -> TorchSteps:
        torch.set_grad_enabled(True)
        return TorchSteps(workload, self.compiled)

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        torch.set_grad_enabled(False)  # nothing is recorded for single calls
        tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
        if isinstance(task, Gemm):
            return self._gemm(task, **tensors)
        call: Call = getattr(self, f"_{task.op}")(**tensors)
        return call

    def _gemm(self, task: Gemm, x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor) -> Call:
        y, dw, dx = torch.empty_like(dy), torch.empty_like(w), torch.empty_like(x)
        if task.use == "forward":
            return lambda: (torch.mm(x, w, out=y),)
        if task.use == "dw":
            return lambda: (torch.mm(x.T, dy, out=dw),)
        return lambda: (torch.mm(dy, w.T, out=dx), torch.mm(x.T, dy, out=dw))

    def _relu(self, x: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(x)
        return lambda: (torch.clamp_min(x, 0, out=out),)

    # The functions that F.leaky_relu and F.elu call; only they take `out`.
    def _leaky_relu(self, x: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(x)
        leaky_relu = torch._C._nn.leaky_relu
        return lambda: (leaky_relu(x, 0.01, out=out),)

    def _elu(self, x: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(x)
        elu = torch._C._nn.elu
        return lambda: (elu(x, 1.0, out=out),)

    def _sigmoid(self, x: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(x)
        return lambda: (torch.sigmoid(x, out=out),)

    def _tanh(self, x: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(x)
        return lambda: (torch.tanh(x, out=out),)

    def _relu_backward(self, dy: torch.Tensor, y: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(dy)
        backward = torch.ops.aten.threshold_backward.grad_input
        return lambda: (backward(dy, y, 0, grad_input=out),)

    def _sigmoid_backward(self, dy: torch.Tensor, y: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(dy)
        backward = torch.ops.aten.sigmoid_backward.grad_input
        return lambda: (backward(dy, y, grad_input=out),)

    def _tanh_backward(self, dy: torch.Tensor, y: torch.Tensor, **_: Any) -> Call:
        out = torch.empty_like(dy)
        backward = torch.ops.aten.tanh_backward.grad_input
        return lambda: (backward(dy, y, grad_input=out),)

    def _batchnorm_forward(
        self, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, **_: Any
    ) -> Call:
        out, mean, rstd = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        forward = torch.ops.aten.native_batch_norm.out
        saved = {"out": out, "save_mean": mean, "save_invstd": rstd}
        return lambda: forward(x, gamma, beta, None, None, True, 0.1, 1e-5, **saved)[:1]

    def _batchnorm_relu_forward(self, **tensors: Any) -> Call:
        batchnorm = self._batchnorm_forward(**tensors)
        return lambda: (torch.relu_(batchnorm()[0]),)

    def _batchnorm_backward(
        self,
        x: torch.Tensor,
        dy: torch.Tensor,
        gamma: torch.Tensor,
        mean: torch.Tensor,
        rstd: torch.Tensor,
        **_: Any,
    ) -> Call:
        outs = dict(
            zip(("out0", "out1", "out2"), map(torch.empty_like, (x, gamma, gamma)), strict=True)
        )
        backward = torch.ops.aten.native_batch_norm_backward.out
        needed = [True, True, True]
        return lambda: backward(dy, x, gamma, None, None, mean, rstd, True, 1e-5, needed, **outs)


class TorchCompile(Torch):
    """PyTorch with the forward pass, its gradient and the loss compiled by Inductor."""

    label = "torch.compile"
    compiled = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # Inductor does not read it
            torch._inductor.config.cpp.simdlen = 256

    def refuses(self, task: Task) -> str | None:
        return None if isinstance(task, Workload) else "compiles whole steps only"
