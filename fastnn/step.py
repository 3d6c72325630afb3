"""The compiled training step: model, loss and optimizer as one flat list of kernel calls.

The layers are read once and turned into *stages* (`fastnn.stages`): what stands in a row and is done in
one pass.  Each stage adds its operations to a program (`fastnn._kernels.program`): forward in order,
loss, backward in reverse order, update.  All buffers are allocated here; running the program allocates
nothing (a call of it returns the losses of its steps, 8 bytes each).

Memory of a step, in elements of the dtype, all of it there after the first run (`CompiledStep.memory`
counts it): with P parameters, R running statistics, S arrays of optimizer state, B rows in a batch, and
widths d_0 (input) to d_L (outputs of the stages), each rounded up to an odd number of cache lines,

    P + 2 R              parameters, running statistics and those that a failing step puts back
    P + S P              gradients, optimizer state
    B (d_0 + ... + d_L)  one batch of what is saved, the gathered rows included; the targets, and a byte
                         for each output of a maxout
    B                    the weights of the rows, where they have some
    2 B max(d_1 ... d_L) the gradients of a stage's output and of its input, which take turns
    max over the dense layers of D H and B (D + H)
                         packed operands: all products use the same memory, one after the other (D
                         inputs and H units rounded up to a tile, at most 4 vectors)
    sums                 partial sums of losses, norms and batch norms: for each batch norm of C channels
                         at most 6 C doubles for every 128 rows and 16 C doubles more
    workspace            per thread, of bounded size: chunks of matrices that stay in its cache, 2 MiB at most

and up to 1 MiB for each piece that is on huge pages (`fastnn.memory`): what is saved and passed on together,
and each array of P elements, is one.

`fit` keeps beside that a copy of parameters, running statistics and optimizer state to go back to (P + R +
S P), and two orders of the rows, 16 bytes a row; with weights a copy of these, an element a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn import penalties
from fastnn._kernels import dense, program, updates
from fastnn.compiled_losses import add_loss, batch_targets
from fastnn.losses import Loss
from fastnn.memory import aligned_matrices
from fastnn.optimizers import Optimizer
from fastnn.penalties import Pull
from fastnn.plain_step import Outcome
from fastnn.stages import (
    DenseStage,
    DropoutStage,
    MaxoutStage,
    NormStage,
    NotCompilable,
    differentiate,
    stages_of,
)

if TYPE_CHECKING:
    from fastnn.models import Sequential


def _held(x: np.ndarray) -> int:
    """The bytes of an array with the gaps between its rows."""
    return len(x) * x.strides[0]


class CompiledStep:
    """`fastnn.plain_step.Step` as a program of compiled kernels.

    Parameters
    ----------
    model : Sequential
        Built.
    loss, optimizer : Loss, Optimizer
    rows : int
        The size of the mini-batch.
    keep_gradients : bool
        Leave the gradients in the model's buffer; else those of the weights go into the update as
        their products finish them, and never reach memory. Clipping by the global norm has to see
        all of them first, so they are then written, too.
    l2 : float
        λ of the penalty λ/(2·rows)·Σ‖W‖².
    soft : bool
        The targets of a softmax cross-entropy are probabilities of the classes, not labels.
    weighted : bool
        The rows have weights.

    Raises
    ------
    NotCompilable
        A layer, the loss or the optimizer has no compiled operations.
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        rows: int,
        keep_gradients: bool = False,
        l2: float = 0.0,
        soft: bool = False,
        weighted: bool = False,
    ) -> None:
        rule = optimizer.compiled_rule()
        if rule is None:
            raise NotCompilable(f"{optimizer!r} has no compiled update")
        if model.input_shape is None or len(model.input_shape) != 1:
            raise NotCompilable("the input is not a matrix")
        self.model, self.optimizer = model, optimizer
        self.rows = rows
        self.keeps_gradients = keep_gradients or optimizer.clip_norm is not None
        flat, dtype = model.flat, model.dtype
        self.stages = stages_of(model.layers, dtype)
        optimizer.bind(flat)
        widths = [model.input_shape[0], *(stage.width for stage in self.stages)]
        # beside the values, the gradients of the outputs, which take turns; nobody asks for that of the input
        matrices = aligned_matrices(rows, [*widths, *2 * [max(widths[1:])]], dtype)
        self.values, self.turns = matrices[:-2], matrices[-2:]
        self.buffers_before = np.zeros_like(flat.buffers)
        self.program = p = program.Program(dtype.itemsize, rows)

        targets = batch_targets(loss, rows, widths[-1], dtype, soft)
        if targets is None:
            raise NotCompilable(f"{loss!r} has no compiled operations")
        self.targets = targets
        self.weights = np.zeros(rows, dtype) if weighted else None
        program.add_gather(p, self.values[0], targets, self.weights)
        if flat.buffers.size:
            program.add_copy(p, "keep running statistics", flat.buffers, self.buffers_before)
        for stage, x, y in zip(self.stages, self.values, self.values[1:], strict=False):
            stage.forward(p, x, y)
        pulls = penalties.pulls(model, l2)
        self._penalise(p, pulls)
        separate = pulls if self.keeps_gradients else self._sinks(p, rule, l2, pulls)
        self._backward(p, loss, targets, widths)
        if optimizer.clip_norm is not None:
            updates.add_clip_by_norm(p, flat.gradients, optimizer.clip_norm)
        for part, l1, l2 in separate:
            state = [optimizer.state[name][part] for name in optimizer.state_names()]
            updates.add_update(
                p, rule, flat.values[part], flat.gradients[part], state, flat.decayed - part.start,
                optimizer.weight_decay, l2 / rows, optimizer.clip_value, l1 / rows,
            )  # fmt: skip
        for weight, limit in penalties.limited(model):
            updates.add_max_norm(p, weight, limit)

    def _penalise(self, p: program.Program, pulls: list[Pull]) -> None:
        """The penalties as a part of the reported loss."""
        flat, more = self.model.flat, False
        for part, l1, l2 in pulls:
            weights = flat.values[: flat.decayed][part]
            for factor, magnitudes in ((0.5 * l2, False), (l1, True)):
                if factor and weights.size:
                    updates.add_penalty(p, weights, factor / self.rows, magnitudes, more)
                    more = True

    def _sinks(
        self, p: program.Program, rule: updates.Rule, l2: float, pulls: list[Pull]
    ) -> list[Pull]:
        """Fuse the update into the products where it wins; the stretches that are left over."""
        flat, optimizer = self.model.flat, self.optimizer
        state = [optimizer.state[name] for name in optimizer.state_names()]
        left, sinks = [], {}
        dense_stages = [stage for stage in self.stages if isinstance(stage, DenseStage)]
        for stage in dense_stages:
            weight = stage.layer.parameters["weight"]
            stage.offset = flat.offsets[f"{stage.layer.name}.weight"]
            inputs, units = weight.shape
            pull = penalties.pull_of(stage.layer, l2)
            if dense.update_is_better_fused(self.rows, inputs, units, flat.dtype.itemsize):
                if pull not in sinks:
                    sinks[pull] = updates.sink(
                        p, rule, flat.values, state, optimizer.weight_decay, pull[1] / self.rows,
                        optimizer.clip_value, pull[0] / self.rows,
                    )  # fmt: skip
                stage.sink = sinks[pull]
            else:
                left.append(Pull(slice(stage.offset, stage.offset + weight.size), *pull))
        return [*left, Pull(slice(flat.decayed, None), 0.0, 0.0)] if sinks else pulls

    def _backward(
        self, p: program.Program, loss: Loss, targets: np.ndarray, widths: list[int]
    ) -> None:
        """Loss and gradients; the gradients of the outputs take turns in two buffers."""
        turns = list(self.turns)
        dy = turns[0][:, : widths[-1]]
        add_loss(p, loss, self.values[-1], targets, self.weights, dy)
        differentiate(p, dy, self.stages[-1], self.values[-1])
        for i in reversed(range(len(self.stages))):
            stage, before = self.stages[i], self.stages[i - 1] if i else None
            dx = turns[1][:, : widths[i]] if i else None
            stage.backward(p, dy, dx, before, self.values[i], self.values[i + 1])
            if dx is not None:
                turns.reverse()
                dy = dx

    def run(
        self,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        first: int,
        steps: int,
        lrs: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Outcome:
        """`steps` mini-batches, as `fastnn.plain_step.Step.run` says."""
        random = [stage for stage in self.stages if isinstance(stage, DropoutStage)]
        for stage in random:
            stage.passes[0] = stage.layer.training_passes
        losses = np.empty(steps)
        shares = None if weights is None else np.empty(steps)
        try:
            done, last, correct, stopped = self.program.run(
                X, y, order, first, steps, lrs, self.optimizer.step_count, losses, weights, shares
            )
        finally:  # also when interrupted
            self.optimizer.step_count += self.program.done
            for stage in random:
                stage.layer.training_passes += self.program.done
        share = None if shares is None else shares[:done].tolist()
        outcome = Outcome(done, losses[:done].tolist(), last, share, correct)
        if stopped is not None:
            for stage in random:
                stage.layer.training_passes += 1  # its forward pass was made
            self.model.flat.buffers[:] = self.buffers_before
            outcome.failure = stopped if stopped == "gradient" else self._where()
        return outcome

    def memory(self) -> dict[str, int]:
        """Bytes by what they are for; the module's docstring has the formula.

        What is packed and the workspace are there from the first run on, the workspace for the largest
        number of threads so far.
        """
        flat, p = self.model.flat, self.program
        norms = [
            array
            for stage in self.stages
            if isinstance(stage, NormStage)
            for array in (stage.mean, stage.rstd, stage.shift)
        ]
        which = [stage.which for stage in self.stages if isinstance(stage, MaxoutStage)]
        weights = [] if self.weights is None else [self.weights]
        return {
            "parameters": flat.state.nbytes + self.buffers_before.nbytes,
            "gradients": flat.gradients.nbytes,
            "optimizer": sum(array.nbytes for array in self.optimizer.state.values()),
            "saved": sum(map(_held, [*self.values, *norms, *which, *weights, self.targets])),
            "passed on": sum(map(_held, self.turns)),
            "packed": p.packed_bytes,
            "sums": p.owned_bytes,
            "workspace": p.workspace_bytes,
        }

    def _where(self) -> str:
        """The first layer with an output that is not finite."""
        if not np.isfinite(self.values[0]).all():
            return "input"
        for stage, value in zip(self.stages, self.values[1:], strict=True):
            if not np.isfinite(value).all():
                return stage.layer.name
        return "loss"


def compile_step(
    model: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    rows: int,
    *,
    keep_gradients: bool = False,
    l2: float = 0.0,
    soft: bool = False,
    weighted: bool = False,
) -> CompiledStep:
    """The compiled step for mini-batches of `rows` rows; NotCompilable where there is none."""
    return CompiledStep(model, loss, optimizer, rows, keep_gradients, l2, soft, weighted)
