"""Which piece of a piecewise smooth layer or loss each of its values is on.

Two passes whose values are on different pieces have a kink between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.layers import Activation, Maxout
from fastnn.layers.base import Layer

#: For each activation with kinks: where its input or its output passes them.
OUTPUT_KINKS = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "relu6": (0.0, 6.0),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}
INPUT_KINKS = {"hard_swish": (-3.0, 3.0)}
#: Losses whose gradient jumps, and so tells the piece.
BENT_LOSSES = ("multiclass_hinge", "mean_absolute_error")


def pieces(layer: Layer, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The piece of every value of a layer after its forward pass; None where it has no kinks."""
    if isinstance(layer, Maxout):
        which: np.ndarray = layer._which
        return which
    if not isinstance(layer, Activation):
        return None
    if layer.operation in OUTPUT_KINKS:
        # The upper bound belongs to the upper piece, and the lower one to the lower.
        low, *high = OUTPUT_KINKS[layer.operation]
        return (y > low).astype(np.uint8) + sum((y >= bound for bound in high), np.uint8(0))
    if layer.operation in INPUT_KINKS:
        low, upper = INPUT_KINKS[layer.operation]
        return (x > low).astype(np.uint8) + (x >= upper)
    return None


def loss_pieces(loss: Any, dout: np.ndarray) -> np.ndarray | None:
    """The same of a loss, from its gradient."""
    return np.sign(dout) if getattr(loss, "name", "") in BENT_LOSSES else None
