"""One list of cases that drives comparison, gradients, errors and special values.

`CASES` holds every operation of `fastnn.reference` with everything it can be told to do. A new
activation is one line in `ACTIVATIONS`: its forward and backward, alone and fused into dense and
batch norm, follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.checks import NEEDS_INPUT

Arguments = dict[str, Any]
DTYPES = (np.float32, np.float64)

#: Around the vector widths (4, 8, 16 lanes), primes, empty ones, and some that are cut for threads.
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000, 4099)
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    *((n,) for n in LENGTHS),
    (0, 5),
    (5, 0),
    (1, 17),
    (17, 1),
    (3, 5, 7),
    (2, 3, 4, 5),
    (65, 63),
    (300, 517),
)
MATRICES: tuple[tuple[int, ...], ...] = (
    (0, 5),
    (5, 0),
    (1, 1),
    (1, 17),
    (17, 1),
    (2, 3),
    (5, 31),
    (16, 16),
    (31, 33),
    (33, 10),
    (64, 128),
    (257, 130),
    (1003, 37),
)
#: Rows, inputs, units of a dense layer: every size up to and around the register tiles, and beyond.
PRODUCTS: tuple[tuple[int, ...], ...] = (
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (1, 1, 1),
    (1, 7, 9),
    (2, 3, 5),
    (5, 1, 33),
    (8, 16, 16),
    (13, 15, 17),
    (15, 31, 32),
    (16, 33, 31),
    (17, 64, 10),
    (29, 65, 49),
    (32, 784, 10),
    (64, 100, 128),
    (131, 67, 65),
    (513, 129, 33),
    (70, 600, 200),
    (1, 300, 500),
    (1000, 20, 3),
)
BATCHES: tuple[tuple[int, ...], ...] = (
    (2, 0),
    (2, 1),
    (3, 7),
    (4, 16),
    (5, 17),
    (33, 31),
    (64, 128),
    (257, 65),
    (1000, 33),
    (4099, 5),
    (1500, 300),
)
IMAGES: tuple[tuple[int, ...], ...] = ((2, 3, 1, 1), (2, 5, 3, 4), (3, 17, 7, 5), (9, 8, 16, 17))


@dataclass(frozen=True)
class Case:
    """One way to call an operation.

    `make(rng, shape, dtype)` gives its arguments by name. `mutated` names those it changes, `outs`
    the keywords that take its outputs, in the order of what it returns. A result may differ from the
    reference in float64 by `ulps` units in its own last place (`twin` more if it is float64), plus `slack(arguments)` times the
    dtype's eps (a number, or an array for the elements). `gradient(module, arguments, dy)` gives, by name, the gradients of
    sum(dy * value(module, arguments)).
    """

    name: str
    label: str
    make: Callable[[np.random.Generator, tuple[int, ...], Any], Arguments]
    shapes: tuple[tuple[int, ...], ...]
    outs: tuple[str, ...] = ("out",)
    mutated: tuple[str, ...] = ()
    ulps: float = 4.0
    twin: float = 0.0
    slack: Callable[[Arguments], Any] = field(default=lambda arguments: 0.0)
    gradient: Callable[[Any, Arguments, Any], dict[str, np.ndarray]] | None = None
    gradient_shape: tuple[int, ...] = (5, 4)

    def __str__(self) -> str:
        return self.label

    def call(self, module: Any, arguments: Mapping[str, Any], **outs: Any) -> tuple[Any, ...]:
        """What the operation returns, as a tuple."""
        returned = getattr(module, self.name)(**arguments, **outs)
        return returned if isinstance(returned, tuple) else (returned,)

    def results(self, module: Any, arguments: Mapping[str, Any]) -> list[Any]:
        """What it returns and what it changes, from copies of the arguments."""
        fresh = copies(arguments)
        returned = [r for r in self.call(module, fresh) if r is not None]
        return [*returned, *(fresh[name] for name in self.mutated if fresh.get(name) is not None)]

    def value(self, module: Any, arguments: Mapping[str, Any]) -> Any:
        """The result that gradients are taken of: the first."""
        return self.call(module, copies(arguments))[0]

    def example(self, shape: tuple[int, ...], dtype: Any) -> Arguments:
        """The arguments for a shape: always the same ones."""
        seed = [len(self.label), *map(ord, self.label), *shape]
        return self.make(np.random.default_rng(seed), shape, dtype)


def copies(arguments: Mapping[str, Any]) -> Arguments:
    """The same arguments with arrays of their own."""
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}


def widened(arguments: Mapping[str, Any]) -> Arguments:
    """The same arguments with float64 for float32: what the truth is computed from."""
    return {
        k: v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for k, v in arguments.items()
    }


def arrays(arguments: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays among the arguments, with their names."""
    return ((k, v) for k, v in arguments.items() if isinstance(v, np.ndarray))


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape), dtype=dtype)


