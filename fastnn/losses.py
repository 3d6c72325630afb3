"""Losses as objects: what the targets must look like, and loss and gradient in one call."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from . import functional
from .checks import check_fraction, check_positive
from .inputs import as_floats, check_finite
from .interchange import to_numpy

Shape = tuple[int, ...]


class Loss:
    """The base of all losses, and of a user's own.

    Attributes
    ----------
    name : str
        What `fit(loss=…)` and a model file call it.
    kind : "classification" or "regression"
        Whether `predict` returns class indices or values, and whether there is an accuracy.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["classification", "regression"]]

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        """Check targets and convert them to what `forward_backward` takes.

        Parameters
        ----------
        y
            What the user gave.
        n_rows : int
            The number of samples.
        output_shape : tuple of int
            The model's output for one sample.
        dtype : numpy.dtype
            The model's dtype.
        name : str
            What to call `y` in a message.

        Raises
        ------
        TypeError, ValueError
            With what was given, what was expected and what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare_targets")

    def forward_backward(
        self, out: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """The mean loss of a batch and its gradient with respect to `out`.

        With `sample_weight` (N,), not negative and not all zero, the weighted mean: the sum divided by
        that of the weights. It is given where somebody trains or evaluates with weights only; a loss
        without this parameter is for training without them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward_backward")

    def decide(self, out: np.ndarray) -> np.ndarray:
        """What `predict` makes of outputs: class indices (N,), or the values of a regression."""
        return out.argmax(axis=1) if self.kind == "classification" else out

    def probabilities(self, out: np.ndarray) -> np.ndarray:
        """What `predict_proba` makes of outputs: the probability of each class, (N, C)."""
        return functional.softmax(out)

    def are_correct(self, out: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Whether each row of a classification is decided as its target says, (N,)."""
        labels = target if target.ndim == 1 else target.argmax(axis=1)
        return np.asarray(out.argmax(axis=1) == labels)

    def count_correct(self, out: np.ndarray, target: np.ndarray) -> int:
        """How many rows that are: what the accuracy counts, without weights. Override `are_correct`."""
        return int(self.are_correct(out, target).sum())

    def total_weight(self, target: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        """What the loss of these rows was divided by: a mean over several batches weighs with it."""
        weight = len(target) if sample_weight is None else sample_weight.sum(dtype=np.float64)
        return float(weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON-able values."""
        return {}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(type(self))


class SoftmaxCrossEntropy(Loss):
    """−log softmax(out)[label], averaged over the batch.

    Targets are integer labels 0 … C−1, (N,), or the probabilities of the classes, (N, C), one-hot or
    soft. See `fastnn.reference.softmax_cross_entropy` for the formula.

    Parameters
    ----------
    label_smoothing : float, 0 to 1
        The share of the target that is spread evenly over all classes (Szegedy et al. 2016, section
        7).
    class_weight : sequence of float, optional
        One for each class, above 0; the mean is then weighted by them.

    Raises
    ------
    TypeError, ValueError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = SoftmaxCrossEntropy().forward_backward(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4)
    1.3863
    >>> SoftmaxCrossEntropy(label_smoothing=0.1, class_weight=[1, 2])
    SoftmaxCrossEntropy(label_smoothing=0.1, class_weight=[1.0, 2.0])
    """

    name = "softmax_cross_entropy"
    kind = "classification"

    def __init__(self, label_smoothing: float = 0.0, class_weight: Any = None) -> None:
        self.label_smoothing = check_fraction(label_smoothing, "label_smoothing", closed=True)
        self.class_weight = None if class_weight is None else _checked_weights(class_weight)

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        classes = _classes(self, output_shape)
        if self.class_weight is not None and len(self.class_weight) != classes:
            raise ValueError(
                f"class_weight has {len(self.class_weight)} weights, but the model has "
                f"{classes} outputs: give one weight for each"
            )
        y = to_numpy(y, name)
        given = np.asarray(y)
        if given.ndim == 2 and given.shape[1] == classes > 1:
            return _prepare_shares(y, n_rows, dtype, name)
        return _prepare_labels(y, n_rows, classes, name)

    def weights(self, dtype: Any) -> np.ndarray | None:
        """The class weights as an array (C,), or None: by a power of 2 so that the largest is from 1/2 to 1.

        Only their proportions count, and none overflows beside the weights of rows.
        """
        if self.class_weight is None:
            return None
        weights = np.asarray(self.class_weight)
        return np.asarray(np.ldexp(weights, -np.frexp(weights.max())[1]), dtype)

    def forward_backward(
        self, out: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        return functional.softmax_cross_entropy(
            out,
            target,
            sample_weight=sample_weight,
            class_weight=self.weights(out.dtype),
            label_smoothing=self.label_smoothing,
        )

    def total_weight(self, target: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        weights = self.weights(np.float64)
        if weights is None:
            return super().total_weight(target, sample_weight)
        of_rows = weights[target] if target.ndim == 1 else target @ weights
        return float((of_rows if sample_weight is None else of_rows * sample_weight).sum())

    def get_config(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, "class_weight": self.class_weight}


class MulticlassHinge(Loss):
    """The multi-class SVM loss: Σ over j ≠ label of max(0, out_j − out_label + margin), batch mean.

    Labels are integers 0 … C−1, (N,). Its scores are no logarithms of probabilities, so a model
    trained on it has no `predict_proba`. Source: Weston and Watkins (1999).

    Parameters
    ----------
    margin : float
        Above 0.

    Examples
    --------
    >>> import numpy as np
    >>> MulticlassHinge().forward_backward(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    (0.5, array([[-1.,  1.,  0.]]))
    """

    name = "multiclass_hinge"
    kind = "classification"

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = check_positive(margin, "margin")

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        return _prepare_labels(y, n_rows, _classes(self, output_shape), name)

    def forward_backward(
        self, out: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        return functional.multiclass_hinge(
            out, target, margin=self.margin, sample_weight=sample_weight
        )

    def probabilities(self, out: np.ndarray) -> np.ndarray:
        raise RuntimeError(
            "the scores of multiclass_hinge are no probabilities: use predict, or train with "
            "softmax_cross_entropy"
        )

    def get_config(self) -> dict[str, Any]:
        return {"margin": self.margin}


class Elementwise(Loss):
    """The base of the losses that compare each output with a target of its own.

    Targets are (N, H), or (N,) where H is 1; the mean is over all elements. A subclass names the
    operation of `fastnn.functional`.
    """

    kind: ClassVar[Literal["classification", "regression"]] = "regression"

    @property
    def options(self) -> dict[str, float]:
        """The operation's parameters: the constructor's."""
        return self.get_config()

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        y = to_numpy(y, name)
        target = as_floats(y, dtype, name)
        if target.ndim == 0:
            raise ValueError(f"{name} is a single number, expected one target per row")
        _same_length(target, n_rows, name)
        if target.ndim == 1 and output_shape == (1,):
            target = target.reshape(-1, 1)
        if target.shape[1:] != output_shape:
            raise ValueError(
                f"{name} has the shape {target.shape}, but the model's output is "
                f"{(n_rows, *output_shape)}: give the last layer as many units as there are targets"
            )
        check_finite(target, np.asarray(y).reshape(target.shape), name)
        return target

    def forward_backward(
        self, out: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        operation: Any = getattr(functional, self.name)
        result: tuple[float, np.ndarray] = operation(
            out, target, sample_weight=sample_weight, **self.options
        )
        return result


class MeanSquaredError(Elementwise):
    """(out − target)², averaged over all elements; targets (N, H), or (N,) where H is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = MeanSquaredError().forward_backward(np.array([[3.0]]), np.array([[1.0]]))
    >>> loss, dout.tolist()
    (4.0, [[4.0]])
    """

    name = "mean_squared_error"


class MeanAbsoluteError(Elementwise):
    """|out − target|, averaged over all elements; targets (N, H), or (N,) where H is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = MeanAbsoluteError().forward_backward(np.array([[3.0]]), np.array([[1.0]]))
    >>> loss, dout.tolist()
    (2.0, [[1.0]])
    """

    name = "mean_absolute_error"


class Huber(Elementwise):
    """d²/2 where |d| ≤ delta, delta·(|d| − delta/2) beyond, d = out − target; the mean of it.

    Targets are (N, H), or (N,) where H is 1. Source: Huber (1964).

    Parameters
    ----------
    delta : float
        Above 0: where the square ends.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = Huber(delta=0.5).forward_backward(np.array([[3.0]]), np.array([[1.0]]))
    >>> loss, dout.tolist()
    (0.875, [[0.5]])
    """

    name = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_positive(delta, "delta")

    def get_config(self) -> dict[str, Any]:
        return {"delta": self.delta}


class BinaryCrossEntropy(Elementwise):
    """Cross-entropy of sigmoid(out) with targets in [0, 1], averaged over all elements.

    Each output is a decision of its own: between two classes with one output (targets (N,)), or for
    each of several labels (N, H). `predict` gives 1 where the output is above 0 (int64, (N,) for one
    output); `predict_proba` gives sigmoid(out), for one output the shares of class 0 and class 1. A
    row counts as right where all its outputs are.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = BinaryCrossEntropy().forward_backward(np.array([[0.0]]), np.array([[1.0]]))
    >>> round(loss, 4), dout.tolist()
    (0.6931, [[-0.5]])
    """

    name = "binary_cross_entropy"
    kind = "classification"

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        target = super().prepare_targets(y, n_rows, output_shape, dtype, name)
        if target.size and not 0 <= target.min() <= target.max() <= 1:
            row = int(np.argwhere((target < 0) | (target > 1))[0][0])
            raise ValueError(
                f"{name} holds {target[row].tolist()} in row {row}, expected targets from 0 to 1: "
                "for more than two classes use loss='softmax_cross_entropy'"
            )
        return target

    def decide(self, out: np.ndarray) -> np.ndarray:
        positive = (out > 0).astype(np.int64)
        return positive[:, 0] if positive.shape[1:] == (1,) else positive

    def probabilities(self, out: np.ndarray) -> np.ndarray:
        if out.shape[1:] == (1,):
            out = np.concatenate([-out, out], axis=1)
        return functional.sigmoid(out)

    def are_correct(self, out: np.ndarray, target: np.ndarray) -> np.ndarray:
        right = (out > 0) == (target > 0.5)
        return np.asarray(right.reshape(len(out), -1).all(axis=1))


def method(loss: Loss, name: str) -> Any:
    """A method of a loss; that of `Loss` where a user's class is no subclass and lacks it."""
    return getattr(loss, name, None) or partial(getattr(Loss, name), loss)


# --- targets -------------------------------------------------------------------------------------


def _checked_weights(class_weight: Any) -> list[float]:
    weights = np.asarray(class_weight)
    if weights.ndim != 1 or weights.size == 0 or weights.dtype.kind not in "fiu":
        raise TypeError(f"class_weight is {class_weight!r}, expected one number for each class")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(
            f"class_weight is {class_weight!r}, expected finite numbers above 0: "
            "leave out the rows of a class that is not to count"
        )
    return [float(weight) for weight in weights]


def _classes(loss: Loss, output_shape: Shape) -> int:
    if len(output_shape) != 1:
        raise ValueError(
            f"{loss.name} needs one score per class and row, "
            f"but the model's output for one row has the shape {output_shape}"
        )
    return output_shape[0]


def _prepare_labels(y: Any, n_rows: int, classes: int, name: str) -> np.ndarray:
    y = to_numpy(y, name)
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind in "iu":
        raise ValueError(
            f"{name} has the shape {labels.shape}, expected ({n_rows},): pass {name}.ravel()"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"{name} has the shape {labels.shape}, expected one label per row ({n_rows},): "
            f"from one-hot rows, {name}.argmax(axis=1)"
        )
    if labels.dtype.kind not in "iub":
        _refuse_labels(labels, name)
    _same_length(labels, n_rows, name)
    # A copy: what was checked must stay what the kernels read, whatever happens to the caller's array.
    labels = np.array(labels, dtype=np.int64, order="C")
    # Seen as unsigned, a negative label is a huge one: one pass finds both kinds.
    unsigned = labels.view(np.uint64)
    if unsigned.size and unsigned.max() >= classes:
        row = int((unsigned >= classes).argmax())
        raise ValueError(
            f"{name} holds the label {np.asarray(y)[row]} in row {row}, but the model has "
            f"{classes} output{'s'[: classes != 1]}: labels must be 0 to {classes - 1}; "
            f"renumber them with classes, {name} = np.unique({name}, return_inverse=True), "
            "or give the last layer more units"
        )
    return labels


def _prepare_shares(y: Any, n_rows: int, dtype: np.dtype[Any], name: str) -> np.ndarray:
    """Probabilities of the classes, (N, C), one-hot or soft."""
    shares = as_floats(y, dtype, name)
    _same_length(shares, n_rows, name)
    check_finite(shares, y, name)
    wrong = (shares < 0).any(axis=1) | (np.abs(shares.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name} holds {shares[row].tolist()} in row {row}, expected probabilities of the "
            f"classes that sum to 1: divide by {name}.sum(axis=1, keepdims=True), or where several "
            "classes may be right at once use loss='binary_cross_entropy'"
        )
    return shares


def _same_length(y: np.ndarray, n_rows: int, name: str) -> None:
    if len(y) != n_rows:
        raise ValueError(
            f"{name} has {len(y)} rows, but there are {n_rows} samples: "
            "each sample needs its own target"
        )


def _refuse_labels(labels: np.ndarray, name: str) -> NoReturn:
    expected = "expected integer labels 0 to C-1"
    if labels.dtype.kind != "f":
        raise TypeError(
            f"{name} has the dtype {labels.dtype}, {expected}: "
            f"classes, {name} = np.unique({name}, return_inverse=True) numbers them"
        )
    wrong = ~np.isfinite(labels)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{name} holds {labels[row]} in row {row}, {expected}: drop such rows")
    if (labels == np.floor(labels)).all():
        way_out = f"pass {name}.astype(np.int64)"
    else:
        way_out = "for values rather than classes use loss='mean_squared_error'"
    raise TypeError(f"{name} has the dtype {labels.dtype}, {expected}: {way_out}")


_CLASSES: dict[str, type[Loss]] = {
    cls.name: cls
    for cls in (
        SoftmaxCrossEntropy,
        BinaryCrossEntropy,
        MulticlassHinge,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
    )
}


def get(loss: Any, config: dict[str, Any] | None = None) -> Loss:
    """The loss meant by a name or an object.

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        Neither a name nor a `Loss`.

    Examples
    --------
    >>> get("mean_squared_error")
    MeanSquaredError()
    """
    if isinstance(loss, str):
        if loss not in _CLASSES:
            raise ValueError(f"unknown loss {loss!r}; there are {', '.join(_CLASSES)}")
        return _CLASSES[loss](**(config or {}))
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss()
    missing = [
        name
        for name in ("name", "kind", "prepare_targets", "forward_backward")
        if not hasattr(loss, name)
    ]
    if missing:
        raise TypeError(
            f"loss is {loss!r}; expected one of {', '.join(_CLASSES)}, or an object with name, "
            "kind, prepare_targets and forward_backward (fastnn.losses.Loss)"
        )
    return loss
