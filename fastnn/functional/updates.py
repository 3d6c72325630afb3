"""Parameter updates in place: the compiled side of `fastnn.reference.updates`."""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the docstrings use it)

from fastnn import contracts
from fastnn._kernels import updates as kernels
from fastnn.checks import Array
from fastnn.functional._twins import documented


@documented
def sgd_update(
    w: Array,
    dw: Array,
    v: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    lr, momentum, weight_decay = contracts.sgd_update(
        w, dw, v, lr, momentum, nesterov, weight_decay
    )
    kernels.sgd(w, dw, v if momentum else None, lr, momentum, nesterov, weight_decay)
