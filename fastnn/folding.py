"""Batch norm folded into the dense layer before it: a smaller model for inference.

With frozen statistics a batch norm is an affine map of each unit, and so is what it makes of the
dense layer before it (s = gamma / sqrt(running_var + eps), one number a unit)::

    y = (x w + b - running_mean) s + beta  =  x (w s) + ((b - running_mean) s + beta)
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import numpy as np

from .layers import BatchNorm, Dense
from .layers.base import Layer, Views

if TYPE_CHECKING:
    from .models import Sequential


def fold_batchnorm(model: Sequential) -> Sequential:
    """A new model for inference, without the batch norms that stand right after a dense layer.

    The documentation is that of `fastnn.models.Sequential.fold_batchnorm`.
    """
    model.parameters()  # a RuntimeError where the model is not built
    assert model.input_shape is not None
    layers: list[Layer] = []
    states: list[dict[str, np.ndarray]] = []
    stay = []
    for layer in model.layers:
        before = layers[-1] if layers else None
        if type(layer) is BatchNorm and before is not None and type(before) is Dense:
            before.bias = True
            _fold(states[-1], layer)
            continue
        if isinstance(layer, BatchNorm):
            kind = type(layer).__name__ if type(layer) is not BatchNorm else ""
            stay.append(f"layer {layer.label}, {_why(before, kind)}")
        layers.append(_twin(layer))
        states.append({**layer.parameters, **layer.buffers})
    if stay:
        warnings.warn(
            f"fold_batchnorm left in place: {'; '.join(stay)}. The model gives the same results, "
            "with this batch norm computed by itself",
            stacklevel=3,
        )
    folded = type(model)(layers, dtype=model.dtype, seed=model.seed)
    state = {f"{i}.{name}": array for i, own in enumerate(states) for name, array in own.items()}
    folded.build_from(model.input_shape, state)
    folded.loss, folded.preprocessing = model.loss, model.preprocessing
    return folded


def _why(before: Layer | None, kind: str) -> str:
    if kind:
        return f"because {kind} is a class of its own, which may compute something else"
    if before is None:
        return "because it is the first: there is no dense layer before it"
    return f"because it follows {type(before).__name__}, not a dense layer"


def _fold(dense: dict[str, np.ndarray], layer: BatchNorm) -> None:
    """Put the batch norm into the arrays of the dense layer, in float64: the new model rounds them."""
    gamma, beta, mean, var = (
        array.astype(np.float64)
        for array in (
            layer.parameters["gamma"],
            layer.parameters["beta"],
            layer.buffers["running_mean"],
            layer.buffers["running_var"],
        )
    )
    scale = gamma / np.sqrt(var + layer.eps)
    dense["weight"] = dense["weight"] * scale
    dense["bias"] = (dense.get("bias", 0.0) - mean) * scale + beta


def _twin(layer: Layer) -> Layer:
    """The same layer without a place in a model, its settings shared, its arrays left behind."""
    twin = copy.copy(layer)
    twin.name = ""
    twin.parameters, twin.gradients, twin.buffers = Views(), Views(), Views()
    twin._declared_parameters, twin._declared_buffers = [], []
    return twin