# --- activations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """What the tests know about an activation.

    `kinks`: where it has no derivative. `ulps`: how far from the true value it may be. `twin`: how
    many more in float64, where the reference is no better than NumPy (and in the lower tail of GELU
    magnifies the rounding of its argument). `torch`: how to say it with torch.nn.functional, where
    that is not simply its name.
    """

    name: str
    ulps: float
    parameters: tuple[dict[str, Any], ...] = ({},)
    kinks: tuple[float, ...] = ()
    twin: float = 0.0
    torch: Callable[[Any, Any], Any] | None = None

    @property
    def saved(self) -> str:
        """What its backward takes: its input "x" or its output "y"."""
        return "x" if self.name in NEEDS_INPUT else "y"


ACTIVATIONS = (
    Activation("relu", ulps=0, kinks=(0.0,)),
    Activation("leaky_relu", ulps=1, parameters=({}, {"negative_slope": 0.2}), kinks=(0.0,)),
    # 1.5 with an alpha of 1, to which test_accuracy.py holds it; another alpha can end below a power of two where
    # exp(x) - 1 is above it, and what that is off by (half a unit) then counts twice: 1.504 was met.
    Activation("elu", 2, twin=3, parameters=({}, {"alpha": 0.75}), kinks=(0.0,)),
    Activation("selu", ulps=3, kinks=(0.0,), twin=3),
    Activation("sigmoid", ulps=1.5, twin=4),
    Activation("tanh", ulps=1.5, twin=3),
    Activation("softplus", ulps=1.5, twin=4, torch=lambda F, x: F.softplus(x, threshold=1e9)),
    Activation("relu6", ulps=0, kinks=(0.0, 6.0)),
    # PyTorch's own hardsigmoid multiplies float64 gradients by 1/6 in float32.
    Activation("hard_sigmoid", 2, kinks=(-3.0, 3.0), torch=lambda F, x: F.relu6(x + 3) / 6),
    Activation("hard_tanh", ulps=0, kinks=(-1.0, 1.0), torch=lambda F, x: F.hardtanh(x)),
    Activation("silu", ulps=3, twin=4),
    Activation("gelu", ulps=3, twin=4000, parameters=({}, {"approximate": "tanh"})),
    Activation("hard_swish", ulps=3, kinks=(-3.0, 3.0), torch=lambda F, x: F.hardswish(x)),
)


def off_kinks(x: np.ndarray, kinks: tuple[float, ...]) -> np.ndarray:
    """x with what lies within 0.01 of a kink moved off it, so that a difference quotient holds."""
    for kink in kinks:
        x = np.where(np.abs(x - kink) < 0.01, kink + 0.05, x).astype(x.dtype)
    return x


def _label(name: str, *details: Any) -> str:
    text = ",".join(
        "+".join(f"{k}={v}" for k, v in d.items()) if isinstance(d, dict) else str(d)
        for d in details
        if d not in (None, {}, "")
    )
    return f"{name}[{text}]" if text else name


def _spread(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Numbers of small, ordinary and large size, where an activation bends and where it is flat."""
    scale = rng.choice([1e-4, 0.3, 1.0, 4.0, 30.0], shape)
    return np.asarray(rng.standard_normal(shape) * scale, dtype=dtype)


