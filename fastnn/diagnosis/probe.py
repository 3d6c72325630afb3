"""A look into a model: one imagined training step, on a copy.

The copy makes a forward and a backward pass on some rows and the update that the optimizer would make;
what is written down is how the values, the gradients and the update of each layer look. The model, its
running statistics, its random streams and its optimizer stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..layers import Activation
from ..losses import Loss
from ..norms import norm
from ..twins import twin_again

if TYPE_CHECKING:
    from ..models import Sequential

#: Rows that are looked at: enough for a unit that fires on one row in a hundred to be seen at work
#: (it is missed with 0.99^256, 8%), and few enough to cost no more than a few training steps.
ROWS = 256

#: Where an output lies so near its ends that the derivative is at most a twenty-fifth of the steepest one.
SATURATED = {
    "tanh": (-0.99, 0.99),
    "sigmoid": (0.01, 0.99),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}
#: Activations whose units are dead where they are 0 for every row: no gradient comes through.
RECTIFIERS = ("relu", "relu6")
#: A unit is saturated that is so on this share of the rows.
MOST_ROWS = 0.5


@dataclass(frozen=True)
class Units:
    """The units of an activation layer.

    Attributes
    ----------
    layer, label : str
        "2" and "2 (ReLU)".
    count : int
    dead, saturated : int or None
        How many are; None where the activation knows no such thing.
    last : bool
        Whether it is the model's output.
    """

    layer: str
    label: str
    count: int
    dead: int | None
    saturated: int | None
    last: bool


@dataclass(frozen=True)
class Weights:
    """A layer with weights (parameters that decay): Euclidean norms.

    Attributes
    ----------
    layer, label : str
    norm, gradient : float
        Of the weights, and of the loss's gradient by them.
    update : float or None
        Of the change that the optimizer would make; None without an optimizer.
    signal : float
        Of the gradient by the layer's output, the root mean square over the rows.
    """

    layer: str
    label: str
    norm: float
    gradient: float
    update: float | None
    signal: float


@dataclass(frozen=True)
class Probe:
    """What one look has shown.

    Attributes
    ----------
    rows : int
    epoch : int
        0 before training.
    fresh : bool
        No step had been made before.
    loss : float or None
        Without penalties, in training mode; None without targets.
    not_finite : str or None
        The first layer with a value that is NaN or infinite ("input", "loss" for those).
    units : list of Units
    weights : list of Weights
        Empty without targets, and where something is not finite.
    """

    rows: int
    epoch: int
    fresh: bool
    loss: float | None = None
    not_finite: str | None = None
    units: list[Units] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)


def take(
    model: Sequential,
    x: np.ndarray,
    targets: np.ndarray | None = None,
    loss: Loss | None = None,
    epoch: int = 0,
    fresh: bool = False,
    twin: Sequential | None = None,
) -> Probe:
    """Look at a built model with prepared rows and targets.

    `twin` is a copy of it from an earlier look: to bring it up to date costs less than a new one.

    Raises
    ------
    ValueError
        Fewer rows than a layer needs to train on.
    """
    need = max(layer.min_rows for layer in model.layers)
    if len(x) < need:
        raise ValueError(f"x has {len(x)} rows, a batch norm needs at least {need} to be looked at")
    twin = twin_again(twin, model)
    with np.errstate(all="ignore"):
        outputs = twin.forward_all(x, training=True)
        units = _units(twin, outputs)
        where = _not_finite(twin, x, outputs)
        if where is not None or targets is None or loss is None:
            return Probe(len(x), epoch, fresh, None, where, units)
        value, dout = loss.forward_backward(outputs[-1], targets)
        if not np.isfinite(value):
            return Probe(len(x), epoch, fresh, float(value), "loss", units)
        weights = _weights(twin, model, dout)
    return Probe(len(x), epoch, fresh, float(value), None, units, weights)


def _not_finite(twin: Sequential, x: np.ndarray, outputs: list[np.ndarray]) -> str | None:
    if not np.isfinite(x).all():
        return "input"
    for layer, output in zip(twin.layers, outputs, strict=True):
        arrays = (output, *layer.parameters.values(), *layer.buffers.values())
        if not all(np.isfinite(array).all() for array in arrays):
            return layer.name
    return None


def _units(twin: Sequential, outputs: list[np.ndarray]) -> list[Units]:
    found = []
    for layer, output in zip(twin.layers, outputs, strict=True):
        if not isinstance(layer, Activation):
            continue
        dead = saturated = None
        if layer.operation in RECTIFIERS:
            dead = int((~output.any(axis=0)).sum())
        if layer.operation in SATURATED:
            low, high = SATURATED[layer.operation]
            share = ((output <= low) | (output >= high)).mean(axis=0)
            saturated = int((share >= MOST_ROWS).sum())
        last = layer is twin.layers[-1]
        found.append(Units(layer.name, layer.label, output[0].size, dead, saturated, last))
    return found


def _weights(twin: Sequential, model: Sequential, dout: np.ndarray) -> list[Weights]:
    signals = _backward(twin, dout)
    moved = twin.optimizer is not None and twin.optimizer.update(twin.flat)
    found = []
    for layer, still in zip(twin.layers, model.layers, strict=True):
        names = [declared.name for declared in layer._declared_parameters if declared.decay]
        if not names:
            continue
        size, gradient, update = (
            norm(*arrays)
            for arrays in (
                [still.parameters[name] for name in names],
                [layer.gradients[name] for name in names],
                [layer.parameters[name] - still.parameters[name] for name in names],
            )
        )
        made = update if moved else None
        signal = signals[layer.name]
        found.append(Weights(layer.name, layer.label, size, gradient, made, signal))
    return found


def _backward(twin: Sequential, dy: np.ndarray) -> dict[str, float]:
    """Backward through all layers; how large the gradient by the output of each one is."""
    signals = {}
    passed: np.ndarray | None = dy
    for layer in reversed(twin.layers):
        assert passed is not None
        signals[layer.name] = norm(passed) / len(passed) ** 0.5
        layer.need_dx = layer is not twin.layers[0]
        for gradient in layer.gradients.values():
            gradient.fill(0.0)
        passed = layer.backward(passed)
    return signals
