"""Softmax, log-softmax and maxout: operations that look at several elements at a time."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Array


def _log_normaliser(x: Array, axis: int) -> tuple[Array, Array]:
    """x minus its maximum, and log(sum(exp(...))) of that, which then cannot overflow.

    An empty axis has no maximum; `initial` gives it one, and nothing is left to be computed.
    """
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    shifted = x - top
    return shifted, np.log(np.exp(shifted).sum(axis=axis, keepdims=True, dtype=np.float64))


@np.errstate(all="ignore")
def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = exp(x) / sum(exp(x)) along `axis`, computed with x - max(x).

    x has any rank of at least 1. A slice that holds a NaN, a +inf, or nothing but -inf is NaN.

    Examples
    --------
    >>> softmax(np.array([[1000.0, 1000.0], [-np.inf, 0.0]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    axis, out = contracts.softmax(x, axis, out)
    shifted, _ = _log_normaliser(x, axis)
    e = np.exp(shifted)
    out[...] = e / e.sum(axis=axis, keepdims=True, dtype=np.float64)
    return out


@np.errstate(all="ignore")
def softmax_backward(dy: Array, y: Array, axis: int = -1, *, dx_out: Array | None = None) -> Array:
    """dx = y * (dy - sum(dy * y)) along `axis`, from the saved output.

    Examples
    --------
    >>> softmax_backward(np.array([[1.0, 0.0]]), y=np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    axis, dx = contracts.softmax_backward(dy, y, axis, dx_out)
    dx[...] = y * (dy - np.sum(dy * y, axis=axis, keepdims=True, dtype=np.float64))
    return dx


@np.errstate(all="ignore")
def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = log(softmax(x)) = (x - max) - log(sum(exp(x - max))): small probabilities keep their log.

    Examples
    --------
    >>> log_softmax(np.array([[0.0, -1000.0]]))
    array([[    0., -1000.]])
    """
    axis, out = contracts.softmax(x, axis, out)
    shifted, log_sum = _log_normaliser(x, axis)
    out[...] = shifted - log_sum
    return out


@np.errstate(all="ignore")
def log_softmax_backward(
    dy: Array, y: Array, axis: int = -1, *, dx_out: Array | None = None
) -> Array:
    """dx = dy - exp(y) * sum(dy) along `axis`, from the saved output.

    Examples
    --------
    >>> log_softmax_backward(np.array([[1.0, 0.0]]), y=np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    axis, dx = contracts.softmax_backward(dy, y, axis, dx_out)
    dx[...] = dy - np.exp(y) * dy.sum(axis=axis, keepdims=True, dtype=np.float64)
    return dx


def maxout(
    x: Array, pieces: int, *, y_out: Array | None = None, which_out: Array | None = None
) -> tuple[Array, Array]:
    """y[n, h] = max over j of x[n, h * pieces + j], and which j it was.

    Goodfellow et al. 2013, arXiv:1302.4389, equation 1 (the maximum; the affine maps are a dense
    layer before it). Of equal pieces the first wins; a NaN wins over everything.

    Parameters
    ----------
    x : (N, H * pieces)
        The pieces of one unit stand next to each other.
    pieces : int
        1 to 256.

    Returns
    -------
    y : (N, H)
    which : (N, H) uint8

    Examples
    --------
    >>> y, which = maxout(np.array([[1.0, 5.0, 4.0, 2.0]]), pieces=2)
    >>> y, which
    (array([[5., 4.]]), array([[1, 0]], dtype=uint8))
    """
    pieces, y, which = contracts.maxout(x, pieces, y_out, which_out)
    units = x.reshape(*y.shape, pieces)
    which[...] = units.argmax(axis=2)
    y[...] = np.take_along_axis(units, which[:, :, None].astype(np.intp), axis=2)[:, :, 0]
    return y, which


def maxout_backward(dy: Array, which: Array, pieces: int, *, dx_out: Array | None = None) -> Array:
    """dx[n, h * pieces + j] = dy[n, h] where j is which[n, h], 0 elsewhere.

    Examples
    --------
    >>> maxout_backward(np.array([[7.0, 8.0]]), np.array([[1, 0]], dtype=np.uint8), pieces=2)
    array([[0., 7., 8., 0.]])
    """
    pieces, dx = contracts.maxout_backward(dy, which, pieces, dx_out)
    chosen = which[:, :, None] == np.arange(pieces)
    dx[...] = np.where(chosen, dy[:, :, None], 0).reshape(dx.shape)
    return dx
