"""Activations of the form y = x * gate(x): they fall before they rise, so the output does not tell
the derivative and the backward takes the saved input `x`.

Elementwise on an array of any shape. `out` may be `x`, `dx_out` may be `dy` or `x` (in place). At an
infinity the product of infinity and zero is NaN, as IEEE arithmetic (and PyTorch) has it.

Computed in float64 and rounded once: in the lower tail a gate falls like exp(-x^2), which magnifies
the rounding of its argument, and times x it is still normal where the gate alone is subnormal.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn import contracts
from fastnn.checks import Array, check_approximate
from fastnn.reference.activations import stable_sigmoid

# NumPy has no erf. C's erfc, which Python's math module calls, is exact to about an ulp in float64;
# calling it element by element is slow, which a specification may be.
_erfc_of_each = np.frompyfunc(math.erfc, 1, 1)


def _normal_cdf(x: Array) -> Array:
    """Cumulative normal distribution: 0.5 * erfc(-x / sqrt(2)); erfc keeps the lower tail."""
    return 0.5 * np.asarray(_erfc_of_each(-x / math.sqrt(2)), dtype=np.float64)


def _normal_density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _tanh_form(x: Array) -> tuple[Array, Array]:
    """Gate and slope of the gate of GELU's tanh form.

    gate = (1 + tanh(u)) / 2 = sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3). As a sigmoid it
    keeps the lower tail. Beyond |x| = 100 the gate is exactly 0 or 1; clipping there keeps
    the cube finite.
    """
    x = np.clip(x, -100, 100)
    root = math.sqrt(2 / math.pi)
    twice_u = 2 * root * (x + 0.044715 * x**3)
    gate = stable_sigmoid(twice_u)
    slope = gate * stable_sigmoid(-twice_u) * (2 * root) * (1 + 3 * 0.044715 * x * x)
    return gate, slope


@np.errstate(all="ignore")
def silu(x: Array, *, out: Array | None = None) -> Array:
    """Sigmoid linear unit, also called swish: y = x * sigmoid(x).

    Elfwing, Uchibe and Doya 2018, arXiv:1702.03118, equation 5.

    Examples
    --------
    >>> silu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7311])
    """
    out = contracts.unary(x, out)
    wide = x.astype(np.float64)
    out[...] = wide * stable_sigmoid(wide)
    return out


@np.errstate(all="ignore")
def silu_backward(dy: Array, x: Array, *, dx_out: Array | None = None) -> Array:
    """dx = dy * s * (1 + x * (1 - s)) with s = sigmoid(x), and 1 - s = sigmoid(-x).

    Examples
    --------
    >>> silu_backward(np.array([2.0]), x=np.array([0.0]))
    array([1.])
    """
    dx = contracts.unary_backward(dy, x, "x", dx_out)
    wide = x.astype(np.float64)
    dx[...] = dy * (stable_sigmoid(wide) * (1 + wide * stable_sigmoid(-wide)))
    return dx


@np.errstate(all="ignore")
def gelu(x: Array, approximate: str = "none", *, out: Array | None = None) -> Array:
    """Gaussian error linear unit: y = x * P(X <= x) for a standard normal X.

    Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2. With `approximate="tanh"` their
    0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Examples
    --------
    >>> gelu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.8413])
    >>> gelu(np.array([0.0, 1.0]), approximate="tanh").round(4)
    array([0.    , 0.8412])
    """
    form = check_approximate(approximate)
    out = contracts.unary(x, out)
    wide = x.astype(np.float64)
    out[...] = wide * (_normal_cdf(wide) if form == "none" else _tanh_form(wide)[0])
    return out


@np.errstate(all="ignore")
def gelu_backward(
    dy: Array, x: Array, approximate: str = "none", *, dx_out: Array | None = None
) -> Array:
    """dx = dy * (gate(x) + x * gate'(x)); for the exact form gate' is the normal density.

    Examples
    --------
    >>> gelu_backward(np.array([2.0]), x=np.array([0.0]))
    array([1.])
    """
    form = check_approximate(approximate)
    dx = contracts.unary_backward(dy, x, "x", dx_out)
    wide = x.astype(np.float64)
    if form == "none":
        gate, slope = _normal_cdf(wide), _normal_density(wide)
    else:
        gate, slope = _tanh_form(wide)
    dx[...] = dy * (gate + wide * slope)
    return dx


@np.errstate(all="ignore")
def hard_swish(x: Array, *, out: Array | None = None) -> Array:
    """Piecewise SiLU: y = x * hard_sigmoid(x) = x * (min(max(x + 3, 0), 6) / 6).

    Howard et al. 2019, arXiv:1905.02244, section 5.2.

    Examples
    --------
    >>> hard_swish(np.array([-4.0, 3.0, 4.0]))
    array([-0.,  3.,  4.])
    """
    out = contracts.unary(x, out)
    wide = x.astype(np.float64)
    out[...] = wide * (np.clip(wide + 3, 0, 6) / 6)
    return out


@np.errstate(all="ignore")
def hard_swish_backward(dy: Array, x: Array, *, dx_out: Array | None = None) -> Array:
    """dx = 0 where x <= -3, dy where x >= 3, dy * (2 x + 3) / 6 between.

    Examples
    --------
    >>> hard_swish_backward(np.array([2.0, 2.0, 2.0]), x=np.array([-3.0, 0.0, 3.0]))
    array([0., 1., 2.])
    """
    dx = contracts.unary_backward(dy, x, "x", dx_out)
    inside = dy * ((2 * x.astype(np.float64) + 3) / 6)
    dx[...] = np.where(x <= -3, 0, np.where(x >= 3, dy, inside))
    return dx
