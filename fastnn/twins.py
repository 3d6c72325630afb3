"""Copies of a model to try things on while the model itself stays as it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Sequential


def twin_of(model: Sequential, optimizer: bool = True) -> Sequential:
    """A copy without the history; on request without the optimizer, whose state is as large as the model."""
    left_out = [model.history] if optimizer else [model.history, model.optimizer]
    return copy.deepcopy(model, {id(part): None for part in left_out})


def twin_again(twin: Sequential | None, model: Sequential, optimizer: bool = True) -> Sequential:
    """The copy of an earlier look brought up to date, which costs less than a new one.

    It is a new one the first time, and where a layer is not from this package: nobody knows what such a
    layer keeps beside its parameters.
    """
    ours = all(type(layer).__module__.startswith(__package__ + ".") for layer in model.layers)
    if twin is None or not ours:
        return twin_of(model, optimizer)
    _bring_up_to_date(twin, model)
    return twin


def _bring_up_to_date(twin: Sequential, model: Sequential) -> None:
    """Copy what a fit changes in a model, and the settings that may be changed in between."""
    twin.flat.state[:] = model.flat.state
    for mine, now in zip(twin.layers, model.layers, strict=True):
        mine.training_passes = now.training_passes
        for name in now.adjustable:
            setattr(mine, name, getattr(now, name))
    if twin.optimizer is not None and model.optimizer is not None:
        twin.optimizer.bind(twin.flat)
        for name, array in model.optimizer.state.items():
            twin.optimizer.state[name][:] = array
        settings = {k: v for k, v in vars(model.optimizer).items() if k not in ("state", "_flat")}
        vars(twin.optimizer).update(settings)