def _finite(x: np.ndarray) -> np.ndarray:
    size = np.abs(x.astype(np.float64))
    return np.where(size < 1e300, size, 0)


def _activation_cases() -> Iterator[Case]:
    for activation in ACTIVATIONS:
        for parameters in activation.parameters:
            yield from _forward_and_backward(activation, parameters)


def _forward_and_backward(activation: Activation, parameters: dict[str, Any]) -> Iterator[Case]:
    name, saved = activation.name, activation.saved
    backward = f"{name}_backward"

    def make_forward(rng: Any, shape: Any, dtype: Any) -> Arguments:
        return {"x": off_kinks(_spread(rng, shape, dtype), activation.kinks), **parameters}

    def make_backward(rng: Any, shape: Any, dtype: Any) -> Arguments:
        x = make_forward(rng, shape, dtype)["x"]
        kept = x if saved == "x" else getattr(reference, name)(x, **parameters)
        return {"dy": normal(rng, shape, dtype), saved: kept, **parameters}

    def gradient(module: Any, a: Arguments, dy: Any) -> dict[str, np.ndarray]:
        kept = a["x"] if saved == "x" else getattr(module, name)(a["x"], **parameters)
        return {"x": getattr(module, backward)(dy, kept, **parameters)}

    yield Case(
        name,
        _label(name, parameters),
        make_forward,
        SHAPES,
        ulps=activation.ulps + (1 if "alpha" in parameters else 0),  # one more rounding
        twin=activation.twin,
        gradient=gradient,
    )
    # A derivative near 0 is a difference of numbers near 1 (1 - y^2): it is off by some eps, times dy.
    yield Case(
        backward,
        _label(backward, parameters),
        make_backward,
        SHAPES,
        outs=("dx_out",),
        ulps=6,
        slack=lambda a: 0.0 if activation.ulps == 0 else 8 * _finite(a["dy"]),
    )


# --- softmax and maxout ------------------------------------------------------------------------


def _softmax_cases() -> Iterator[Case]:
    for name, ulps, slack in (("softmax", 6.0, 0.0), ("log_softmax", 4.0, 4.0)):
        for axis, shapes in (
            (-1, (*MATRICES, (7,), (3, 5, 7))),
            (1, ((3, 5, 7), (2, 9, 4, 3), (2, 70, 3, 2), (2, 3, 20, 31))),
        ):
            yield from _softmax_pair(name, ulps, slack, axis, shapes)
        # Of narrow rows many are taken as one, with some left over; of long ones a piece at a time.
        narrow, wide = (
            ((7, 3), (37, 3), (300, 5), (600, 1), (3, 31)),
            ((33, 65), (150, 40), (3, 700)),
        )
        yield from _softmax_pair(name, ulps, slack, 0, ((5,), (0, 3), *narrow, *wide))


def _softmax_pair(
    name: str, ulps: float, slack: float, axis: int, shapes: tuple[tuple[int, ...], ...]
) -> Iterator[Case]:
    def make(rng: Any, shape: Any, dtype: Any) -> Arguments:
        return {"x": np.asarray(rng.standard_normal(shape) * 3, dtype), "axis": axis}

    def make_backward(rng: Any, shape: Any, dtype: Any) -> Arguments:
        y = getattr(reference, name)(**make(rng, shape, dtype))
        return {"dy": normal(rng, shape, dtype), "y": y, "axis": axis}

    def gradient(module: Any, a: Arguments, dy: Any) -> dict[str, np.ndarray]:
        y = getattr(module, name)(**a)
        return {"x": getattr(module, f"{name}_backward")(dy, y, axis)}

    def length(a: Arguments) -> float:
        return math.sqrt(a["y"].shape[axis])

    yield Case(
        name,
        _label(name, {"axis": axis}),
        make,
        shapes,
        # The error of x - max, of the size of x's last place, is relative in exp.
        ulps=ulps + 16,
        slack=lambda a: slack,
        gradient=gradient,
        gradient_shape=(5, 4, 3) if axis == 1 else (5, 4),
    )
    yield Case(
        f"{name}_backward",
        _label(f"{name}_backward", {"axis": axis}),
        make_backward,
        shapes,
        outs=("dx_out",),
        ulps=8,
        slack=lambda a: 8 + 4 * length(a),
    )


