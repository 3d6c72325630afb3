"""The dense layer: an affine map, with an activation built in."""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Activation, Array
from fastnn.reference import _fused


@np.errstate(all="ignore")
def dense_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """y = activation(x @ w + b).

    Parameters
    ----------
    x : (N, D)
    w : (D, H)
    b : (H,), optional
    activation
        None, a name, or a pair of a name and its parameters.
    out : (N, H), optional
        Separate from the inputs.

    Returns
    -------
    y : (N, H)

    Examples
    --------
    >>> dense_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [-4.0]]), np.array([1.0]))
    array([[-4.]])
    >>> w = np.array([[3.0], [-4.0]])
    >>> dense_forward(np.array([[1.0, 2.0]]), w, activation=("leaky_relu", {"negative_slope": 0.1}))
    array([[-0.5]])
    """
    parsed, out = contracts.dense_forward(x, w, b, activation, out)
    z = x @ w
    if b is not None:
        z = z + b
    out[...] = _fused.apply(parsed, z)
    return out


@np.errstate(all="ignore")
def dense_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    y: Array | None = None,
    activation: Activation = None,
    need_dx: bool = True,
    need_dw: bool = True,
    need_db: bool = True,
    dx_out: Array | None = None,
    dw_out: Array | None = None,
    db_out: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of `dense_forward`: dz = activation'(...) * dy; dx = dz w^T, dw = x^T dz, db = sum dz.

    An activation is differentiated from the saved output `y`. Those that need their input (silu,
    gelu, hard_swish) are refused: keep z = dense_forward(x, w, b) and call their own backward.

    Parameters
    ----------
    dy : (N, H)
    x : (N, D)
    w : (D, H)
    y : (N, H)
        What `dense_forward` returned; needed with an activation, otherwise ignored.
    need_dx, need_dw, need_db
        False: not computed, None is returned (the first layer needs no dx, a frozen one no dw).

    Returns
    -------
    dx : (N, D)
    dw : (D, H)
    db : (H,)

    Examples
    --------
    >>> dx, dw, db = dense_backward(
    ...     np.array([[1.0]]), x=np.array([[1.0, 2.0]]), w=np.array([[3.0], [-4.0]])
    ... )
    >>> dx, db
    (array([[ 3., -4.]]), array([1.]))
    """
    parsed, dx, dw, db = contracts.dense_backward(
        dy, x, w, y, activation, need_dx, need_dw, need_db, dx_out, dw_out, db_out
    )
    dz = dy if y is None else _fused.differentiate(parsed, dy, y)
    if dx is not None:
        dx[...] = dz @ w.T
    if dw is not None:
        dw[...] = x.T @ dz
    if db is not None:
        db[...] = dz.sum(axis=0, dtype=np.float64)
    return dx, dw, db
