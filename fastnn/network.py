"""`Network`: layers in a row as one differentiable function, with its parameters in one buffer.

It knows nothing of losses and training; `fastnn.models.Sequential` adds them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .flat import FlatParameters, initialize
from .inputs import as_floats, as_rows
from .layers.base import Layer, Shape
from .text import aligned

# Inference works on so many rows at a time that the widest layer's output stays near the cache,
# but on enough of them that the matrix product runs at full speed.
CHUNK_ELEMENTS = 1 << 20
CHUNK_ROWS = (1024, 8192)

NOT_BUILT = (
    "the model has no parameters yet, because the size of its input is not known: "
    "give input_dim=, or call build(input_dim), fit or forward first"
)


class Network:
    """The layers, shapes and parameters of a `Sequential`, and its forward and backward by hand.

    The parameters of the constructor are those of `fastnn.models.Sequential`.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_dim: int | Shape | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
    ) -> None:
        self.layers = _checked_layers(layers)
        self.dtype = _checked_dtype(dtype)
        self.seed = _checked_seed(seed)
        self.input_shape: Shape | None = None
        self.output_shape: Shape = ()
        self._flat: FlatParameters | None = None
        self._gradients: Literal["none", "ready", "used"] = "none"
        for position, layer in enumerate(self.layers):
            layer.name = str(position)
        if input_dim is not None:
            self.build(input_dim)

    # --- shapes and parameters -------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the parameters are there."""
        return self._flat is not None

    @property
    def flat(self) -> FlatParameters:
        """The buffers that hold all parameters and gradients.

        Raises
        ------
        RuntimeError
            The model is not built yet.
        """
        if self._flat is None:
            raise RuntimeError(NOT_BUILT)
        return self._flat

    def build(self, input_dim: int | Shape) -> None:
        """Infer all shapes, allocate the parameters and draw them. Called by itself when needed.

        Raises
        ------
        ValueError
            The model is built already for another size, or a layer cannot take its input.
        """
        shape = _checked_input_shape(input_dim)
        if self.built:
            if shape != self.input_shape:
                raise ValueError(f"the model is built for {self.input_shape}, not for {shape}")
            return
        self._declare(shape)
        self._allocate()
        initialize(self.layers, self.seed)

    def build_from(self, input_dim: int | Shape, state: Mapping[str, np.ndarray]) -> None:
        """Build with the parameters and running statistics of `state` instead of drawing them.

        Nothing is allocated before names and shapes are found to match.

        Raises
        ------
        ValueError
            An array is missing, unknown, or of another shape.
        """
        self._declare(_checked_input_shape(input_dim))
        _check_state(state, self._declared_shapes())
        self._allocate()
        self.set_state(state)

    def _declare(self, shape: Shape) -> None:
        """Let each layer say what it needs; nothing is allocated yet."""
        first = shape
        for layer in self.layers:
            layer._declared_parameters.clear()
            layer._declared_buffers.clear()
            layer.input_shape = shape
            output = layer.build(shape)
            try:
                layer.output_shape = shape = tuple(int(n) for n in output)
            except TypeError:
                raise TypeError(
                    f"build of layer {layer.label} returned {output!r}, expected the output's "
                    "shape without the batch axis, a tuple of whole numbers"
                ) from None
        self.input_shape, self.output_shape = first, shape

    def _declared_shapes(self) -> dict[str, Shape]:
        return {
            f"{layer.name}.{d.name}": d.shape
            for layer in self.layers
            for d in (*layer._declared_parameters, *layer._declared_buffers)
        }

    def _allocate(self) -> None:
        self._flat = FlatParameters(self.layers, self.dtype)
        for position, layer in enumerate(self.layers):
            # A stream apart from the one that the layer's parameters are drawn from.
            stream = np.random.SeedSequence(self.seed, spawn_key=(position, 1))
            layer.random_key = int(stream.generate_state(1, np.uint64)[0])

    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters, as views: writing into them changes the model ("0.weight": …)."""
        return self._named("parameters")

    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients of the last backward pass, as views, under the keys of `parameters`.

        Raises
        ------
        RuntimeError
            There has been no backward pass, or the last step did not keep its gradients.
        """
        if self._gradients == "none":
            raise RuntimeError("there are no gradients yet: call forward and backward, or train")
        if self._gradients == "used":
            raise RuntimeError(
                "the last training step used up its gradients in the update; to read them, pass "
                "keep_gradients=True to compile or fit (in a callback: set its attribute "
                "needs_gradients = True), or call forward and backward"
            )
        return self._named("gradients")

    def mark_gradients(self, kept: bool) -> None:
        """Note whether the step that has just run left its gradients in their buffer."""
        self._gradients = "ready" if kept else "used"

    def state(self) -> dict[str, np.ndarray]:
        """Parameters and running statistics, as views: all that a trained model is."""
        return {**self._named("parameters"), **self._named("buffers")}

    def _named(self, kind: Literal["parameters", "gradients", "buffers"]) -> dict[str, np.ndarray]:
        if self._flat is None:
            raise RuntimeError(NOT_BUILT)
        return {
            f"{layer.name}.{name}": array
            for layer in self.layers
            for name, array in getattr(layer, kind).items()
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy parameters and running statistics in, as `state` returned them.

        Raises
        ------
        ValueError
            An array is missing, unknown, or of another shape; the model is left as it was.
        """
        own = self.state()
        _check_state(state, {name: array.shape for name, array in own.items()})
        for name, array in own.items():
            array[...] = state[name]

    # --- by hand ---------------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = True) -> np.ndarray:
        """The output of the last layer, a fresh array.

        Parameters
        ----------
        x : array (N, D)
        training : bool
            Batch norm uses the batch's statistics and updates the running ones.

        Raises
        ------
        TypeError, ValueError
            x is not numeric, empty, or has rows of another size.
        """
        x = self._rows(x)
        out = self.forward_all(x, training)[-1]
        # A layer of the user's may hand its input on.
        return out.copy() if np.may_share_memory(out, x) else out

    def backward(self, dout: Any) -> np.ndarray:
        """From dL/dout to dL/dx, filling `gradients`; after `forward` on the same batch.

        Raises
        ------
        ValueError
            `dout` does not have the shape of the last output.
        """
        dout = as_floats(dout, self.dtype, "dout")
        if dout.shape[1:] != self.output_shape or dout.ndim != 1 + len(self.output_shape):
            raise ValueError(f"dout has the shape {dout.shape}, expected (N, *{self.output_shape})")
        dx = self.backward_all(dout)
        assert dx is not None
        return dx.copy() if np.may_share_memory(dx, dout) else dx

    def forward_all(self, x: np.ndarray, training: bool) -> list[np.ndarray]:
        """The outputs of all layers for prepared rows."""
        outputs = []
        for layer in self.layers:
            x = self._checked(layer, "forward", layer.forward(x, training), len(x))
            outputs.append(x)
        return outputs

    def backward_all(self, dy: np.ndarray, need_dx: bool = True) -> np.ndarray | None:
        """Backward through all layers; without `need_dx` the first one may leave dx out."""
        dx: np.ndarray | None = dy
        for layer in reversed(self.layers):
            assert dx is not None
            rows = len(dx)
            layer.need_dx = need_dx or layer is not self.layers[0]
            if not layer.overwrites_gradients:
                for gradient in layer.gradients.values():
                    gradient.fill(0.0)
            dx = layer.backward(dx)
            if layer.need_dx:
                dx = self._checked(layer, "backward", dx, rows)
        self.mark_gradients(kept=True)
        return dx

    def _checked(self, layer: Layer, method: str, y: Any, rows: int) -> np.ndarray:
        """What a layer returned, as the next one may rely on it."""
        shape = layer.output_shape if method == "forward" else layer.input_shape
        assert shape is not None
        if not isinstance(y, np.ndarray) or y.shape != (rows, *shape):
            got = f"the shape {y.shape}" if isinstance(y, np.ndarray) else repr(y)[:40]
            raise ValueError(
                f"{method} of layer {layer.label} returned {got}, expected an array of the shape "
                f"{(rows, *shape)}"
            )
        if y.dtype is self.dtype and y.flags.carray:
            return y
        # A user's layer may well compute in another type, or return a transposed view.
        return np.require(y, self.dtype, ["C_CONTIGUOUS", "ALIGNED"])

    def _rows(self, X: Any, name: str = "X") -> np.ndarray:
        """Samples as the layers take them; builds the model where these are its first data."""
        rows = as_rows(X, self.dtype, self.input_shape if self.built else None, name)
        if not self.built:
            self.build(rows.shape[1:])
        return rows

    # --- inference -------------------------------------------------------------------------------

    def chunks(self, n: int) -> Iterator[slice]:
        """Slices of rows, of a size that depends on the model alone, so that the bits do too."""
        shapes = [self.input_shape or (), *(layer.output_shape or () for layer in self.layers)]
        low, high = CHUNK_ROWS
        size = max(low, min(high, CHUNK_ELEMENTS // max(map(math.prod, shapes))))
        return (slice(start, start + size) for start in range(0, n, size))

    def _infer(self, x: np.ndarray) -> np.ndarray:
        """The output in inference mode for one chunk of prepared rows.

        It runs on shallow copies of the layers, which share the parameters: what a `forward` by
        hand has saved for its `backward` stays as it was, and two threads may predict at once.
        """
        for layer in map(copy.copy, self.layers):
            x = self._checked(layer, "forward", layer.forward(x, training=False), len(x))
        return x

    # --- as a whole ------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the layers: name, layer, output shape, number of parameters."""
        rows = [("", "layer", "output", "parameters")]
        for layer in self.layers:
            sizes = ("?",) if layer.output_shape is None else layer.output_shape
            shape = f"(N, {', '.join(map(str, sizes))})"
            count = sum(a.size for a in layer.parameters.values())
            rows.append((layer.name, repr(layer), shape, f"{count:,}" if self.built else "?"))
        total = f"{sum(a.size for a in self.parameters().values()):,}" if self.built else "?"
        return "\n".join([*aligned(rows, "><<>"), f"{total} parameters in all, {self.dtype}"])

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        if self.input_shape is None:
            size = ""
        elif len(self.input_shape) == 1:
            size = f", input_dim={self.input_shape[0]}"
        else:
            size = f", input_dim={self.input_shape}"
        return f"Sequential([{inside}]{size}, dtype={str(self.dtype)!r}, seed={self.seed})"

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_gradients": "none", "_flat": None}
        if self._flat is not None:
            state["_arrays"] = {name: array.copy() for name, array in self.state().items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state.pop("_arrays", None)
        self.__dict__.update(state)
        if arrays is not None:
            self._allocate()
            self.set_state(arrays)

    def __copy__(self) -> Network:
        # A shallow copy would share layers whose views belong to one model.
        return copy.deepcopy(self)


def _checked_layers(layers: Any) -> list[Layer]:
    if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
        raise TypeError(f"layers is {layers!r}, expected a list of layers")
    checked = list(layers)
    if not checked:
        raise ValueError("layers is empty, expected at least one layer, such as fastnn.Dense(10)")
    for position, layer in enumerate(checked):
        if isinstance(layer, type) and issubclass(layer, Layer):
            name = layer.__name__
            raise TypeError(f"layer {position} is the class {name}: make one of it, {name}(…)")
        if not isinstance(layer, Layer):
            raise TypeError(f"layer {position} is {layer!r}, expected a fastnn.Layer")
        if layer.name or any(layer is other for other in checked[:position]):
            raise ValueError(
                f"layer {position}, {layer!r}, stands in a model already: a layer has one place, "
                "make another with the same arguments"
            )
    return checked


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        checked: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        checked = np.dtype(object)
    if checked.name not in ("float32", "float64") or not checked.isnative:
        raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
    return checked


def _checked_seed(seed: Any) -> int:
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number of at least 0, or None")
    return int(seed)


def _checked_input_shape(input_dim: Any) -> Shape:
    shape = tuple(input_dim) if isinstance(input_dim, (tuple, list)) else (input_dim,)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in shape)
    if not shape or not whole or min(shape) < 1:
        raise ValueError(
            f"input_dim is {input_dim!r}, expected the number of values in a row (at least 1)"
        )
    return tuple(int(n) for n in shape)


def _check_state(state: Mapping[str, np.ndarray], expected: Mapping[str, Shape]) -> None:
    if missing := expected.keys() - state.keys():
        raise ValueError(f"the state lacks {', '.join(sorted(missing))}")
    if unknown := state.keys() - expected.keys():
        raise ValueError(f"the state holds {', '.join(sorted(unknown))}, which the model has not")
    for name, shape in expected.items():
        if np.shape(state[name]) != shape:
            raise ValueError(f"{name}: expected the shape {shape}, got {np.shape(state[name])}")