def _maxout_cases() -> Iterator[Case]:
    for pieces in (1, 2, 3, 5):

        def make(rng: Any, shape: Any, dtype: Any, pieces: int = pieces) -> Arguments:
            n, h = shape
            return {"x": normal(rng, (n, h * pieces), dtype), "pieces": pieces}

        def make_backward(rng: Any, shape: Any, dtype: Any, pieces: int = pieces) -> Arguments:
            which = rng.integers(0, pieces, shape).astype(np.uint8)
            return {"dy": normal(rng, shape, dtype), "which": which, "pieces": pieces}

        def gradient(
            module: Any, a: Arguments, dy: Any, pieces: int = pieces
        ) -> dict[str, np.ndarray]:
            _, which = module.maxout(a["x"], pieces)
            return {"x": module.maxout_backward(dy, which, pieces)}

        label = {"pieces": pieces}
        outs = ("y_out", "which_out")
        yield Case(
            "maxout", _label("maxout", label), make, MATRICES, outs, ulps=0, gradient=gradient
        )
        yield Case(
            "maxout_backward",
            _label("maxout_backward", label),
            make_backward,
            MATRICES,
            outs=("dx_out",),
            ulps=0,
        )


# --- dense -------------------------------------------------------------------------------------


def _specs(from_output: bool) -> Iterator[tuple[Any, dict[str, Any], tuple[float, ...]]]:
    """None and every activation: as given to `activation=`, its parameters and its kinks."""
    yield None, {}, ()
    for activation in ACTIVATIONS:
        if not from_output or activation.saved == "y":
            for parameters in activation.parameters:
                spec = (activation.name, parameters) if parameters else activation.name
                yield spec, parameters, activation.kinks


def _name(spec: Any) -> Any:
    return spec[0] if isinstance(spec, tuple) else spec


def _dense_arguments(rng: Any, shape: Any, dtype: Any, bias: bool = True) -> Arguments:
    n, d, h = shape
    w = np.asarray(rng.standard_normal((d, h)) / math.sqrt(max(d, 1)), dtype=dtype)
    b = normal(rng, (h,), dtype) if bias else None
    return {"x": normal(rng, (n, d), dtype), "w": w, "b": b}


def _inputs(a: Arguments) -> float:
    """Slack for sums over D inputs of weights of size 1/sqrt(D): they are of size 1 to 4."""
    return 16 + 3 * math.sqrt(a["x"].shape[1])


