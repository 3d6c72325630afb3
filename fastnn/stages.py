"""Stages: the layers of a model as the compiled step (`fastnn.step`) knows them.

A stage is a layer, or a layer and the activation after it where the two are done in one pass.  It adds
its operations to a program: forward, and later backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._kernels import activations, batchnorm, dense, fusion, program
from fastnn._kernels import dropout as dropout_kernels
from fastnn._kernels import maxout as maxout_kernels
from fastnn._kernels import softmax as softmax_kernels
from fastnn.checks import NEEDS_INPUT, Parsed, parse_activation
from fastnn.flat import aligned_zeros
from fastnn.layers import Activation, BatchNorm, Dense, Dropout, Layer, LogSoftmax, Maxout, Softmax

NONE: Parsed = (None, {})
#: What a product of matrices reads: a matrix, or what makes one as it is packed.
Operand = np.ndarray | program.Source

#: Gradients of more bytes than this are added up for the bias by the product that makes them: `deep` is 1.02
#: times as fast (measured).
SUMMED_BYTES = 1 << 19
#: Activations that cost less to make again than to read from memory.
CHEAP = {None, "relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid", "hard_swish"}


class NotCompilable(Exception):
    """The model has a part that the compiled step does not know; `PlainStep` takes it."""


def whole(x: Operand) -> np.ndarray:
    """An operand that is in memory: only products of matrices make theirs as they read them."""
    assert isinstance(x, np.ndarray)
    return x


@dataclass
class Stage:
    """One layer, with the activation that follows it where the two are done in one pass."""

    layer: Layer
    activation: Parsed
    width: int

    @property
    def made_again(self) -> bool:
        """The output is made where it is read, and never in memory."""
        return False

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
    summed = False  # the gradient of the bias comes with the product that makes dy

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
            saved = whole(x) if through[0] else None
            norm = before.norm if isinstance(before, NormStage) else None
            db = before.take_bias(dx) if isinstance(before, DenseStage) else None
            dense.add_input_gradient(
                p, f"{name} dense dx", dx, dy, self.layer.parameters["weight"], through, saved,
                norm.gradient_sums(dx) if norm else None, db,
            )  # fmt: skip
        dw = gradients["weight"] if self.sink is None else None
        dense.add_weight_gradient(p, f"{name} dense dw", dw, x, dy, self.sink, self.offset)
        if self.normed and "bias" in gradients:
            program.add_zero(p, f"{name} dense db", gradients["bias"])
        elif "bias" in gradients and not self.summed:
            dense.add_bias_gradient(p, f"{name} dense db", gradients["bias"], whole(dy))
        return dx

    def take_bias(self, dy: np.ndarray) -> np.ndarray | None:
        """Where the product that makes dy is to put its column sums, if it is to take them: what fits
        into a core's cache is summed faster by an operation of its own."""
        self.summed = "bias" in self.layer.gradients and dy.nbytes > SUMMED_BYTES
        return self.layer.gradients["bias"] if self.summed else None


class NormStage(Stage):
    """y = act(batch norm of x).

    Between two dense layers, a large batch norm is done inside their products (`step.FUSED_BYTES`).
    """

    inside: DenseStage | None = None  # the dense layer before, whose product takes part
    norm: fusion.FusedNorm | None = None

    def __init__(
        self, layer: BatchNorm, activation: Parsed, width: int, dtype: np.dtype[Any]
    ) -> None:
        super().__init__(layer, activation, width)
        self.mean, self.rstd, self.shift = (aligned_zeros(width, dtype) for _ in range(3))

    def fuse(self, p: program.Program, x: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, BatchNorm) and self.inside is not None
        self.norm = self.inside.norm = fusion.FusedNorm(
            p, x, layer.parameters["gamma"], layer.parameters["beta"], layer.buffers["running_mean"],
            layer.buffers["running_var"], layer.momentum, layer.eps, self.activation, self.mean, self.rstd,
            layer.gradients["gamma"], layer.gradients["beta"],
        )  # fmt: skip

    @property
    def made_again(self) -> bool:
        return self.inside is not None and self.activation[0] in CHEAP

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
                p, name, whole(x), layer.parameters["gamma"], layer.parameters["beta"],
                layer.buffers["running_mean"], layer.buffers["running_var"], layer.momentum, layer.eps,
                self.activation, y, self.mean, self.rstd, self.shift,
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
            p, name, whole(dy), whole(x), layer.parameters["gamma"], self.mean, self.rstd,
            self.shift, y if from_output else None, self.activation,
            whole(dy) if dx is None else dx, layer.gradients["gamma"], layer.gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            differentiate(p, dx, before, x)
        return dx


class ActivationStage(Stage):
    """y = act(x), where there is nothing to fuse it with."""

    def forward(self, p: program.Program, x: Operand, y: np.ndarray) -> Operand:
        activations.add_forward(p, f"{self.layer.name} activation", self.activation, whole(x), y)
        return y

    def backward(self, p: program.Program, dy: Operand, dx: np.ndarray | None, before: Stage | None,
                 x: Operand, y: np.ndarray) -> Operand | None:  # fmt: skip
        if dx is not None:
            saved = whole(x) if self.activation[0] in NEEDS_INPUT else y
            name = f"{self.layer.name} activation backward"
            activations.add_backward(p, name, self.activation, whole(dy), saved, dx)
            differentiate(p, dx, before, x)
        return dx


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
        activations.add_backward(p, name, stage.activation, dy, whole(y), dy)


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
