"""Updates of parameters and clipping of gradients, as single kernels: their operands and calls.

They work in place. Each contender therefore copies its operands when it builds the call: the check
sees one step from the same start, and the timed calls go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# The state beside the parameters w and their gradient dw, and the settings of the call.
RATE = 1e-3
UPDATES: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "sgd_update": (("v",), {"lr": RATE, "momentum": 0.9}),
    "adagrad_update": (("h",), {"lr": RATE, "eps": 1e-10}),
    "rmsprop_update": (("h",), {"lr": RATE, "rho": 0.99, "eps": 1e-8}),
    "adam_update": (("m", "v"), {"lr": RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    "adamw_update": (
        ("m", "v"),
        {"lr": RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
    ),
}
STEP = 10  # of Adam: how many updates there were, this one included
# The gradient is clipped again and again: the norm is below its limit, as mostly in training, and
# the values lie between theirs from the second call on.
CLIPS = {"clip_by_value": 1.0, "clip_by_global_norm": 1e9}
NAMES = (*UPDATES, *CLIPS)


def inputs(op: str, shape: tuple[int, ...], dtype: str, seed: int) -> dict[str, np.ndarray]:
    """``dw``, and for an update ``w`` and its state, which is not negative."""
    rng = np.random.default_rng(seed)
    names = ("dw",) if op in CLIPS else ("dw", "w", *UPDATES[op][0])
    arrays = {name: rng.standard_normal(shape) for name in names}
    return {n: (a if n in ("w", "dw") else np.abs(a)).astype(dtype) for n, a in arrays.items()}


def call(f: Any, op: str, arrays: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    """The call of the module `f` (`fastnn.functional` or `fastnn.reference`) on copies."""
    function, own = getattr(f, op), {name: a.copy() for name, a in arrays.items()}
    dw = own["dw"]
    if op == "clip_by_value":
        limit = CLIPS[op]
        return lambda: (function(dw, limit), dw)[1:]
    if op == "clip_by_global_norm":
        limit = CLIPS[op]
        return lambda: (function(dw, limit), dw)
    names, settings = UPDATES[op]
    w, state = own["w"], [own[name] for name in names]
    keywords: dict[str, Any] = {**settings, "step": STEP} if "adam" in op else settings

    def run() -> tuple[np.ndarray, ...]:
        function(w, dw, *state, **keywords)
        return w, *state

    return run