def _dense_cases() -> Iterator[Case]:
    for spec, parameters, _ in _specs(from_output=False):
        shapes = PRODUCTS if spec in (None, "relu") else PRODUCTS[4:13]
        for bias in (False, True) if spec in (None, "relu") else (True,):

            def make(rng: Any, shape: Any, dtype: Any, spec: Any = spec, bias: Any = bias) -> Any:
                return {**_dense_arguments(rng, shape, dtype, bias), "activation": spec}

            differentiable = _name(spec) not in NEEDS_INPUT
            yield Case(
                "dense_forward",
                _label("dense_forward", _name(spec), parameters, "" if bias else "no bias"),
                make,
                shapes,
                slack=_inputs,
                gradient=_dense_gradient if differentiable else None,
                gradient_shape=(5, 4, 3),
            )
    for spec, parameters, _ in _specs(from_output=True):

        def make_backward(rng: Any, shape: Any, dtype: Any, spec: Any = spec) -> Arguments:
            a = _dense_arguments(rng, shape, dtype)
            y = reference.dense_forward(**a, activation=spec)
            # Sums over rows (dw, db) and over units (dx) are then of size 1.
            scale = math.sqrt(max(shape[0], shape[2], 1))
            dy = np.asarray(rng.standard_normal(y.shape) / scale, dtype)
            return {"dy": dy, "x": a["x"], "w": a["w"], "y": y, "activation": spec}

        yield Case(
            "dense_backward",
            _label("dense_backward", _name(spec), parameters),
            make_backward,
            PRODUCTS if spec in (None, "relu") else PRODUCTS[4:13],
            outs=("dx_out", "dw_out", "db_out"),
            ulps=8,
            slack=lambda a: 16 + 2.0 * math.sqrt(sum(a["x"].shape) + a["dy"].shape[1]),
        )


def _dense_gradient(module: Any, a: Arguments, dy: Any) -> dict[str, np.ndarray]:
    y = module.dense_forward(**a)
    dx, dw, db = module.dense_backward(dy, a["x"], a["w"], y=y, activation=a["activation"])
    return {"x": dx, "w": dw} if a["b"] is None else {"x": dx, "w": dw, "b": db}


# --- batch norm --------------------------------------------------------------------------------


def _norm_arguments(rng: Any, shape: Any, dtype: Any, axis: int) -> Arguments:
    channels = (shape[axis],)
    vector = [1] * len(shape)
    vector[axis] = -1
    mean = 2 * normal(rng, channels, np.float64).reshape(vector)
    return {
        "x": np.asarray(mean + rng.standard_normal(shape), dtype),
        "gamma": np.asarray(1 + 0.3 * rng.standard_normal(channels), dtype),
        "beta": np.asarray(0.3 * rng.standard_normal(channels), dtype),
    }


def _running(rng: Any, channels: int, dtype: Any) -> Arguments:
    return {
        "running_mean": normal(rng, (channels,), dtype),
        "running_var": np.asarray(0.5 + rng.random(channels), dtype),
    }


def _norm_cases() -> Iterator[Case]:
    for spec, parameters, _ in _specs(from_output=False):
        yield from _norm_pair(spec, parameters, 1, True, BATCHES if spec is None else BATCHES[2:9])
        yield from _norm_pair(spec, parameters, 1, False, BATCHES[2:7] if spec else BATCHES)
    for axis, shapes in ((1, IMAGES), (-1, IMAGES), (0, ((3, 5), (4, 3, 2))), (2, ((3, 2, 5),))):
        for training in (True, False):
            yield from _norm_pair(None, {"axis": axis}, axis, training, shapes)
            yield from _norm_pair("relu", {"axis": axis}, axis, training, shapes)


