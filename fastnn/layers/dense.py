"""The affine layer y = x @ w + b, and maxout, the maximum of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional, initializers
from ..checks import check_integer, check_not_negative, check_positive
from .base import Layer, Shape


class Affine(Layer):
    """x @ weight + bias with `columns` columns: what `Dense` and `Maxout` have in common."""

    overwrites_gradients = True
    adjustable = ("l1", "l2", "max_norm")

    def __init__(
        self,
        columns: int,
        initializer: Any,
        bias: bool,
        bias_init: Any,
        l1: float,
        l2: float,
        max_norm: float | None,
    ) -> None:
        initializers.get(initializer), initializers.get(bias_init)
        self.columns = columns
        self.initializer = initializer
        self.bias = bool(bias)
        self.bias_init = bias_init
        self.l1 = check_not_negative(l1, "l1")
        self.l2 = check_not_negative(l2, "l2")
        self.max_norm = None if max_norm is None else check_positive(max_norm, "max_norm")

    def build(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"{type(self).__name__} takes one vector per row, got rows of shape {input_shape}; "
                "flatten them first: X.reshape(len(X), -1)"
            )
        self.add_parameter("weight", (input_shape[0], self.columns), self.initializer, decay=True)
        if self.bias:
            self.add_parameter("bias", (self.columns,), self.bias_init)
        return (self.columns,)

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        self._x = x
        w, b = self.parameters["weight"], self.parameters.get("bias")
        y: np.ndarray = functional.dense_forward(x, w, b)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        dx: np.ndarray | None
        dx, _, _ = functional.dense_backward(
            dy,
            self._x,
            self.parameters["weight"],
            need_dx=self.need_dx,
            need_db=self.bias,
            dw_out=self.gradients["weight"],
            db_out=self.gradients.get("bias"),
        )
        return dx

    def get_config(self) -> dict[str, Any]:
        return {
            "initializer": initializers.to_config(self.initializer),
            "bias": self.bias,
            "bias_init": initializers.to_config(self.bias_init),
            "l1": self.l1,
            "l2": self.l2,
            "max_norm": self.max_norm,
        }


class Dense(Affine):
    """A fully connected layer: y = x @ weight + bias, x (N, D), weight (D, H), y (N, H).

    Parameters
    ----------
    units : int
        H, the number of outputs.
    initializer : str, float or callable
        Of the weights; see `fastnn.initializers.get`.
    bias : bool
        Whether there is one. A batch norm that follows takes it away again.
    bias_init : float or callable
        Its initial value, for example 0.01 before a ReLU.
    l1, l2 : float
        Penalties l1/m·Σ|W| and l2/(2m)·Σ‖W‖² on the weights (m: rows of the batch), which are part of
        the reported loss; beside the `l2` of `fit`.
    max_norm : float, optional
        The longest that the weights into one unit, a column of W, may be: longer ones are scaled to
        it after each update (Srivastava et al. 2014, section 5.1, with 3 to 4).

    Raises
    ------
    TypeError, ValueError
        `units` is not a whole number of at least 1; the input is not a vector per row.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(3, bias_init=0.01)], input_dim=2, seed=0)
    >>> model.parameters()["0.weight"].shape
    (2, 3)
    """

    def __init__(
        self,
        units: int,
        initializer: Any = "he",
        bias: bool = True,
        bias_init: Any = 0.0,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        self.units = check_integer(units, "units", 1, 2**31 - 1)
        super().__init__(self.units, initializer, bias, bias_init, l1, l2, max_norm)

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, **super().get_config()}


class Maxout(Affine):
    """y[n, h] = max over j of (x @ weight + bias)[n, h·pieces + j]: `pieces` affine maps a unit.

    x (N, D), weight (D, H·pieces), the pieces of one unit side by side, y (N, H). Source: Goodfellow
    et al. (2013), equation 1.

    Parameters
    ----------
    units : int
        H, the number of outputs.
    pieces : int, 1 to 256
        The affine maps that each output is the maximum of.
    initializer, bias, bias_init, l1, l2, max_norm
        As in `Dense`; max-norm is that of each piece.

    Raises
    ------
    TypeError, ValueError
        `units` or `pieces` is out of range; the input is not a vector per row.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential([fnn.Maxout(3, pieces=4)], input_dim=2, seed=0)
    >>> model.parameters()["0.weight"].shape, model.output_shape
    ((2, 12), (3,))
    """

    def __init__(
        self,
        units: int,
        pieces: int = 2,
        initializer: Any = "he",
        bias: bool = True,
        bias_init: Any = 0.0,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        self.units = check_integer(units, "units", 1, 2**31 - 1)
        self.pieces = check_integer(pieces, "pieces", 1, 256)
        columns = self.units * self.pieces
        super().__init__(columns, initializer, bias, bias_init, l1, l2, max_norm)

    def build(self, input_shape: Shape) -> Shape:
        super().build(input_shape)
        return (self.units,)

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        y, self._which = functional.maxout(super().forward(x, training), self.pieces)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        return super().backward(functional.maxout_backward(dy, self._which, self.pieces))

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "pieces": self.pieces, **super().get_config()}
