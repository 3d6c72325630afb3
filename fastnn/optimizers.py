"""Optimizers: how gradients become a change of the parameters.

An optimizer works on the flat buffers of a model. A class names its state arrays and its rule, the
kernel that moves a stretch of parameters and the settings it takes; everything else is here in the base.
The compiled step hands the same rule to its kernels, and knows no optimizer by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import functional
from ._kernels.updates import Rule
from .checks import check_fraction, check_not_negative, check_positive
from .flat import FlatParameters
from .memory import aligned_zeros
from .penalties import Pull

Schedule = Callable[[int], float]

#: All parameters, without a penalty.
EVEN = Pull(slice(0, None), 0.0, 0.0)


class Optimizer:
    """The base of all optimizers.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a schedule: a callable of the step (0, 1, …) that returns it.
    weight_decay : float
        Applied to weight matrices only, never to biases, gamma and beta; not part of the loss.
    clip_value : float, optional
        Clip every element of the gradient to [-clip_value, clip_value].
    clip_norm : float, optional
        Scale the gradient, where it is longer, to this Euclidean norm over all parameters (Pascanu,
        Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1). A norm that is NaN or infinite stops
        training before the update.

    Clipped is the gradient of the loss, before weight decay and the L2 penalty are added; what
    `model.gradients()` shows is never clipped.

    Attributes
    ----------
    step_count : int
        Updates made so far.
    state : dict of str to ndarray
        Flat arrays of the parameters' shape, by name; there once a model uses the optimizer.

    Raises
    ------
    TypeError, ValueError
        A setting is out of range, or both ways of clipping are asked for.

    Examples
    --------
    An optimizer of one's own names its state and defines how a stretch of parameters moves (it then
    runs in the plain step; one that only gives a `rule` of the kernels is compiled):

    >>> class SignDescent(Optimizer):
    ...     def apply(self, w, dw, state, lr, weight_decay, l2):
    ...         w -= lr * np.sign(dw + (weight_decay + l2) * w)
    >>> SignDescent(lr=0.1, clip_norm=1.0)
    SignDescent(lr=0.1, weight_decay=0.0, clip_norm=1.0)
    """

    def __init__(
        self,
        lr: float | Schedule,
        weight_decay: float = 0.0,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.lr = lr
        self.weight_decay = check_not_negative(weight_decay, "weight_decay")
        if clip_value is not None and clip_norm is not None:
            raise ValueError("give clip_value or clip_norm, not both")
        self.clip_value = None if clip_value is None else check_positive(clip_value, "clip_value")
        self.clip_norm = None if clip_norm is None else check_positive(clip_norm, "clip_norm")
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

    def rule(self) -> Rule | None:
        """The kernel that makes the update, with its settings; it takes the state in its order."""
        return None

    def apply(
        self,
        w: np.ndarray,
        dw: np.ndarray,
        state: dict[str, np.ndarray],
        lr: float,
        weight_decay: float,
        l2: float,
    ) -> None:
        """Update one stretch of the flat buffers in place; by default by the `rule`.

        `weight_decay` is the optimizer's own, or 0 where the stretch does not decay; `l2` is the
        coefficient of w that an L2 penalty adds to the gradient. They are two, because an optimizer
        may keep its decay apart from the gradient (AdamW).
        """
        rule = self.rule()
        if rule is None:
            raise NotImplementedError(f"{type(self).__name__} must define rule or apply")
        arrays = [state[name] for name in self.state_names()]
        rule.apply(w, dw, arrays, lr, self.step_count + 1, weight_decay, l2)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments beside `lr`, `weight_decay` and the clipping."""
        return {}

    # ---------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"lr": self.lr, **self.settings(), "weight_decay": self.weight_decay}
        clipping = {"clip_value": self.clip_value, "clip_norm": self.clip_norm}
        return {**config, **{name: limit for name, limit in clipping.items() if limit is not None}}

    def compiled_rule(self) -> Rule | None:
        """The rule, if nothing but it makes the update: None where a class brings its own Python."""
        own = type(self).apply is not Optimizer.apply or type(self).update is not Optimizer.update
        return None if own else self.rule()

    def bind(self, flat: FlatParameters) -> None:
        """Allocate the state for a model's parameters; a second call for the same one keeps it.

        Raises
        ------
        ValueError
            The optimizer holds the state of another model.
        """
        if self._flat is flat:
            for name in self.state_names():  # a momentum that was switched on meanwhile
                if name not in self.state:
                    self.state[name] = aligned_zeros(flat.values.size, flat.dtype)
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

    def update(
        self, flat: FlatParameters, lr: float | None = None, pulls: Sequence[Pull] = (EVEN,)
    ) -> bool:
        """One step: change ``flat.values`` by ``flat.gradients``, which stay as they are.

        Parameters
        ----------
        flat : FlatParameters
            Of the model that the optimizer is bound to (it is bound here if it is not yet).
        lr : float, optional
            The learning rate of this step; the optimizer's own by default.
        pulls : sequence of fastnn.penalties.Pull
            Stretches that are all of the parameters: l1 · sign(w) + l2 · w is added to the gradient of
            what decays. By default nothing is.

        Returns
        -------
        bool
            Whether it was made: nothing is changed where `clip_norm` is set and the norm of the
            gradient is NaN or infinite.
        """
        self.bind(flat)
        if lr is None:
            lr = float(self.learning_rates(1)[0])
        gradients = self._clipped(flat.gradients)
        if gradients is None:
            return False
        for part, l1, l2 in pulls:
            start, end, _ = part.indices(flat.values.size)
            middle = min(max(start, flat.decayed), end) if self.weight_decay or l1 or l2 else start
            self._apply(slice(start, middle), gradients, lr, self.weight_decay, l1, l2)
            self._apply(slice(middle, end), gradients, lr, 0.0, 0.0, 0.0)
        self.step_count += 1
        return True

    def _apply(
        self, part: slice, gradients: np.ndarray, lr: float, decay: float, l1: float, l2: float
    ) -> None:
        assert self._flat is not None
        w, dw = self._flat.values[part], gradients[part]
        if w.size:
            state = {name: array[part] for name, array in self.state.items()}
            self.apply(w, dw + l1 * np.sign(w) if l1 else dw, state, lr, decay, l2)

    def _clipped(self, gradients: np.ndarray) -> np.ndarray | None:
        """The gradients or a clipped copy of them; None where their norm is not finite."""
        if self.clip_value is not None:
            gradients = gradients.copy()
            functional.clip_by_value(gradients, self.clip_value)
        elif self.clip_norm is not None:
            gradients = gradients.copy()
            if not math.isfinite(functional.clip_by_global_norm(gradients, self.clip_norm)):
                return None
        return gradients

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
    clip_value, clip_norm : float, optional
        One of them clips the gradient; see `Optimizer`.

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
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.momentum = check_fraction(momentum, "momentum")
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum greater than 0")

    def state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def rule(self) -> Rule:
        if not self.momentum:
            return Rule("sgd")
        return Rule("nesterov" if self.nesterov else "momentum", self.momentum)

    def settings(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class Adagrad(Optimizer):
    """Adagrad: Duchi, Hazan and Singer 2011, JMLR 12, section 1.1 (diagonal form).

    g = dw + weight_decay·w;  h += g²;  w −= lr·g / (√h + eps), as PyTorch does.

    Parameters
    ----------
    lr : float or callable
    eps : float
        Greater than 0: what divides the first step of a parameter without a gradient.
    weight_decay, clip_value, clip_norm
        As in `SGD`.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.Adagrad(lr=0.05)
    Adagrad(lr=0.05, eps=1e-10, weight_decay=0.0)
    """

    def __init__(
        self,
        lr: float | Schedule = 0.01,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.eps = _check_eps(eps)

    def state_names(self) -> tuple[str, ...]:
        return ("square_sum",)

    def rule(self) -> Rule:
        return Rule("adagrad", eps=self.eps)

    def settings(self) -> dict[str, Any]:
        return {"eps": self.eps}


class RMSProp(Optimizer):
    """RMSProp: Tieleman and Hinton 2012, Coursera lecture 6.5.

    g = dw + weight_decay·w;  h = rho·h + (1 − rho)·g²;  w −= lr·g / (√h + eps), or with `momentum`
    v = momentum·v + g / (√h + eps);  w −= lr·v, as PyTorch does (it calls rho alpha).

    Parameters
    ----------
    lr : float or callable
    rho : float, 0 to below 1
        How much of the mean square is kept at each step.
    eps : float
        Greater than 0.
    momentum : float, 0 to below 1
    weight_decay, clip_value, clip_norm
        As in `SGD`.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.RMSProp(lr=0.001, rho=0.9)
    RMSProp(lr=0.001, rho=0.9, eps=1e-08, momentum=0.0, weight_decay=0.0)
    """

    def __init__(
        self,
        lr: float | Schedule = 0.01,
        rho: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.rho = check_fraction(rho, "rho")
        self.eps = _check_eps(eps)
        self.momentum = check_fraction(momentum, "momentum")

    def state_names(self) -> tuple[str, ...]:
        return ("mean_square", "velocity") if self.momentum else ("mean_square",)

    def rule(self) -> Rule:
        name = "rmsprop_momentum" if self.momentum else "rmsprop"
        return Rule(name, self.momentum, self.rho, self.eps)

    def settings(self) -> dict[str, Any]:
        return {"rho": self.rho, "eps": self.eps, "momentum": self.momentum}


class Adam(Optimizer):
    """Adam: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    g = dw + weight_decay·w;  m = beta1·m + (1 − beta1)·g;  v = beta2·v + (1 − beta2)·g²;
    w −= lr·m̂ / (√v̂ + eps), with m̂ = m / (1 − beta1ᵗ) and v̂ = v / (1 − beta2ᵗ) in step t = 1, 2, …

    Parameters
    ----------
    lr : float or callable
    beta1, beta2 : float, 0 to below 1
    eps : float
        Greater than 0.
    weight_decay : float
        For weight matrices only, added to the gradient; `AdamW` keeps it apart.
    clip_value, clip_norm : float, optional
        As in `SGD`.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.random.default_rng(0).standard_normal((200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(16), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> history = model.fit(X, y, optimizer=fnn.Adam(lr=0.02), batch_size=20, epochs=50)
    >>> bool(model.evaluate(X, y)["accuracy"] > 0.95)
    True
    """

    decoupled = False

    def __init__(
        self,
        lr: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.beta1 = check_fraction(beta1, "beta1")
        self.beta2 = check_fraction(beta2, "beta2")
        self.eps = _check_eps(eps)

    def state_names(self) -> tuple[str, ...]:
        return ("mean", "mean_square")

    def rule(self) -> Rule:
        return Rule("adam", self.beta1, self.beta2, self.eps, self.decoupled)

    def settings(self) -> dict[str, Any]:
        return {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}


class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.

    First w −= lr·weight_decay·w for weight matrices, then Adam's update with g = dw.

    Parameters
    ----------
    lr, beta1, beta2, eps, clip_value, clip_norm
        As in `Adam`.
    weight_decay : float

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.AdamW(lr=0.002, clip_norm=1.0)
    AdamW(lr=0.002, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01, clip_norm=1.0)
    """

    decoupled = True

    def __init__(
        self,
        lr: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr, beta1, beta2, eps, weight_decay, clip_value=clip_value, clip_norm=clip_norm
        )


def _check_eps(eps: Any) -> float:
    """Return `eps` as a float, or raise unless it is a normal number in float32 too.

    Where a gradient is 0 from the first step on (a dead unit, the gaps between parameters), 0 is
    divided by eps.
    """
    smallest = float(np.finfo(np.float32).tiny)
    if check_positive(eps, "eps") < smallest:
        raise ValueError(f"eps must be at least {smallest:.3g}, got {eps!r}")
    return float(eps)


#: fastnn's own, by the name of the class.
KNOWN: dict[str, type[Optimizer]] = {
    kind.__name__: kind for kind in (SGD, Adagrad, RMSProp, Adam, AdamW)
}
_NAMED: dict[str, Callable[[], Optimizer]] = {name.lower(): kind for name, kind in KNOWN.items()}


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
