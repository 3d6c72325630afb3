"""Losses as objects: what the targets must look like, and loss and gradient in one call."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from . import functional
from .inputs import as_floats, check_finite

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

    def forward_backward(self, out: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean loss of a batch and its gradient with respect to `out`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_backward")

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
    """−log softmax(out)[label], averaged over the batch; labels are integers 0 … C−1, (N,).

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = SoftmaxCrossEntropy().forward_backward(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4)
    1.3863
    """

    name = "softmax_cross_entropy"
    kind = "classification"

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
        if len(output_shape) != 1:
            raise ValueError(
                f"{self.name} needs one score per class and row, "
                f"but the model's output for one row has the shape {output_shape}"
            )
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
        classes = output_shape[0]
        labels = np.ascontiguousarray(labels, dtype=np.int64)
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

    def forward_backward(self, out: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        return functional.softmax_cross_entropy(out, target)


class MeanSquaredError(Loss):
    """(out − target)², averaged over all elements; targets (N, H), or (N,) where H is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dout = MeanSquaredError().forward_backward(np.array([[3.0]]), np.array([[1.0]]))
    >>> loss, dout.tolist()
    (4.0, [[4.0]])
    """

    name = "mean_squared_error"
    kind = "regression"

    def prepare_targets(
        self, y: Any, n_rows: int, output_shape: Shape, dtype: np.dtype[Any], name: str = "y"
    ) -> np.ndarray:
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

    def forward_backward(self, out: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        return functional.mean_squared_error(out, target)


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


_CLASSES: dict[str, type[Loss]] = {cls.name: cls for cls in (SoftmaxCrossEntropy, MeanSquaredError)}


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
