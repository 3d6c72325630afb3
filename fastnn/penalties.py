"""What pulls at the weights: the L1 and L2 penalties of a model and of its layers, and max-norm.

With m rows in a batch, a weight matrix W adds l1/m·Σ|W| + l2/(2m)·Σ‖W‖² to the reported loss and
l1/m·sign(W) + l2/m·W to its gradient; l2 is the layer's own and that of `fit` together. Biases, gamma
and beta are left alone. After each update, a unit's incoming weights (a column of W) that are longer
than the layer's `max_norm` are scaled to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import functional
from .checks import check_not_negative, check_positive

if TYPE_CHECKING:
    from .flat import FlatParameters
    from .layers.base import Layer
    from .network import Network


class Pull(NamedTuple):
    """Flat parameters that are penalised alike; those of them that do not decay are not penalised."""

    part: slice
    l1: float
    l2: float


def pull_of(layer: Layer, l2: float) -> tuple[float, float]:
    """l1 and l2 of a layer in a model whose `fit` has `l2`."""
    own = [
        check_not_negative(getattr(layer, name), f"{name} of {layer!r}") for name in ("l1", "l2")
    ]
    return own[0], own[1] + l2


def pulls(model: Network, l2: float) -> list[Pull]:
    """All flat parameters, in as few stretches as the penalties of the layers allow."""
    flat = model.flat
    found: list[Pull] = []
    for layer in model.layers:  # the decayed ones lie in the order of the layers
        for declared in layer._declared_parameters:
            if not declared.decay:
                continue
            pull = pull_of(layer, l2)
            if not found or (found[-1].l1, found[-1].l2) != pull:
                found.append(
                    Pull(slice(flat.offsets[f"{layer.name}.{declared.name}"], None), *pull)
                )
    if not found:
        return [Pull(slice(0, None), 0.0, 0.0)]
    ends = [pull.part.start for pull in found[1:]]
    return [
        pull._replace(part=slice(pull.part.start, end))
        for pull, end in zip(found, [*ends, None], strict=True)
    ]


def penalty(flat: FlatParameters, found: list[Pull], rows: int) -> float:
    """What is added to the loss of a batch of `rows` rows, summed in float64."""
    total = 0.0
    for part, l1, l2 in found:
        weights = flat.values[: flat.decayed][part]
        # einsum sums in NumPy's own loops: the same bits for any number of BLAS threads.
        with np.errstate(over="ignore"):
            if l2:
                total += 0.5 * l2 * float(np.einsum("i,i->", weights, weights, dtype=np.float64))
            if l1:
                total += l1 * float(np.abs(weights).sum(dtype=np.float64))
    return total / rows


def limited(model: Network) -> Iterator[tuple[np.ndarray, float]]:
    """The weight matrices with a max-norm, and theirs."""
    for layer in model.layers:
        if layer.max_norm is not None:
            limit = check_positive(layer.max_norm, f"max_norm of {layer!r}")
            for declared in layer._declared_parameters:
                if declared.decay and len(declared.shape) == 2:
                    yield layer.parameters[declared.name], limit


def limit_norms(model: Network) -> None:
    """Max-norm after an update."""
    for weight, limit in limited(model):
        functional.max_norm(weight, limit)