def _norm_pair(
    spec: Any, details: dict[str, Any], axis: int, training: bool, shapes: Any
) -> Iterator[Case]:
    shared = {"training": training, "activation": spec, "axis": axis}
    needs_input = _name(spec) in NEEDS_INPUT
    label = (_name(spec), details, "" if training else "inference", f"{len(shapes[0])} axes")

    def make(rng: Any, shape: Any, dtype: Any) -> Arguments:
        a = _norm_arguments(rng, shape, dtype, axis)
        return {**a, **_running(rng, shape[axis], dtype), "eps": 1e-3, "momentum": 0.3, **shared}

    def make_backward(rng: Any, shape: Any, dtype: Any) -> Arguments:
        a = make(rng, shape, dtype)
        y, mean, rstd = reference.batchnorm_forward(**a)
        kept: Arguments = {"beta": a["beta"]} if needs_input else {"y": y}
        return {
            "dy": normal(rng, shape, dtype),
            "x": a["x"],
            "gamma": a["gamma"],
            "mean": mean,
            "rstd": rstd,
            **kept,
            **shared,
        }

    def gradient(module: Any, a: Arguments, dy: Any) -> dict[str, np.ndarray]:
        y, mean, rstd = module.batchnorm_forward(**copies(a))
        kept = {"beta": a["beta"]} if needs_input else {"y": y}
        dx, dgamma, dbeta = module.batchnorm_backward(
            dy, a["x"], a["gamma"], mean, rstd, **kept, **shared
        )
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    def sums(a: Arguments) -> float:
        """Of m random terms of the size of xhat, which in inference need not be 1."""
        xhat = (np.moveaxis(a["x"], axis, -1) - a["mean"]) * a["rstd"]
        m = a["x"].size / max(a["x"].shape[axis], 1)
        return 48 + 4 * math.sqrt(m) * (1 + float(np.abs(xhat).max(initial=0)))

    yield Case(
        "batchnorm_forward",
        _label("batchnorm_forward", *label),
        make,
        shapes,
        outs=("y_out", "mean_out", "rstd_out"),
        mutated=("running_mean", "running_var"),
        ulps=8,
        slack=lambda a: 48.0,
        gradient=gradient,
        gradient_shape={2: (6, 4), 3: (4, 3, 2), 4: (3, 2, 2, 3)}[len(shapes[0])],
    )
    yield Case(
        "batchnorm_backward",
        _label("batchnorm_backward", *label),
        make_backward,
        shapes,
        outs=("dx_out", "dgamma_out", "dbeta_out"),
        ulps=16,
        slack=sums,
    )


# --- dropout -----------------------------------------------------------------------------------


def _dropout_cases() -> Iterator[Case]:
    for p, seed, offset in ((0.0, 3, 0), (0.5, 1, 0), (0.3, 2**40 + 5, 7), (0.9, 2**64 - 1, 2**63)):
        mask = {"p": p, "seed": seed, "offset": offset}

        def make(rng: Any, shape: Any, dtype: Any, mask: Any = mask) -> Arguments:
            return {"x": normal(rng, shape, dtype), **mask}

        def make_backward(rng: Any, shape: Any, dtype: Any, mask: Any = mask) -> Arguments:
            return {"dy": normal(rng, shape, dtype), **mask}

        def gradient(module: Any, a: Arguments, dy: Any, mask: Any = mask) -> dict[str, np.ndarray]:
            return {"x": module.dropout_backward(dy, **mask)}

        yield Case("dropout", _label("dropout", mask), make, SHAPES, ulps=2, gradient=gradient)
        yield Case(
            "dropout_backward",
            _label("dropout_backward", mask),
            make_backward,
            SHAPES,
            outs=("dx_out",),
            ulps=2,
        )


# --- losses ------------------------------------------------------------------------------------

SCORES = tuple(shape for shape in MATRICES if 0 not in shape)


def _loss_case(
    name: str,
    details: dict[str, Any],
    make: Callable[[Any, Any, Any], Arguments],
    scores: str,
    shapes: Any,
) -> Case:
    def gradient(module: Any, a: Arguments, dy: Any) -> dict[str, np.ndarray]:
        return {scores: dy * getattr(module, name)(**a)[1]}

    return Case(
        name,
        _label(name, details),
        make,
        shapes,
        outs=(f"d{scores}_out",),
        ulps=24,
        slack=lambda a: 8.0,
        gradient=gradient,
    )


