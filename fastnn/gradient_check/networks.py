"""The loss of a network as a function of its parameters, in float64, on a copy.

Only what lies behind a parameter depends on it: the forward pass starts again at the parameter's layer,
from the saved input of that layer. In a large dense layer one weight concerns one column of the output,
which is then moved instead of computing the whole product anew; a few weights of each such layer are
computed both ways first, and must agree.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from typing import Any

import numpy as np

from fastnn.gradient_check.differences import Array
from fastnn.gradient_check.kinks import loss_pieces, pieces
from fastnn.inputs import check_finite, check_lengths
from fastnn.layers import Dense, Dropout
from fastnn.layers.base import Layer
from fastnn.losses import Loss
from fastnn.network import Network

#: Multiplications of a dense layer from which on moving a column beats the whole product.
LARGE_PRODUCT = 1 << 17
#: Weights of a large dense layer that are computed both ways.
COMPARED = 8


def float64_copy(model: Network, input_shape: tuple[int, ...]) -> Network:
    """The same network in float64, sharing nothing with `model`; one not built yet is drawn."""
    layers = [copy.deepcopy(layer) for layer in model.layers]
    for layer in layers:
        layer.name = ""  # it has no place in a model yet
    twin = Network(layers, dtype="float64", seed=model.seed)
    if model.built:
        twin.build_from(input_shape, model.state())
    else:
        twin.build(input_shape)
    return twin


def refuse_dropout(layers: list[Layer]) -> None:
    """Raise where a layer draws a new mask for every pass."""
    for layer in layers:
        if isinstance(layer, Dropout) and layer.p > 0:
            raise ValueError(
                f"layer {layer.label} drops other values at every pass (p = {layer.p:g}), so the loss "
                "is no function of the parameters: switch it off for the check, "
                f"model.layers[{layer.name}].p = 0.0, or check the network as it predicts, "
                "gradcheck(..., training=False) (on the command line --inference)"
            )


class NetworkPoint:
    """`differences.Point` of a network and a loss on a batch.

    Parameters
    ----------
    model : Network
        Left as it is.
    x, y
        The batch, as the user gave it.
    loss : Loss
    training : bool
        Whether batch norm takes the statistics of the batch.
    inputs : bool
        Whether theta goes on with the input "x" after the parameters.
    """

    def __init__(
        self, model: Network, x: Any, y: Any, loss: Loss, training: bool, inputs: bool
    ) -> None:
        rows = np.array(_float64_rows(model, x))
        check_finite(rows, x, "x")
        check_lengths(rows, y, ("x", "y"))
        if training:
            refuse_dropout(model.layers)
        self.model = float64_copy(model, rows.shape[1:])
        self.loss, self.training = loss, training
        self.target = loss.prepare_targets(y, len(rows), self.model.output_shape, self.model.dtype)
        self._buffers = self.model.flat.buffers.copy()
        self._arrays = [
            (f"{layer.name}.{name}", number, array)
            for number, layer in enumerate(self.model.layers)
            for name, array in layer.parameters.items()
        ]
        self.parameters = sum(array.size for _, _, array in self._arrays)
        if inputs or not self.parameters:
            self._arrays.append(("x", 0, rows))
        self.arrays = [Array(name, array.shape, array.size) for name, _, array in self._arrays]
        self._flat = [array.reshape(-1) for _, _, array in self._arrays]
        self._starts = [0, *np.cumsum([a.size for a in self.arrays]).tolist()]

        self._rows = rows
        self._pass()
        self.gradient = self._backward()
        self._refuse_chance()
        self._transposed = {
            number: np.ascontiguousarray(self._inputs[number].T)
            for number, layer in enumerate(self.model.layers)
            if type(layer) is Dense
            and len(rows) * layer.parameters["weight"].size >= LARGE_PRODUCT
            and self._columns_agree(number)
        }

    # --- the base point --------------------------------------------------------------------------

    def _pass(self) -> None:
        """Forward at theta, keeping the input of every layer; loss and its gradient."""
        self._inputs = [self._rows]
        self._restore()
        for layer in self.model.layers:
            x = self._inputs[-1]
            kept = x.copy()
            y = self._forward(layer, x)
            if not np.array_equal(x, kept, equal_nan=True):
                raise ValueError(
                    f"layer {layer.label} changes its input in place, which the layer before it "
                    "needs for its backward: write to a copy"
                )
            self._inputs.append(y.copy() if np.may_share_memory(x, y) else y)
        value, self._dout = self.loss.forward_backward(self._inputs[-1], self.target)
        self.value = float(value)
        if not np.isfinite(self.value):
            raise ValueError(
                f"the loss is {self.value} for these parameters and rows: check where it is finite"
            )

    def _backward(self) -> np.ndarray:
        """The gradient by backward, in the order of theta."""
        with_input = self._arrays[-1][0] == "x"
        dx = self.model.backward_all(self._dout, need_dx=with_input)
        found = self.model.gradients()
        parts = [dx if name == "x" else found[name] for name, _, _ in self._arrays]
        return np.concatenate([np.ravel(part) for part in parts])  # type: ignore[arg-type]

    def _refuse_chance(self) -> None:
        """Raise where the same parameters give another loss: a layer draws random numbers."""
        outputs = self._inputs
        for number, layer in enumerate(self.model.layers):
            self._restore()
            again = self._forward(layer, outputs[number])
            if not np.array_equal(again, outputs[number + 1], equal_nan=True):
                raise ValueError(
                    f"layer {layer.label} returned two different outputs for the same input: it draws "
                    "random numbers or counts its calls; make it repeat itself for the check, or "
                    "check the network as it predicts, gradcheck(..., training=False)"
                )

    def _columns_agree(self, number: int) -> bool:
        """Whether moving a column is what a dense layer does when one of its weights moves."""
        layer, x, y = self.model.layers[number], self._inputs[number], self._inputs[number + 1]
        weight = layer.parameters["weight"]
        rng = np.random.default_rng(number)
        for j in rng.integers(0, weight.size, COMPARED).tolist():
            i, h = divmod(j, weight.shape[1])
            before = float(weight[i, h])
            weight[i, h] = before + 1.0
            whole = self._forward(layer, x)
            weight[i, h] = before
            moved = y.copy()
            moved[:, h] += x[:, i]
            if np.abs(whole - moved).max() > 1e-12 * (np.abs(whole).max() + np.abs(x).max()):
                return False
        return True

    # --- beside it -------------------------------------------------------------------------------

    def at(self, i: int) -> float:
        number = bisect_right(self._starts, i) - 1
        return float(self._flat[number][i - self._starts[number]])

    def moved(self, i: int, step: float) -> tuple[float, float]:
        number = bisect_right(self._starts, i) - 1
        name, first, _ = self._arrays[number]
        flat, j = self._flat[number], i - self._starts[number]
        before = float(flat[j])
        after = before + step
        done = after - before
        if first in self._transposed and name != "x":
            y = self._inputs[first + 1].copy()
            if name.endswith(".weight"):
                row, column = divmod(j, y.shape[1])
                y[:, column] += done * self._transposed[first][row]
            else:
                y[:, j] += done
            return self._loss_from(first + 1, y), done
        flat[j] = after
        try:
            return self._loss_from(first, self._inputs[first]), done
        finally:
            flat[j] = before

    def along(self, direction: np.ndarray, step: float) -> float:
        before = [flat.copy() for flat in self._flat]
        try:
            for flat, start in zip(self._flat, self._starts, strict=False):
                flat += step * direction[start : start + flat.size]
            return self._loss_from(0, self._rows)
        finally:
            for flat, kept in zip(self._flat, before, strict=True):
                flat[:] = kept

    def bend(self, i: int, step: float) -> str:
        number = bisect_right(self._starts, i) - 1
        _, first, _ = self._arrays[number]
        flat, j = self._flat[number], i - self._starts[number]
        before = float(flat[j])
        passes = []
        try:
            for value in (before - step, before, before + step):
                flat[j] = value
                passes.append(self._pieces_from(first))
        finally:
            flat[j] = before
        for (place, *low), (_, *middle), (_, *high) in zip(*passes, strict=True):
            if not np.array_equal(low, middle) or not np.array_equal(middle, high):
                return str(place)
        return ""

    # --- passes ----------------------------------------------------------------------------------

    def _restore(self) -> None:
        if self._buffers.size:
            self.model.flat.buffers[:] = self._buffers

    def _forward(self, layer: Layer, x: np.ndarray) -> np.ndarray:
        return self.model._checked(layer, "forward", layer.forward(x, self.training), len(x))

    def _loss_from(self, first: int, x: np.ndarray) -> float:
        """The loss, from the input of the layer `first` on."""
        self._restore()
        for layer in self.model.layers[first:]:
            x = self._forward(layer, x)
        return float(self.loss.forward_backward(x, self.target)[0])

    def _pieces_from(self, first: int) -> list[tuple[str, np.ndarray]]:
        """Where each value is on the pieces of the layers behind, and of the loss."""
        self._restore()
        x, found = self._inputs[first], []
        for layer in self.model.layers[first:]:
            y = self._forward(layer, x)
            piece = pieces(layer, x, y)
            if piece is not None:
                found.append((layer.label, piece))
            x = y
        piece = loss_pieces(self.loss, self.loss.forward_backward(x, self.target)[1])
        if piece is not None:
            found.append(("loss", piece))
        return found


def _float64_rows(model: Network, x: Any) -> np.ndarray:
    """The input in float64; the numbers that a float32 model sees where x is float64."""
    from fastnn.inputs import as_rows

    shape = model.input_shape if model.built else None
    return as_rows(x, np.dtype(np.float64), shape, "x")
