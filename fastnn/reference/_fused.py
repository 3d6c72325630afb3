"""An activation given by name, for the operations that have one built in."""

from __future__ import annotations

from fastnn.checks import NEEDS_INPUT, Array, Parsed
from fastnn.reference import activations, gated


def apply(activation: Parsed, z: Array) -> Array:
    """The activation of `z`, or `z` itself where there is none."""
    name, parameters = activation
    if name is None:
        return z
    home = gated if name in NEEDS_INPUT else activations
    y: Array = getattr(home, name)(z, **parameters)
    return y


def differentiate(activation: Parsed, dy: Array, saved: Array) -> Array:
    """The gradient before the activation; `saved` is its output or, if it needs that, its input."""
    name, parameters = activation
    if name is None:
        return dy
    home = gated if name in NEEDS_INPUT else activations
    dz: Array = getattr(home, f"{name}_backward")(dy, saved, **parameters)
    return dz
