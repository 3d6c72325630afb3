"""What every layer has: a name, parameters, gradients, buffers, forward and backward.

A layer declares its parameters in `build`. The model lays out the parameters of all its layers in
one buffer and hands each layer views into it, so a layer never allocates or replaces a parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import initializers

Shape = tuple[int, ...]


class Declared(NamedTuple):
    """A parameter or buffer as `build` asked for it."""

    name: str
    shape: Shape
    initializer: Any
    decay: bool


class Views(dict[str, np.ndarray]):
    """Arrays by name, where assigning writes into the array: ``gradients["w"] = x.T @ dy``.

    The arrays are views into the model's flat buffers; an assignment that replaced one would cut
    the layer off from its model.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            there = ", ".join(self) or "none"
            raise KeyError(
                f"no array {name!r} here ({there}); declare it in build() with "
                f"self.add_parameter({name!r}, shape)"
            )
        view = self[name]
        if value is view:  # what `layer.gradients["w"] += …` assigns
            return
        value = np.asarray(value)
        if value.shape != view.shape:
            raise ValueError(f"{name!r} has the shape {view.shape}, got {value.shape}")
        view[...] = value

    def attach(self, name: str, view: np.ndarray) -> None:
        """Put the array itself in place (the model does, once, after `build`)."""
        super().__setitem__(name, view)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied and pickled layers get their arrays from the model that they are copied with.
        return (Views, ())


class Layer:
    """Base class of all layers, and of a user's own.

    A layer of one's own defines `forward` and `backward`, and `build` where it has parameters or
    changes the shape. Everything else, saving included, is done here and by the model.

    Attributes
    ----------
    name : str
        The position in the model: "0", "1", …
    parameters, gradients : dict of str to ndarray
        Views into the model's flat buffers, under the same names; there after the model is built.
        ``self.gradients[name] = value`` writes into the view.
    buffers : dict of str to ndarray
        State that is saved but not trained, such as running statistics.
    input_shape, output_shape : tuple of int
        Shapes of one sample, without the batch axis; there after the model is built.

    Examples
    --------
    A layer that multiplies every feature by a learned number:

    >>> import fastnn as fnn
    >>> class Scale(fnn.Layer):
    ...     def build(self, input_shape):
    ...         self.add_parameter("scale", input_shape, "ones")
    ...         return input_shape
    ...
    ...     def forward(self, x, training=True):
    ...         self.x = x
    ...         return x * self.parameters["scale"]
    ...
    ...     def backward(self, dy):
    ...         self.gradients["scale"] = (dy * self.x).sum(axis=0)
    ...         return dy * self.parameters["scale"]
    >>> model = fnn.Sequential([Scale(), fnn.Dense(2)], input_dim=3, seed=0)
    >>> sorted(model.parameters())
    ['0.scale', '1.bias', '1.weight']
    """

    name: str
    parameters: Views
    gradients: Views
    buffers: Views
    input_shape: Shape | None
    output_shape: Shape | None

    #: 64 random bits of this layer, from the model's seed: what it draws in training follows from them
    #: and from the number of the training passes so far, which is saved with the model.
    random_key: int = 0
    training_passes: int = 0
    #: Arguments of the constructor that may be changed on the layer afterwards.
    adjustable: ClassVar[tuple[str, ...]] = ()
    #: Penalties on what decays, beside the model's l2 (`fastnn.penalties`), and the longest that the weights
    #: into one unit, a column of a matrix, may be after an update.
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    #: The fewest rows a training batch may have (batch norm: 2).
    min_rows: ClassVar[int] = 1
    #: Whether `backward` writes every gradient whole. Those of a user's layer are set to zero
    #: before each call, so that adding to them and leaving one out are both right.
    overwrites_gradients: ClassVar[bool] = False
    #: Cleared by the model on its first layer where nobody asks for dx; backward may return None.
    need_dx: bool = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Layer:
        # Here and not in __init__, so that a user's layer works without calling super().__init__().
        layer = super().__new__(cls)
        layer.name = ""
        layer.parameters, layer.gradients, layer.buffers = Views(), Views(), Views()
        layer.input_shape = layer.output_shape = None
        layer._arguments = (args, kwargs)
        layer._declared_parameters = []
        layer._declared_buffers = []
        return layer

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _declared_parameters: list[Declared]
    _declared_buffers: list[Declared]

    # What a layer of one's own overrides -------------------------------------------------------

    def build(self, input_shape: Shape) -> Shape:
        """Declare parameters for inputs of this shape (no batch axis); return the output shape."""
        return input_shape

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        """The output for x (N, *input_shape); keeps what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, x, training)")

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        """From dL/dy to dL/dx, filling ``self.gradients``; after `forward` on the same batch."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(self, dy)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON-able values: ``type(self)(**config)`` is its twin.

        Raises
        ------
        TypeError
            The constructor takes ``*args``, so that the arguments have no names: define
            `get_config` in that layer.
        """
        if type(self).__init__ is object.__init__:
            return {}
        args, kwargs = self._arguments
        signature = inspect.signature(type(self).__init__)
        bound = signature.bind(self, *args, **kwargs)
        config: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = signature.parameters[name].kind
            if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise TypeError(
                    f"{type(self).__name__} takes arguments without names; give it a "
                    "get_config(self) that returns a dict of keyword arguments"
                )
            config.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        for name in self.adjustable:
            now = getattr(self, name)
            if config.get(name, signature.parameters[name].default) != now:
                config[name] = now
        return config

    # What build() calls --------------------------------------------------------------------------

    def add_parameter(
        self, name: str, shape: Sequence[int] | int, initializer: Any = "zeros", decay: bool = False
    ) -> None:
        """Declare a trained array; it is in ``self.parameters[name]`` once the model is built.

        Parameters
        ----------
        name : str
        shape : int or tuple of int
        initializer
            Whatever `fastnn.initializers.get` understands.
        decay : bool
            Whether weight decay and the L2 penalty apply: true for weight matrices, false for
            biases, gamma and beta.
        """
        self._declare(self._declared_parameters, name, shape, initializers.get(initializer), decay)

    def add_buffer(self, name: str, shape: Sequence[int] | int, value: float = 0.0) -> None:
        """Declare an array that is saved with the model but not trained."""
        self._declare(self._declared_buffers, name, shape, initializers.get(float(value)), False)

    def _declare(
        self, where: list[Declared], name: str, shape: Any, initializer: Any, decay: bool
    ) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"a parameter's name is text without a dot, got {name!r}")
        if any(name == d.name for d in self._declared_parameters + self._declared_buffers):
            raise ValueError(f"{type(self).__name__} declares {name!r} twice")
        try:
            sizes = (int(shape),) if np.ndim(shape) == 0 else tuple(int(size) for size in shape)
        except (TypeError, ValueError):
            raise TypeError(f"{name!r}: shape is {shape!r}, expected whole numbers") from None
        if any(size < 1 for size in sizes):
            raise ValueError(f"{name!r}: shape is {sizes}, every axis must be at least 1")
        where.append(Declared(name, sizes, initializer, decay))

    # What everybody may ask ----------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Position and kind, as messages name a layer: ``2 (Dense)``."""
        return f"{self.name} ({type(self).__name__})"

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except TypeError:
            return f"{type(self).__name__}(…)"
        parameters = inspect.signature(type(self).__init__).parameters
        shown = []
        for name, value in config.items():
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            if default is inspect.Parameter.empty:
                shown.append(repr(value))
            elif value != default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