def _cross_entropy_cases() -> Iterator[Case]:
    for targets in ("labels", "one_hot", "soft"):
        for weights in ((), ("sample",), ("class",), ("sample", "class")):
            for smoothing in (0.0, 0.1):

                def make(
                    rng: Any,
                    shape: Any,
                    dtype: Any,
                    targets: str = targets,
                    weights: tuple[str, ...] = weights,
                    smoothing: float = smoothing,
                ) -> Arguments:
                    n, c = shape
                    labels = rng.integers(0, c, n)
                    if targets == "one_hot":
                        labels = np.eye(c, dtype=dtype)[labels]
                    elif targets == "soft":
                        labels = reference.softmax(normal(rng, shape, dtype))
                    a = {"logits": 3 * normal(rng, shape, dtype), "labels": labels}
                    a["logits"] = a["logits"].astype(dtype)
                    if "sample" in weights:
                        a["sample_weight"] = np.asarray(0.1 + rng.random(n), dtype)
                    if "class" in weights:
                        a["class_weight"] = np.asarray(0.1 + rng.random(c), dtype)
                    return {**a, "label_smoothing": smoothing}

                details = {"targets": targets, "weights": "+".join(weights), "smooth": smoothing}
                yield _loss_case("softmax_cross_entropy", details, make, "logits", SCORES)


def _other_loss_cases() -> Iterator[Case]:
    for weighted in (False, True):

        def weight(rng: Any, n: int, dtype: Any, weighted: bool = weighted) -> Arguments:
            return {"sample_weight": np.asarray(0.1 + rng.random(n), dtype)} if weighted else {}

        def make_pair(rng: Any, shape: Any, dtype: Any, weight: Any = weight) -> Arguments:
            pred = normal(rng, shape, dtype)
            # Away from |d| = 0 and |d| = 1, where absolute error and Huber have kinks.
            size = rng.choice([rng.uniform(0.1, 0.8, shape), rng.uniform(1.2, 3.0, shape)])
            target = np.asarray(pred + size * rng.choice([-1.0, 1.0], shape), dtype)
            return {"pred": pred, "target": target, **weight(rng, shape[0], dtype)}

        def make_binary(rng: Any, shape: Any, dtype: Any, weight: Any = weight) -> Arguments:
            logits = np.asarray(4 * rng.standard_normal(shape), dtype)
            target = np.asarray(rng.choice([0.0, 1.0, 0.3], shape), dtype)
            return {"logits": logits, "target": target, **weight(rng, shape[0], dtype)}

        def make_hinge(rng: Any, shape: Any, dtype: Any, weight: Any = weight) -> Arguments:
            labels = rng.integers(0, shape[1], shape[0])
            return {
                "scores": normal(rng, shape, dtype),
                "labels": labels,
                **weight(rng, shape[0], dtype),
            }

        details = {"weighted": weighted}
        shapes = (*SCORES, (7,), (3, 5, 7))
        for name in ("mean_squared_error", "mean_absolute_error", "huber"):
            yield _loss_case(name, details, make_pair, "pred", shapes)
        yield _loss_case("binary_cross_entropy", details, make_binary, "logits", shapes)
        yield _loss_case("multiclass_hinge", details, make_hinge, "scores", SCORES)


# --- updates -----------------------------------------------------------------------------------

#: Operation, names of its state, and the settings to try it with.
UPDATES: tuple[tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]], ...] = (
    (
        "sgd_update",
        ("v",),
        (
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.01},
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        ),
    ),
    ("adagrad_update", ("h",), ({"lr": 0.1}, {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.01})),
    (
        "rmsprop_update",
        ("h", "v"),
        ({"lr": 0.01}, {"lr": 0.01, "rho": 0.9, "momentum": 0.9, "weight_decay": 0.01}),
    ),
    (
        "adam_update",
        ("m", "v"),
        (
            {"step": 1, "lr": 0.01},
            {"step": 7, "lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.01},
        ),
    ),
    ("adamw_update", ("m", "v"), ({"step": 1, "lr": 0.01}, {"step": 7, "lr": 0.01})),
)


