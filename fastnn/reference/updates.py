"""Updates: one step of an optimizer, in place on the parameters and on the optimizer's state.

w (parameters), dw (their gradient, only read) and the state have one shape and dtype, and start at
zero. They mean what PyTorch's optimizers of the same names do. All return None, except the clipping
by norm, which returns the norm. Arithmetic is in the arrays' dtype, element by element; what changes
from step to step only (a bias correction, the scale of a clipped gradient) is computed in float64.

An average that decays (v, m, and the h of RMSProp) is set to 0 where it falls below the smallest normal
number: that of a dead unit would decay into the subnormals and stay there, where arithmetic is many
times slower.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn import contracts
from fastnn.checks import Array


@np.errstate(all="ignore")
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
    """Gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    ::

        g = dw + weight_decay * w
        v = momentum * v + g
        w = w - lr * v                       (nesterov: w - lr * (g + momentum * v))

    `v` is neither needed nor touched where momentum is 0: then w = w - lr * g.

    Examples
    --------
    >>> w, v = np.array([1.0]), np.zeros(1)
    >>> sgd_update(w, np.array([2.0]), v, lr=0.25, momentum=0.5)
    >>> w, v
    (array([0.5]), array([2.]))
    """
    lr, momentum, weight_decay = contracts.sgd_update(
        w, dw, v, lr, momentum, nesterov, weight_decay
    )
    g = dw + weight_decay * w if weight_decay else dw
    if v is not None and momentum:
        v[...] = _settled(momentum * v + g)
        g = g + momentum * v if nesterov else v
    w -= lr * g


@np.errstate(all="ignore")
def adagrad_update(
    w: Array, dw: Array, h: Array, *, lr: float, eps: float = 1e-10, weight_decay: float = 0.0
) -> None:
    """Adagrad: Duchi, Hazan and Singer 2011, JMLR 12, section 1.1 (diagonal form).

    ::

        g = dw + weight_decay * w
        h = h + g^2
        w = w - lr * g / (sqrt(h) + eps)

    Examples
    --------
    >>> w, h = np.array([1.0]), np.zeros(1)
    >>> adagrad_update(w, np.array([2.0]), h, lr=0.5)
    >>> w.round(6), h
    (array([0.5]), array([4.]))
    """
    lr, eps, weight_decay = contracts.adagrad_update(w, dw, h, lr, eps, weight_decay)
    g = dw + weight_decay * w if weight_decay else dw
    h += g * g
    w -= lr * g / (np.sqrt(h) + eps)


@np.errstate(all="ignore")
def rmsprop_update(
    w: Array,
    dw: Array,
    h: Array,
    v: Array | None = None,
    *,
    lr: float,
    rho: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """RMSProp: Tieleman and Hinton 2012, Coursera lecture 6.5.

    ::

        g = dw + weight_decay * w
        h = rho * h + (1 - rho) * g^2
        v = momentum * v + g / (sqrt(h) + eps)
        w = w - lr * v

    `v` is neither needed nor touched where momentum is 0.

    Examples
    --------
    >>> w, h = np.array([1.0]), np.zeros(1)
    >>> rmsprop_update(w, np.array([2.0]), h, lr=0.25, rho=0.75)
    >>> w.round(6), h
    (array([0.5]), array([1.]))
    """
    lr, rho, eps, momentum, weight_decay = contracts.rmsprop_update(
        w, dw, h, v, lr, rho, eps, momentum, weight_decay
    )
    g = dw + weight_decay * w if weight_decay else dw
    h[...] = _settled(rho * h + (1 - rho) * (g * g))
    step = g / (np.sqrt(h) + eps)
    if v is not None and momentum:
        v[...] = _settled(momentum * v + step)
        step = v
    w -= lr * step


@np.errstate(all="ignore")
def adam_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Adam: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; `step` counts from 1.

    ::

        g = dw + weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w = w - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)

    Examples
    --------
    >>> w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_update(w, np.array([2.0]), m, v, step=1, lr=0.25)
    >>> w.round(6)
    array([0.75])
    """
    step, lr, beta1, beta2, eps, weight_decay = contracts.adam_update(
        w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay
    )
    g = dw + weight_decay * w if weight_decay else dw
    _adam(w, g, m, v, step, lr, beta1, beta2, eps)


