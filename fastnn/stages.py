"""Stages: the layers of a model as the compiled step (`fastnn.step`) knows them.

A stage is a layer, or a layer and the activation after it where the two are done in one pass.  It adds
its operations to a program: forward, and later backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._kernels import activations, batchnorm, dense, program
from fastnn._kernels import dropout as dropout_kernels
from fastnn._kernels import maxout as maxout_kernels
from fastnn._kernels import softmax as softmax_kernels
from fastnn.checks import NEEDS_INPUT, Parsed, parse_activation
from fastnn.layers import Activation, BatchNorm, Dense, Dropout, Layer, LogSoftmax, Maxout, Softmax
from fastnn.memory import aligned_zeros

NONE: Parsed = (None, {})

#: Gradients of more bytes than this are added up for the bias by the product that makes them: `deep` is 1.02
#: times as fast (measured).
SUMMED_BYTES = 1 << 19


class NotCompilable(Exception):
    """The model has a part that the compiled step does not know; `PlainStep` takes it."""


@dataclass
class Stage:
    """One layer, with the activation that follows it where the two are done in one pass."""

    layer: Layer
    activation: Parsed
    width: int

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        """From x to y."""
        raise NotImplementedError

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        """From dy to dx; dy is already past the derivative of this stage's activation."""
        raise NotImplementedError


class DenseStage(Stage):
    """y = act(x @ w + b).  Its gradients take dz, the gradient before the activation."""

    sink: program.Sink | None = None  # where the gradient of the weights goes if nobody reads it
    offset = 0  # of the weights among the flat parameters
    #: A batch norm follows and takes the mean away: the gradient of the bias is 0, exactly.  Adding dy
    #: up gives rounding errors instead, at 2% of a step.
    normed = False
    summed = False  # the gradient of the bias comes with the product that makes dy

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        params = self.layer.parameters
        dense.add_forward(
            p, f"{self.layer.name} dense forward", x, params["weight"], params.get("bias"),
            self.activation, y,
        )  # fmt: skip

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        name, gradients = self.layer.name, self.layer.gradients
        if dx is not None:
            # x is the output of the dense stage before, if it is one: its derivative on the way out
            through = before.activation if isinstance(before, DenseStage) else NONE
            saved = x if through[0] else None
            db = before.take_bias(dx) if isinstance(before, DenseStage) else None
            dense.add_input_gradient(
                p, f"{name} dense dx", dx, dy, self.layer.parameters["weight"], through, saved, db=db,
            )  # fmt: skip
        dw = gradients["weight"] if self.sink is None else None
        dense.add_weight_gradient(p, f"{name} dense dw", dw, x, dy, self.sink, self.offset)
        if self.normed and "bias" in gradients:
            program.add_zero(p, f"{name} dense db", gradients["bias"])
        elif "bias" in gradients and not self.summed:
            dense.add_bias_gradient(p, f"{name} dense db", gradients["bias"], dy)

    def take_bias(self, dy: np.ndarray) -> np.ndarray | None:
        """Where the product that makes dy is to put its column sums, if it is to take them: what fits
        into a core's cache is summed faster by an operation of its own."""
        self.summed = "bias" in self.layer.gradients and dy.nbytes > SUMMED_BYTES
        return self.layer.gradients["bias"] if self.summed else None


class NormStage(Stage):
    """y = act(batch norm of x).

    A large one between two dense layers was tried inside their products, without passes over memory of its
    own: steps took longer on a Zen 4; on a Cascade Lake as long, and on two threads up to 4% less.
    """

    def __init__(
        self, layer: BatchNorm, activation: Parsed, width: int, dtype: np.dtype[Any]
    ) -> None:
        super().__init__(layer, activation, width)
        self.mean, self.rstd, self.shift = (aligned_zeros(width, dtype) for _ in range(3))

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, BatchNorm)
        batchnorm.add_forward(
            p, f"{layer.name} batch norm forward", x, layer.parameters["gamma"], layer.parameters["beta"],
            layer.buffers["running_mean"], layer.buffers["running_var"], layer.momentum, layer.eps,
            self.activation, y, self.mean, self.rstd, self.shift,
        )  # fmt: skip

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        layer = self.layer
        from_output = self.activation[0] is not None and self.activation[0] not in NEEDS_INPUT
        batchnorm.add_backward(
            p, f"{layer.name} batch norm backward", dy, x, layer.parameters["gamma"], self.mean, self.rstd,
            self.shift, y if from_output else None, self.activation, dy if dx is None else dx,
            layer.gradients["gamma"], layer.gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            differentiate(p, dx, before, x)


class ActivationStage(Stage):
    """y = act(x), where there is nothing to fuse it with."""

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        activations.add_forward(p, f"{self.layer.name} activation", self.activation, x, y)

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        if dx is not None:
            saved = x if self.activation[0] in NEEDS_INPUT else y
            name = f"{self.layer.name} activation backward"
            activations.add_backward(p, name, self.activation, dy, saved, dx)
            differentiate(p, dx, before, x)


class MaxoutStage(Stage):
    """y = maximum of the pieces; the affine maps are a dense stage before it."""

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, Maxout)
        self.which = np.zeros(y.shape, np.uint8)
        maxout_kernels.add_forward(p, f"{layer.name} maxout", x, layer.pieces, y, self.which)

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        layer = self.layer
        assert isinstance(layer, Maxout) and dx is not None
        maxout_kernels.add_backward(
            p, f"{layer.name} maxout backward", dy, self.which, layer.pieces, dx
        )


class SoftmaxStage(Stage):
    """y = softmax(x) or its logarithm."""

    @property
    def logarithm(self) -> bool:
        return isinstance(self.layer, LogSoftmax)

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        softmax_kernels.add_forward(p, f"{self.layer.name} softmax", x, self.logarithm, y)

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        if dx is not None:
            name = f"{self.layer.name} softmax backward"
            softmax_kernels.add_backward(p, name, dy, y, self.logarithm, dx)
            differentiate(p, dx, before, x)


class DropoutStage(Stage):
    """y = x masked and scaled; the backward pass makes the mask again."""

    def forward(self, p: program.Program, x: np.ndarray, y: np.ndarray) -> None:
        self.passes = np.zeros(1, np.int64)  # the layer's count at the start of a run
        self._add(p, "dropout", x, y)

    def backward(self, p: program.Program, dy: np.ndarray, dx: np.ndarray | None, before: Stage | None,
                 x: np.ndarray, y: np.ndarray) -> None:  # fmt: skip
        if dx is not None:
            self._add(p, "dropout backward", dy, dx)
            differentiate(p, dx, before, x)

    def _add(self, p: program.Program, name: str, x: np.ndarray, y: np.ndarray) -> None:
        layer = self.layer
        assert isinstance(layer, Dropout)
        dropout_kernels.add_dropout(
            p, f"{layer.name} {name}", x, layer.p, layer.random_key, self.passes, y
        )


def differentiate(p: program.Program, dy: np.ndarray, stage: Stage | None, y: np.ndarray) -> None:
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
