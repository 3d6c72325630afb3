"""The compiled training step: model, loss and optimizer as one flat list of kernel calls.

The layers are read once and turned into *stages*: what stands in a row and is done in one pass
(a dense layer with the activation after it, a batch norm with the activation after it).  Each stage
adds its operations to a program (`fastnn._kernels.program`): forward in order, loss, backward in
reverse order, update.  All buffers are allocated here; running the program allocates nothing.

Memory of a step, in elements of the dtype, all of it there after the first run (`CompiledStep.memory`
counts it): with P parameters, R running statistics, S arrays of optimizer state, B rows in a batch, and
widths d_0 (input) to d_L (outputs of the stages), each rounded up to an odd number of cache lines,

    P + 2 R              parameters, running statistics and those that a failing step puts back
    P + S P              gradients, optimizer state
    B (d_0 + ... + d_L)  one batch of what is saved, the gathered rows included; the targets,
                         and a byte for each output of a maxout
    2 B max(d_1 ... d_L) the gradients of a stage's output and of its input, which take turns
    max over the dense layers of D H and B (D + H)
                         packed operands: all products use the same memory, one after the other (D
                         inputs and H units rounded up to a tile, at most 4 vectors)
    sums                 partial sums of losses, norms and batch norms: for each batch norm of C channels
                         at most 4 C doubles for every 32 rows and 32 C doubles more
    workspace            per thread, of bounded size: chunks of matrices that stay in its cache, 2 MiB at most
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn._kernels import activations, batchnorm, dense, fusion, program, updates
from fastnn._kernels import dropout as dropout_kernels
from fastnn._kernels import maxout as maxout_kernels
from fastnn._kernels import softmax as softmax_kernels
from fastnn.checks import NEEDS_INPUT, Parsed, parse_activation
from fastnn.compiled_losses import add_loss, batch_targets
from fastnn.flat import ALIGNMENT, aligned_zeros
from fastnn.layers import Activation, BatchNorm, Dense, Dropout, Layer, LogSoftmax, Maxout, Softmax
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer
from fastnn.plain_step import Outcome

if TYPE_CHECKING:
    from fastnn.models import Sequential

NONE: Parsed = (None, {})
#: What a product of matrices reads: a matrix, or what makes one as it is packed.
Operand = np.ndarray | program.Source

#: Batch norms of more bytes than this go into the products on either side: what fits into a core's cache
#: is passed over faster than it is packed.  (Measured: see `NormStage`.)
FUSED_BYTES = 1 << 19
#: Products of more bytes than that read the shuffled rows straight from the data.
#: Activations that cost less to make again than to read from memory.
CHEAP = {None, "relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid", "hard_swish"}


class NotCompilable(Exception):
    """The model has a part that the compiled step does not know; `PlainStep` takes it."""


@dataclass
class Stage:
    """One layer, with the activation that follows it where the two are done in one pass."""

    layer: Layer
    activation: Parsed
    width: int

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        """Write y, and return what the next stage reads."""
        raise NotImplementedError

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        """From dy to dx; dy is already past the derivative of this stage's activation.

        Returns what the stage before takes as its dy: dx, or something in the place of dy.
        """
        raise NotImplementedError


class DenseStage(Stage):
    """y = act(x @ w + b).  Its gradients take dz, the gradient before the activation."""

    sink: program.Sink | None = None  # where the gradient of the weights goes if nobody reads it
    offset = 0  # of the weights among the flat parameters
    norm: fusion.FusedNorm | None = None  # of a batch norm that goes into this product
    #: A batch norm follows and takes the mean away: the gradient of the bias is 0, exactly.  Adding dy
    #: up gives rounding errors instead, at 2% of a step.
    normed = False

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        params = self.layer.parameters
        finish = self.norm.statistics() if self.norm else None
        dense.add_forward(
            p, f"{self.layer.name} dense forward", x, params["weight"], params.get("bias"),
            self.activation, y, finish,
        )  # fmt: skip
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        name, gradients = self.layer.name, self.layer.gradients
        if dx is not None:
            # x is the output of the dense stage before, if it is one: its derivative on the way out
            through = before.activation if isinstance(before, DenseStage) else NONE
            saved = x if through[0] else None
            norm = before.norm if isinstance(before, NormStage) else None
            dense.add_input_gradient(
                p, f"{name} dense dx", dx, dy, self.layer.parameters["weight"], through, saved,
                norm.gradient_sums(dx) if norm else None,
            )  # fmt: skip
        dw = gradients["weight"] if self.sink is None else None
        dense.add_weight_gradient(p, f"{name} dense dw", dw, x, dy, self.sink, self.offset)
        if self.normed and "bias" in gradients:
            program.add_zero(p, f"{name} dense db", gradients["bias"])
        elif "bias" in gradients:
            dense.add_bias_gradient(p, f"{name} dense db", gradients["bias"], dy)
        return dx


class NormStage(Stage):
    """y = act(batch norm of x).

    Between two dense layers, a batch norm of more than FUSED_BYTES is done inside their products.
    """

    norm: fusion.FusedNorm | None = None

    def __init__(
        self, layer: BatchNorm, activation: Parsed, width: int, dtype: np.dtype[Any]
    ) -> None:
        super().__init__(layer, activation, width)
        self.mean, self.rstd = (aligned_zeros(width, dtype) for _ in range(2))

    def fuse(self, p: program.Program, dense_before: DenseStage, x: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, BatchNorm)
        self.norm = dense_before.norm = fusion.FusedNorm(
            p, x, layer.parameters["gamma"], layer.parameters["beta"], layer.buffers["running_mean"],
            layer.buffers["running_var"], layer.momentum, layer.eps, self.activation, self.mean, self.rstd,
            layer.gradients["gamma"], layer.gradients["beta"],
        )  # fmt: skip

    @property
    def made_again(self) -> bool:
        """y and dx are made where they are read, and never in memory."""
        return self.norm is not None and self.activation[0] in CHEAP

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        layer = self.layer
        assert isinstance(layer, BatchNorm)
        name = f"{layer.name} batch norm forward"
        if self.norm:
            self.norm.add_merge(f"{name}: statistics")
            if self.made_again:
                return self.norm.output()
            self.norm.add_output(name, y)
        else:
            batchnorm.add_forward(
                p, name, x, layer.parameters["gamma"], layer.parameters["beta"],
                layer.buffers["running_mean"], layer.buffers["running_var"], layer.momentum, layer.eps,
                self.activation, y, self.mean, self.rstd,
            )  # fmt: skip
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        layer = self.layer
        name = f"{layer.name} batch norm backward"
        if self.norm:
            self.norm.add_gradient_merge(f"{name}: sums")
            if self.made_again:
                return self.norm.gradient()
            self.norm.add_gradient(name)
            return dy
        from_output = self.activation[0] is not None and self.activation[0] not in NEEDS_INPUT
        batchnorm.add_backward(
            p, name, dy, x, layer.parameters["gamma"], self.mean, self.rstd,
            layer.parameters["beta"], y if from_output else None, self.activation,
            dy if dx is None else dx, layer.gradients["gamma"], layer.gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            differentiate(p, dx, before, x)
        return dx


class ActivationStage(Stage):
    """y = act(x), where there is nothing to fuse it with."""

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        activations.add_forward(p, f"{self.layer.name} activation", self.activation, x, y)
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        if dx is not None:
            saved = x if self.activation[0] in NEEDS_INPUT else y
            name = f"{self.layer.name} activation backward"
            activations.add_backward(p, name, self.activation, dy, saved, dx)
            differentiate(p, dx, before, x)
        return dx


def whole(x: Operand) -> np.ndarray:
    """An operand that is in memory: only products of matrices make theirs as they read them."""
    assert isinstance(x, np.ndarray)
    return x


class MaxoutStage(Stage):
    """y = maximum of the pieces; the affine maps are a dense stage before it."""

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        layer = self.layer
        assert isinstance(layer, Maxout)
        self.which = np.zeros(y.shape, np.uint8)
        maxout_kernels.add_forward(p, f"{layer.name} maxout", whole(x), layer.pieces, y, self.which)
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        layer = self.layer
        assert isinstance(layer, Maxout) and dx is not None
        maxout_kernels.add_backward(
            p, f"{layer.name} maxout backward", whole(dy), self.which, layer.pieces, dx
        )
        return dx


class SoftmaxStage(Stage):
    """y = softmax(x) or its logarithm."""

    @property
    def logarithm(self) -> bool:
        return isinstance(self.layer, LogSoftmax)

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        softmax_kernels.add_forward(p, f"{self.layer.name} softmax", whole(x), self.logarithm, y)
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        if dx is not None:
            name = f"{self.layer.name} softmax backward"
            softmax_kernels.add_backward(p, name, whole(dy), y, self.logarithm, dx)
            differentiate(p, dx, before, x)
        return dx


class DropoutStage(Stage):
    """y = x masked and scaled; the backward pass makes the mask again."""

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        self.passes = np.zeros(1, np.int64)  # the layer's count at the start of a run
        self._add(p, "dropout", x, y)
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        if dx is not None:
            self._add(p, "dropout backward", dy, dx)
            differentiate(p, dx, before, x)
        return dx

    def _add(self, p: program.Program, name: str, x: Operand, y: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, Dropout)
        dropout_kernels.add_dropout(
            p, f"{layer.name} {name}", whole(x), layer.p, layer.random_key, self.passes, y
        )


def differentiate(p: program.Program, dy: np.ndarray, stage: Stage | None, y: Operand) -> None:
    """Take dy past the activation of a dense stage, where nothing did it on the way."""
    if isinstance(stage, DenseStage) and stage.activation[0]:
        name = f"{stage.layer.name} activation backward"
        activations.add_backward(p, name, stage.activation, dy, y, dy)


def stages_of(layers: list[Layer], dtype: np.dtype[Any]) -> list[Stage]:
    """Group the layers; NotCompilable where one is unknown."""
    stages: list[Stage] = []
    for layer in layers:
        assert layer.output_shape is not None
        if len(layer.output_shape) != 1:
            raise NotCompilable(f"{layer.label} has outputs of shape {layer.output_shape}")
        width = layer.output_shape[0]
        if type(layer) is Dense:
            stages.append(DenseStage(layer, NONE, width))
        elif type(layer) is BatchNorm:
            if stages and isinstance(stages[-1], DenseStage) and not stages[-1].activation[0]:
                stages[-1].normed = True
            stages.append(NormStage(layer, NONE, width, dtype))
        elif type(layer) is Maxout:
            stages.append(DenseStage(layer, NONE, layer.columns))
            stages.append(MaxoutStage(layer, NONE, width))
        elif type(layer) in (Softmax, LogSoftmax):
            stages.append(SoftmaxStage(layer, NONE, width))
        elif type(layer) is Dropout:
            stages.append(DropoutStage(layer, NONE, width))
        elif isinstance(layer, Activation) and layer.operation in activations.NAMES:
            parsed = parse_activation(layer.activation)
            last = stages[-1] if stages else None
            if not isinstance(last, DenseStage | NormStage) or last.activation[0] or (
                isinstance(last, DenseStage) and parsed[0] in NEEDS_INPUT
            ):  # fmt: skip
                stages.append(ActivationStage(layer, parsed, width))
            else:
                last.activation = parsed
        else:
            raise NotCompilable(f"{layer.label} has no compiled operations")
    return stages


def aligned_matrix(rows: int, cols: int, dtype: np.dtype[Any]) -> np.ndarray:
    """A matrix whose rows start on cache lines, an odd number of them apart.

    Rows a power of two apart would fall into the same few sets of the caches: a tile of the matrix
    product reads fourteen of them side by side.
    """
    line = ALIGNMENT // dtype.itemsize
    lines = -(-cols // line) | 1
    return aligned_zeros(rows * lines * line, dtype).reshape(rows, lines * line)[:, :cols]


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
    ) -> None:
        rule = optimizer.compiled_rule()
        if rule is None:
            raise NotCompilable(f"{optimizer!r} has no compiled update")
        if model.input_shape is None or len(model.input_shape) != 1:
            raise NotCompilable("the input is not a matrix")
        self.model, self.optimizer = model, optimizer
        self.rows, self.keeps_gradients = rows, keep_gradients
        flat, dtype = model.flat, model.dtype
        self.stages = stages_of(model.layers, dtype)
        optimizer.bind(flat)
        widths = [model.input_shape[0], *(stage.width for stage in self.stages)]
        self.values = [aligned_matrix(rows, width, dtype) for width in widths]
        self.fused = {
            i for i in range(1, len(self.stages) - 1)
            if isinstance(self.stages[i], NormStage) and rows * widths[i] * dtype.itemsize > FUSED_BYTES
            and all(isinstance(self.stages[j], DenseStage) for j in (i - 1, i + 1))
            and not self.stages[i - 1].activation[0]
        }  # fmt: skip
        self.buffers_before = np.zeros_like(flat.buffers)
        self.program = p = program.Program(dtype.itemsize, rows)

        targets = batch_targets(loss, rows, widths[-1], dtype, soft)
        if targets is None:
            raise NotCompilable(f"{loss!r} has no compiled operations")
        self.targets = targets
        program.add_gather(p, self.values[0], targets)
        if flat.buffers.size:
            program.add_copy(p, "keep running statistics", flat.buffers, self.buffers_before)
        for i in self.fused:
            self.stages[i].fuse(p, self.stages[i - 1], self.values[i])
        self.operands: list[Operand] = [self.values[0]]
        for stage, y in zip(self.stages, self.values[1:], strict=True):
            self.operands.append(stage.forward(p, self.operands[-1], y))
        if l2:
            updates.add_penalty(p, flat.values[: flat.decayed], 0.5 * l2 / rows)
        fused = not keep_gradients and optimizer.clip_norm is None
        separate = self._sinks(p, rule, l2) if fused else [slice(0, None)]
        self._backward(p, loss, targets, widths)
        if optimizer.clip_norm is not None:
            updates.add_clip_by_norm(p, flat.gradients, optimizer.clip_norm)
        for part in separate:
            state = [optimizer.state[name][part] for name in optimizer.state_names()]
            updates.add_update(
                p, rule, flat.values[part], flat.gradients[part], state, flat.decayed - part.start,
                optimizer.weight_decay, l2 / rows, optimizer.clip_value,
            )  # fmt: skip

    def _sinks(self, p: program.Program, rule: updates.Rule, l2: float) -> list[slice]:
        """Fuse the update into the products where it wins; the stretches that are left over."""
        flat, optimizer = self.model.flat, self.optimizer
        state = [optimizer.state[name] for name in optimizer.state_names()]
        decays = optimizer.weight_decay, l2 / self.rows
        sink = updates.sink(p, rule, flat.values, state, *decays, optimizer.clip_value)
        left = []
        dense_stages = [stage for stage in self.stages if isinstance(stage, DenseStage)]
        for stage in dense_stages:
            weight = stage.layer.parameters["weight"]
            stage.offset = flat.offsets[f"{stage.layer.name}.weight"]
            inputs, units = weight.shape
            if dense.update_is_better_fused(self.rows, inputs, units, flat.dtype.itemsize):
                stage.sink = sink
            else:
                left.append(slice(stage.offset, stage.offset + weight.size))
        if not any(stage.sink for stage in dense_stages):
            return [slice(0, None)]
        return [*left, slice(flat.decayed, None)]

    def _backward(
        self, p: program.Program, loss: Loss, targets: np.ndarray, widths: list[int]
    ) -> None:
        """Loss and gradients; the gradients of the outputs take turns in two buffers."""
        # of the outputs only: nobody asks for the gradient of the input
        widest = max(widths[1:])
        self.turns = [aligned_matrix(self.rows, widest, self.model.dtype) for _ in range(2)]
        turns = list(self.turns)
        dout = turns[0][:, : widths[-1]]
        add_loss(p, loss, self.values[-1], targets, dout)
        dy: Operand = dout
        differentiate(p, dy, self.stages[-1], self.values[-1])
        for i in reversed(range(len(self.stages))):
            stage, before = self.stages[i], self.stages[i - 1] if i else None
            dx = turns[1][:, : widths[i]] if i else None
            dy = stage.backward(p, dy, dx, before, self.operands[i], self.values[i + 1])
            if dy is dx:
                turns.reverse()

    def run(
        self,
        X: np.ndarray,
        y: np.ndarray,
        order: np.ndarray,
        first: int,
        steps: int,
        lrs: np.ndarray,
    ) -> Outcome:
        """`steps` mini-batches, as `fastnn.plain_step.Step.run` says."""
        random = [stage for stage in self.stages if isinstance(stage, DropoutStage)]
        for stage in random:
            stage.passes[0] = stage.layer.training_passes
        try:
            done, total, last, correct, stopped = self.program.run(
                X, y, order, first, steps, lrs, self.optimizer.step_count
            )
        finally:  # also when interrupted
            self.optimizer.step_count += self.program.done
            for stage in random:
                stage.layer.training_passes += self.program.done
        outcome = Outcome(done, total, last, correct)
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
        norms = [a for s in self.stages if isinstance(s, NormStage) for a in (s.mean, s.rstd)]
        which = [stage.which for stage in self.stages if isinstance(stage, MaxoutStage)]
        return {
            "parameters": flat.state.nbytes + self.buffers_before.nbytes,
            "gradients": flat.gradients.nbytes,
            "optimizer": sum(array.nbytes for array in self.optimizer.state.values()),
            "saved": sum(map(_held, [*self.values, *norms, *which, self.targets])),
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
) -> CompiledStep:
    """The compiled step for mini-batches of `rows` rows; NotCompilable where there is none."""
    return CompiledStep(model, loss, optimizer, rows, keep_gradients, l2, soft)