@np.errstate(all="ignore")
def adamw_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """Adam with decoupled weight decay: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.

    First w = w * (1 - lr * weight_decay), then Adam's update with g = dw.

    Examples
    --------
    >>> w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adamw_update(w, np.array([2.0]), m, v, step=1, lr=0.25, weight_decay=0.5)
    >>> w.round(6)
    array([0.625])
    """
    step, lr, beta1, beta2, eps, weight_decay = contracts.adam_update(
        w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay
    )
    w *= 1 - lr * weight_decay
    _adam(w, dw, m, v, step, lr, beta1, beta2, eps)


def _adam(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    m[...] = _settled(beta1 * m + (1 - beta1) * g)
    v[...] = _settled(beta2 * v + (1 - beta2) * (g * g))
    w -= lr / (1 - beta1**step) * m / (np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)


def _settled(x: Array) -> Array:
    """x with 0 for subnormal numbers."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.zeros_like(x), x)


def clip_by_value(dw: Array, limit: float) -> None:
    """Clip every element to [-limit, limit], in place; NaN stays NaN. limit > 0.

    Examples
    --------
    >>> dw = np.array([-3.0, 0.5])
    >>> clip_by_value(dw, 1.0)
    >>> dw
    array([-1. ,  0.5])
    """
    limit = contracts.clip(dw, limit, "limit")
    dw[...] = np.clip(dw, -limit, limit)


@np.errstate(all="ignore")
def clip_by_global_norm(dw: Array, max_norm: float) -> float:
    """Scale the gradient, in place, so that its Euclidean norm is at most max_norm > 0.

    Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1. dw is left as it is where its norm
    is not greater than max_norm, or not finite (the caller sees that in what is returned).

    Returns
    -------
    norm : float
        Before clipping, summed in float64; infinite only where an element is, or the norm itself is
        more than a float64 can hold.

    Examples
    --------
    >>> dw = np.array([3.0, 4.0])
    >>> clip_by_global_norm(dw, 1.0)
    5.0
    >>> dw
    array([0.6, 0.8])
    """
    max_norm = contracts.clip(dw, max_norm, "max_norm")
    norm = _norm(dw)
    if max_norm < norm < math.inf:
        dw[...] = np.multiply(dw, max_norm / norm, dtype=np.float64)
    return norm


@np.errstate(all="ignore")
def max_norm(w: Array, limit: float) -> None:
    """Scale the columns of w (D, H), the weights into each unit, to a norm of at most limit > 0, in place.

    Srivastava et al. 2014, JMLR 15, section 5.1. A column that is no longer than that stays as it is, and
    so does one whose norm is NaN or infinite. Norms are summed in float64.

    Examples
    --------
    >>> w = np.array([[3.0, 0.3], [4.0, 0.4]])
    >>> max_norm(w, 1.0)
    >>> w
    array([[0.6, 0.3],
           [0.8, 0.4]])
    """
    limit = contracts.max_norm(w, limit)
    norms = np.sqrt(np.sum(np.square(w, dtype=np.float64), axis=0))
    longer = (norms > limit) & np.isfinite(norms)
    w[:, longer] *= (limit / norms[longer]).astype(w.dtype)


def _norm(x: Array) -> float:
    """The Euclidean norm; in units of a power of two where the squares leave the range of float64."""
    squares = float(np.sum(np.square(x, dtype=np.float64)))
    if 1e-280 < squares < math.inf:
        return math.sqrt(squares)
    largest = float(np.abs(x).max(initial=0.0))
    if not 0.0 < largest < math.inf:
        return largest
    unit = math.ldexp(0.5, math.frexp(largest)[1])
    return unit * math.sqrt(float(np.sum(np.square(x.astype(np.float64) / unit))))
