"""Initial values of parameters.

An initializer is called with the shape of a parameter and a random generator and returns float64
values, which the model rounds to its own dtype: a float32 and a float64 model of one seed start
from the same numbers. For a weight of shape (D, H), fan_in is D and fan_out is H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np

Shape = tuple[int, ...]


def fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of a weight: (D, H) for the shape (D, H), all axes but the last for D."""
    if not shape:
        return 1, 1
    return (math.prod(shape[:-1]) if len(shape) > 1 else shape[0]), shape[-1]


class Initializer:
    """The base: `scale` multiplies the standard deviation that the rule gives."""

    name: ClassVar[str]

    def __init__(self, scale: float = 1.0) -> None:
        if not (isinstance(scale, Real) and math.isfinite(scale)):
            raise ValueError(f"{type(self).__name__}: scale is {scale!r}, expected a finite number")
        self.scale: float = float(scale)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        values: np.ndarray = rng.standard_normal(shape)
        values *= self.scale * self.deviation(*fans(shape))
        return values

    def deviation(self, fan_in: int, fan_out: int) -> float:
        """The standard deviation of the rule, before `scale`."""
        raise NotImplementedError(f"{type(self).__name__} defines neither deviation nor __call__")

    def get_config(self) -> dict[str, Any]:
        """A JSON-able description from which `get` makes an equal initializer."""
        return {"name": self.name, "scale": self.scale}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scale:g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Initializer) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.name, self.scale))


class Normal(Initializer):
    """scale · randn: the small random numbers of the lecture, 0.01 · randn by default."""

    name = "normal"

    def __init__(self, scale: float = 0.01) -> None:
        super().__init__(scale)

    def deviation(self, fan_in: int, fan_out: int) -> float:
        return 1.0


class Xavier(Initializer):
    """Variance 1/fan_in: keeps the variance of a linear or tanh layer.

    Sources: LeCun et al., Efficient BackProp (1998), section 4.6; the forward condition of Glorot
    and Bengio (2010), eq. 10.
    """

    name = "xavier"

    def deviation(self, fan_in: int, fan_out: int) -> float:
        return math.sqrt(1.0 / max(fan_in, 1))


class Glorot(Initializer):
    """Variance 2/(fan_in + fan_out): Glorot and Bengio (2010), eq. 12."""

    name = "glorot"

    def deviation(self, fan_in: int, fan_out: int) -> float:
        return math.sqrt(2.0 / max(fan_in + fan_out, 1))


class He(Initializer):
    """Variance 2/fan_in, for layers followed by ReLU: He et al. (2015), eq. 10."""

    name = "he"

    def deviation(self, fan_in: int, fan_out: int) -> float:
        return math.sqrt(2.0 / max(fan_in, 1))


class Orthogonal(Initializer):
    """Orthonormal columns (or rows, where there are fewer of them), times `scale`.

    Source: Saxe et al. (2014), section 3. The Q of a Gaussian matrix, its columns turned so that R
    has a positive diagonal: without that, Q is not uniformly distributed (Mezzadri 2007, sec. 5).
    """

    name = "orthogonal"

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(
                f"the orthogonal initializer needs a matrix, got the shape {shape}; "
                "for a vector use 'normal', 'zeros' or a constant"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        q *= self.scale
        values: np.ndarray = q if rows >= columns else q.T
        return values.reshape(shape)


class Constant(Initializer):
    """The same value everywhere, for example a small positive bias (0.01) before a ReLU."""

    name = "constant"

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__(scale)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        values = np.empty(shape)
        values.fill(self.scale)
        return values


class FromFile(Initializer):
    """Stands for an initializer of the user's own in a model read from a file.

    The file holds the values it made, not the code that made them.
    """

    name = "own"

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        raise ValueError(
            "this layer was first built with an initializer of the user's own, which a model file "
            "does not hold; build it with initializer= given again"
        )


_CLASSES = {cls.name: cls for cls in (Normal, Xavier, Glorot, He, Orthogonal, Constant, FromFile)}
_NAMED: dict[str, Callable[[], Initializer]] = {
    "normal": Normal,
    "xavier": Xavier,
    "lecun": Xavier,
    "glorot": Glorot,
    "he": He,
    "orthogonal": Orthogonal,
    "zeros": lambda: Constant(0.0),
    "ones": lambda: Constant(1.0),
}


def get(initializer: Any) -> Callable[[Shape, np.random.Generator], np.ndarray]:
    """The initializer meant by a name, a number (a constant), a config, or an object.

    Parameters
    ----------
    initializer : str, float, dict or callable
        One of ``"normal"`` (0.01·randn), ``"xavier"`` (alias ``"lecun"``; variance 1/fan_in),
        ``"glorot"`` (2/(fan_in + fan_out)), ``"he"`` (2/fan_in), ``"orthogonal"``, ``"zeros"``,
        ``"ones"``; a number; what ``get_config`` returned; an object of this module with a scale,
        such as ``Normal(0.05)``; or any callable of (shape, generator).

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        It is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> get("he")
    He(1)
    >>> get(Normal(0.05))((2, 3), np.random.default_rng(0)).shape
    (2, 3)
    """
    if isinstance(initializer, str):
        if initializer not in _NAMED:
            raise ValueError(f"unknown initializer {initializer!r}; there are {', '.join(_NAMED)}")
        return _NAMED[initializer]()
    if isinstance(initializer, (bool, type)):
        raise TypeError(f"initializer is {initializer!r}, expected a name, a number or an object")
    if isinstance(initializer, Real):
        return Constant(float(initializer))
    if isinstance(initializer, dict):
        if initializer.get("name") not in _CLASSES:
            raise ValueError(f"not the description of an initializer: {initializer!r}")
        return _CLASSES[initializer["name"]](initializer.get("scale", 1.0))
    if callable(initializer):
        return initializer
    raise TypeError(
        f"initializer is {initializer!r}; expected one of {', '.join(_NAMED)}, a number, "
        "or a callable of (shape, generator)"
    )


def to_config(initializer: Any) -> Any:
    """The same initializer as something JSON can hold."""
    if isinstance(initializer, (str, dict)):
        return initializer
    if isinstance(initializer, Real):
        return float(initializer)
    if isinstance(initializer, Initializer):
        return initializer.get_config()
    return {"name": FromFile.name}


def draw(initializer: Any, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Call the initializer and check what it returned.

    Raises
    ------
    ValueError
        An initializer of the user's own returned another shape or something not finite.
    """
    values = np.asarray(get(initializer)(shape, rng), dtype=np.float64)
    if values.shape != shape:
        raise ValueError(
            f"the initializer {initializer!r} returned the shape {values.shape}, expected {shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"the initializer {initializer!r} returned values that are not finite")
    return values
