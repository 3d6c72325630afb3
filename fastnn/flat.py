"""All parameters of a model in one buffer, their gradients in another of the same shape.

    values:  | 0.weight | 3.weight | … | 0.bias | 1.gamma | 1.beta | …
             |<------- decayed ------->|

Weights that decay come first, so weight decay concerns a prefix and an update is one or two loops.
Each parameter starts on a 64-byte boundary (a cache line, an AVX-512 register). The gaps between
them hold zeros and stay zero: their gradient is zero, and no update moves a zero without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import initializers
from .layers.base import Declared, Layer
from .memory import ALIGNMENT, aligned_zeros


class FlatParameters:
    """The buffers behind the views that the layers hold.

    Attributes
    ----------
    values, gradients : ndarray, 1-D
        Parameters, and gradients at the same places.
    buffers : ndarray, 1-D
        The layers' buffers (running statistics) in the same manner.
    state : ndarray, 1-D
        `values` and `buffers` one after the other, in one piece of memory.
    decayed : int
        Weight decay applies to ``values[:decayed]``.
    offsets : dict of str to int
        Where each parameter ("0.weight") starts in `values`.
    """

    def __init__(self, layers: Sequence[Layer], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        declared = [(layer, d) for layer in layers for d in layer._declared_parameters]
        declared.sort(key=lambda entry: not entry[1].decay)  # stable: the order of the layers stays
        buffers = [(layer, d) for layer in layers for d in layer._declared_buffers]
        self.offsets, size, self.decayed = self._place(declared)
        buffer_offsets, buffer_size, _ = self._place(buffers)
        self.gradients = aligned_zeros(size, dtype)
        self.state = aligned_zeros(size + buffer_size, dtype)
        self.values, self.buffers = self.state[:size], self.state[size:]
        for layer, d in declared:
            layer.parameters.attach(d.name, self._view(self.values, self.offsets, layer, d))
            layer.gradients.attach(d.name, self._view(self.gradients, self.offsets, layer, d))
        for layer, d in buffers:
            layer.buffers.attach(d.name, self._view(self.buffers, buffer_offsets, layer, d))

    def _place(self, declared: Iterable[tuple[Layer, Declared]]) -> tuple[dict[str, int], int, int]:
        """Offsets by name, the size of the whole, and the end of what decays."""
        step = ALIGNMENT // self.dtype.itemsize
        offsets: dict[str, int] = {}
        end = decayed = 0
        for layer, d in declared:
            offsets[f"{layer.name}.{d.name}"] = end
            end += -(-math.prod(d.shape) // step) * step
            decayed = end if d.decay else decayed
        return offsets, end, decayed

    @staticmethod
    def _view(whole: np.ndarray, offsets: dict[str, int], layer: Layer, d: Declared) -> np.ndarray:
        start = offsets[f"{layer.name}.{d.name}"]
        return whole[start : start + math.prod(d.shape)].reshape(d.shape)


def initialize(layers: Sequence[Layer], seed: int) -> None:
    """Draw every parameter and reset every buffer of built layers.

    Each layer has a random stream of its own, so that what one layer draws does not depend on how
    much the layers before it drew.
    """
    streams = np.random.SeedSequence(seed).spawn(len(layers))
    for layer, stream in zip(layers, streams, strict=True):
        rng = np.random.default_rng(stream)
        for d in layer._declared_parameters:
            layer.parameters[d.name] = initializers.draw(d.initializer, d.shape, rng)
        for d in layer._declared_buffers:
            layer.buffers[d.name] = initializers.draw(d.initializer, d.shape, rng)
