"""Optimizers: how gradients become a change of the parameters.

An optimizer works on the flat buffers of a model. A class names its state arrays and applies
one operation of `fastnn.functional` to a stretch of them; everything else is here in the base.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import functional
from .checks import check_fraction, check_not_negative
from .flat import FlatParameters, aligned_zeros

Schedule = Callable[[int], float]


class Optimizer:
    """The base of all optimizers.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a schedule: a callable of the step (0, 1, …) that returns it.
    weight_decay : float
        Applied to weight matrices only, never to biases, gamma and beta; not part of the loss.

    Attributes
    ----------
    step_count : int
        Updates made so far.
    state : dict of str to ndarray
        Flat arrays of the parameters' shape, by name; there once a model uses the optimizer.
    """

    def __init__(self, lr: float | Schedule, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = check_not_negative(weight_decay, "weight_decay")
        self.step_count = 0
        self.state: dict[str, np.ndarray] = {}
        self._flat: FlatParameters | None = None

    @property
    def lr(self) -> float | Schedule:
        """The learning rate or schedule; may be changed between steps."""
        return self._lr

    @lr.setter
    def lr(self, value: float | Schedule) -> None:
        self._lr = value if callable(value) else check_not_negative(value, "lr")

    # What a class defines ------------------------------------------------------------------------

    def state_names(self) -> tuple[str, ...]:
        """The names of the state arrays these settings need."""
        return ()

    def apply(
        self,
        w: np.ndarray,
        dw: np.ndarray,
        state: dict[str, np.ndarray],
        lr: float,
        weight_decay: float,
        l2: float,
    ) -> None:
        """Update one stretch of the flat buffers in place.

        `weight_decay` is the optimizer's own, or 0 where the stretch does not decay; `l2` is the
        coefficient of w that an L2 penalty adds to the gradient. They are two, because an optimizer
        may keep its decay apart from the gradient (AdamW).
        """
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"lr": self.lr, "weight_decay": self.weight_decay}

    # ---------------------------------------------------------------------------------------------

    def bind(self, flat: FlatParameters) -> None:
        """Allocate the state for a model's parameters; a second call for the same one keeps it.

        Raises
        ------
        ValueError
            The optimizer holds the state of another model.
        """
        if self._flat is flat:
            return
        if self._flat is not None:
            raise ValueError(
                f"this {type(self).__name__} already serves another model and holds its state; "
                "give each model its own, for example optimizer.copy()"
            )
        self._flat = flat
        self.step_count = 0
        self.state = {
            name: aligned_zeros(flat.values.size, flat.dtype) for name in self.state_names()
        }

    def rebind(self, flat: FlatParameters) -> None:
        """Carry the state over to the parameters of a model that was copied or unpickled."""
        state, count = self.state, self.step_count
        self._flat = None
        self.bind(flat)
        self.step_count = count
        for name, array in state.items():
            self.state[name][:] = array

    def copy(self) -> Optimizer:
        """An optimizer with the same settings, without state, for another model."""
        return type(self)(**self.get_config())

    def learning_rates(self, steps: int) -> np.ndarray:
        """The rates of the next `steps` updates, float64.

        Raises
        ------
        ValueError
            The schedule returned something that is not a finite number of at least 0.
        """
        if not callable(self._lr):
            return np.full(steps, self._lr)
        first = self.step_count
        rates = np.array([self._lr(step) for step in range(first, first + steps)], dtype=np.float64)
        wrong = ~(np.isfinite(rates) & (rates >= 0))
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"the schedule {self._lr!r} returned {rates[at]} at step {first + at}, "
                "expected a finite learning rate of at least 0"
            )
        return rates

    def update(self, flat: FlatParameters, lr: float | None = None, l2: float = 0.0) -> None:
        """One step: change ``flat.values`` by ``flat.gradients``.

        Parameters
        ----------
        flat : FlatParameters
            Of the model that the optimizer is bound to (it is bound here if it is not yet).
        lr : float, optional
            The learning rate of this step; the optimizer's own by default.
        l2 : float
            l2 · w is added to the gradient of what decays.
        """
        self.bind(flat)
        if lr is None:
            lr = float(self.learning_rates(1)[0])
        split = flat.decayed if self.weight_decay or l2 else 0
        for part, decay, penalty in (
            (slice(0, split), self.weight_decay, l2),
            (slice(split, None), 0.0, 0.0),
        ):
            w = flat.values[part]
            if w.size:
                state = {name: array[part] for name, array in self.state.items()}
                self.apply(w, flat.gradients[part], state, lr, decay, penalty)
        self.step_count += 1

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles; the copied model ties its optimizer to itself with `rebind`.
        return {**self.__dict__, "_flat": None}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964; Sutskever et al. 2013).

    g = dw + weight_decay·w;  v = momentum·v + g;  w −= lr·v, or with `nesterov`
    w −= lr·(g + momentum·v), as PyTorch does.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a callable of the step.
    momentum : float, 0 to below 1
    nesterov : bool
        Look ahead along the velocity; needs a momentum.
    weight_decay : float
        For weight matrices only.

    Raises
    ------
    TypeError, ValueError
        A setting is out of range.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    def __init__(
        self,
        lr: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = check_fraction(momentum, "momentum")
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum greater than 0")

    def state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def apply(
        self,
        w: np.ndarray,
        dw: np.ndarray,
        state: dict[str, np.ndarray],
        lr: float,
        weight_decay: float,
        l2: float,
    ) -> None:
        functional.sgd_update(
            w,
            dw,
            state.get("velocity"),
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=weight_decay + l2,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "lr": self.lr,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
        }


_NAMED: dict[str, Callable[[], Optimizer]] = {"sgd": SGD}


def get(optimizer: Any) -> Optimizer:
    """The optimizer meant by an object, or by a name with its default settings.

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        Neither a name nor an `Optimizer`.
    """
    if isinstance(optimizer, str):
        if optimizer.lower() not in _NAMED:
            raise ValueError(f"unknown optimizer {optimizer!r}; there are {', '.join(_NAMED)}")
        return _NAMED[optimizer.lower()]()
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer is {optimizer!r}; expected an object such as fastnn.SGD(lr=0.1, "
            f"momentum=0.9), or one of the names {', '.join(_NAMED)}"
        )
    return optimizer