def _update_cases() -> Iterator[Case]:
    for name, state, variants in UPDATES:
        for settings in variants:

            def make(
                rng: Any, shape: Any, dtype: Any, state: Any = state, settings: Any = settings
            ) -> Arguments:
                # h and Adam's v are means of squares: not negative.
                arrays = {key: np.asarray(np.abs(normal(rng, shape, dtype))) for key in state}
                a = {"w": normal(rng, shape, dtype), "dw": normal(rng, shape, dtype)}
                return {**a, **arrays, **settings}

            yield Case(
                name,
                _label(name, settings),
                make,
                SHAPES,
                outs=(),
                mutated=("w", *state),
                ulps=8,
                slack=lambda a: 8.0,
            )

    def make_clip(rng: Any, shape: Any, dtype: Any) -> Arguments:
        return {"dw": normal(rng, shape, dtype), "limit": 0.5}

    yield Case(
        "clip_by_value", "clip_by_value", make_clip, SHAPES, outs=(), mutated=("dw",), ulps=0
    )
    for max_norm in (1e6, 0.7):

        def make_norm(rng: Any, shape: Any, dtype: Any, max_norm: float = max_norm) -> Arguments:
            return {"dw": normal(rng, shape, dtype), "max_norm": max_norm}

        yield Case(
            "clip_by_global_norm",
            _label("clip_by_global_norm", {"max_norm": max_norm}),
            make_norm,
            SHAPES,
            outs=(),
            mutated=("dw",),
            ulps=8,
        )
    for limit in (1e6, 1.5):

        def make_max_norm(rng: Any, shape: Any, dtype: Any, limit: float = limit) -> Arguments:
            return {"w": normal(rng, shape, dtype), "limit": limit}

        yield Case(
            "max_norm",
            _label("max_norm", {"limit": limit}),
            make_max_norm,
            MATRICES,
            outs=(),
            mutated=("w",),
            ulps=8,
        )


CASES: tuple[Case, ...] = (
    *_activation_cases(),
    *_softmax_cases(),
    *_maxout_cases(),
    *_dense_cases(),
    *_norm_cases(),
    *_dropout_cases(),
    *_cross_entropy_cases(),
    *_other_loss_cases(),
    *_update_cases(),
)


# --- comparing ---------------------------------------------------------------------------------


def assert_close(case: Case, got: list[Any], truth: list[Any], a: Arguments, dtype: Any) -> None:
    """Assert that each result is its float64 truth within the case's tolerance."""
    assert len(got) == len(truth)
    slack = case.slack(a) * np.finfo(dtype).eps
    ulps = case.ulps + (case.twin if dtype is np.float64 else 0)
    for index, (value, true) in enumerate(zip(got, truth, strict=True)):
        if isinstance(value, np.ndarray):
            assert value.shape == true.shape
            wanted = true.dtype if true.dtype.kind in "iu" else np.dtype(dtype)
            assert value.dtype == wanted, f"result {index} has the dtype {value.dtype}"
        else:
            assert type(value) is float
        _assert_values(f"{case} result {index}", value, true, ulps, slack, dtype)


def _assert_values(what: str, value: Any, true: Any, ulps: float, slack: Any, dtype: Any) -> None:
    value, true = np.asarray(value, np.float64), np.asarray(true, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = true.astype(dtype)
        # Where the truth rounds to infinity, the largest finite number's neighbourhood begins.
        unit = np.spacing(np.abs(np.where(np.isfinite(rounded), rounded, 0)).astype(dtype))
        allowed = ulps * unit.astype(np.float64) + slack
        same = (value == rounded) | (np.isnan(value) & np.isnan(rounded))
        good = same | (np.abs(value - true) <= allowed)
    if not good.all():
        worst = np.unravel_index(np.argmin(good), good.shape)
        raise AssertionError(
            f"{what}, shape {good.shape}: {np.count_nonzero(~good)} of {good.size} differ, first "
            f"at {tuple(map(int, worst))}: got {value[worst]!r}, expected {true[worst]!r}, "
            f"allowed {allowed[worst] if np.ndim(allowed) else allowed:.3g}"
        )
