"""PyTorch: eager, and through torch.compile."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise

import torch

from fastnn.bench.contenders import torch_kernels
from fastnn.bench.contenders.base import Call, Contender
from fastnn.bench.kernels import Kernel
from fastnn.bench.oracle import Arrays
from fastnn.bench.workloads import Gemm, Workload

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
        if torch.get_num_interop_threads() != 1:  # PyTorch takes it once
            torch.set_num_interop_threads(1)

    def versions(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    def steps(self, workload: Workload) -> TorchSteps:
        torch.set_grad_enabled(True)
        return TorchSteps(workload, self.compiled)

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        torch.set_grad_enabled(False)  # nothing is recorded for single calls
        tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
        if isinstance(task, Gemm):
            return self._gemm(task, **tensors)
        return torch_kernels.call(task, tensors, self.compiled)

    def _gemm(self, task: Gemm, x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor) -> Call:
        y, dw, dx = torch.empty_like(dy), torch.empty_like(w), torch.empty_like(x)
        if task.use == "forward":
            return lambda: (torch.mm(x, w, out=y),)
        if task.use == "dw":
            return lambda: (torch.mm(x.T, dy, out=dw),)
        return lambda: (torch.mm(dy, w.T, out=dx),)


class TorchCompile(Torch):
    """PyTorch with the forward pass, its gradient and the loss compiled by Inductor; of single
    kernels the same calls as in eager mode, each compiled as a whole."""

    label = "torch.compile"
    compiled = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # Inductor does not read it
            torch._inductor.config.cpp.simdlen = 256

    def call(self, task: Gemm | Kernel, arrays: Arrays) -> Call:
        torch._dynamo.reset()  # it compiles the same line for a few different operands only
        return torch.compile(super().call(task, arrays), dynamic=False)
