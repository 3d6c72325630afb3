"""What a network predicts: classes by name, or numbers."""

from __future__ import annotations

from typing import Any, Literal, Self, cast

import numpy as np

from fastnn.preprocessing.base import Arrays, Preprocessor, require_fitted
from fastnn.preprocessing.columns import is_numeric, missing, to_numbers, to_texts

Task = Literal["classification", "regression"]
# Whole numbers of at most so many values are class labels, and so many rows make a class.
FEW = 20

TASKS = ("auto", "classification", "regression")


class TargetEncoder(Preprocessor):
    """Targets for a loss, and a network's outputs as answers in the words of the data.

    Classification: the classes are the different values (texts, or whole numbers) in sorted order,
    and the target of a row is the place of its class. Regression: the target is standardised, so
    that its unit decides neither the learning rate nor the size of the loss (a loss of 1 is that
    of always answering the mean); `decode` turns outputs back into the unit.

    Parameters
    ----------
    task : {"auto", "classification", "regression"}
        "auto" takes other numbers than class labels for a regression. Class labels are texts,
        booleans, whole numbers of at most 20 different values, and the whole numbers from 0 to
        C-1 if all of them occur, on average in at least 20 rows.
    name : str
        What errors call the target.

    Examples
    --------
    >>> import numpy as np
    >>> target = TargetEncoder().fit(["dog", "cat", "dog"])
    >>> target.task, target.transform(["cat", "dog"])
    ('classification', array([0, 1]))
    >>> target.decode(np.array([1, 1, 0])).tolist()
    ['dog', 'dog', 'cat']
    """

    kind = "target"

    def __init__(self, task: str = "auto", name: str = "y") -> None:
        if task not in TASKS:
            raise ValueError(f"the task is {task!r}, expected one of {', '.join(TASKS)}")
        self.requested = task
        self.name = name
        self.task: Task | None = None
        self.classes: list[str] | list[int] = []
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None

    def fit(self, data: Any) -> Self:
        """Learn the task, the classes or the scale from the training targets.

        Parameters
        ----------
        data : (N,) sequence of texts, booleans or numbers; (N, K) numbers for a regression

        Raises
        ------
        ValueError
            Values are missing or not finite, texts are to be a regression, fractional numbers
            classes, or there is only one class.
        """
        values = self._values(data)
        numeric = values.dtype.kind == "f"
        whole = numeric and values.ndim == 1 and bool((values == np.round(values)).all())
        task = self.requested
        if task == "auto":
            labels = not numeric or (whole and _look_like_labels(values))
            task = "classification" if labels else "regression"
        if task == "regression":
            if not numeric:
                raise ValueError(
                    f"the target {self.name!r} holds texts such as {values[0]!r}, a regression "
                    "needs numbers; choose another target or the task classification"
                )
            columns = values.reshape(len(values), -1)
            self.mean = columns.mean(axis=0)
            std = columns.std(axis=0)
            # A constant target is learnt as 0 with any scale; 1 keeps the way back finite.
            self.std = np.where(columns.min(axis=0) == columns.max(axis=0), 1.0, std)
        else:
            if values.ndim != 1:
                raise ValueError(
                    f"the target {self.name!r} has the shape {values.shape}, class labels are "
                    "(rows,); of one-hot rows take argmax(axis=1)"
                )
            if numeric and not whole:
                first = values[values != np.round(values)][0]
                raise ValueError(
                    f"the target {self.name!r} holds fractional numbers such as {first}, classes "
                    "are texts or whole numbers; use the task regression"
                )
            found = sorted({int(value) if numeric else value for value in values.tolist()})
            if len(found) < 2:
                raise ValueError(
                    f"the target {self.name!r} has a single class, {found[0]!r}: "
                    "there is nothing to tell apart"
                )
            self.classes = found
        self.task = cast(Task, task)
        return self

    def transform(self, data: Any) -> np.ndarray:
        """The targets of a loss: (N,) int64 labels, or (N, K) standardised float64 numbers.

        Raises
        ------
        RuntimeError
            Before `fit`.
        ValueError
            As in `fit`; also for a class that the training data did not have.
        """
        require_fitted(self, self.task)
        values = self._values(data)
        if self.task == "regression":
            if values.dtype.kind != "f":
                raise ValueError(f"the target {self.name!r} holds texts, expected numbers")
            assert self.mean is not None and self.std is not None
            columns = values.reshape(len(values), -1)
            if columns.shape[1] != len(self.mean):
                raise ValueError(
                    f"the target {self.name!r} has {columns.shape[1]} columns, "
                    f"expected {len(self.mean)}"
                )
            return (columns - self.mean) / self.std
        index: dict[Any, int] = {value: label for label, value in enumerate(self.classes)}
        try:
            # A float key finds the equal whole number, as 1.0 == 1 and their hashes are equal.
            return np.array([index[value] for value in values.tolist()], np.int64)
        except (KeyError, TypeError):
            row, value = next((r, v) for r, v in enumerate(values.tolist()) if v not in index)
            shown = ", ".join(map(str, self.classes[:10])) + ", …" * (len(self.classes) > 10)
            raise ValueError(
                f"the target {self.name!r}, row {row + 1}, is {value!r}, a class that the training "
                f"data do not have; their classes are {shown}"
            ) from None

    def decode(self, outputs: Any) -> np.ndarray:
        """Answers in the words of the data.

        Parameters
        ----------
        outputs : (N,) int array of classes, or (N, K) float array of a regression's outputs

        Returns
        -------
        ndarray
            (N,) class values (object array of str, or int64), or (N, K) float64 numbers.
        """
        require_fitted(self, self.task)
        if self.task == "regression":
            assert self.mean is not None and self.std is not None
            rows = np.asarray(outputs, np.float64).reshape(-1, len(self.mean))
            return rows * self.std + self.mean
        text = isinstance(self.classes[0], str)
        return np.array(self.classes, object if text else np.int64)[np.asarray(outputs)]

    @property
    def outputs(self) -> int:
        """How many outputs the network needs: the number of classes, or of numbers."""
        require_fitted(self, self.task)
        if self.task == "classification":
            return len(self.classes)
        assert self.mean is not None
        return len(self.mean)

    def _values(self, data: Any) -> np.ndarray:
        """Finite float64 numbers, or texts; nothing missing."""
        values = np.asarray(data)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim not in (1, 2) or not values.size:
            raise ValueError(
                f"the target {self.name!r} has the shape {values.shape}, expected (rows,) or "
                "(rows, numbers), not empty"
            )
        if values.ndim == 2:
            if values.dtype.kind not in "iuf":
                raise ValueError(
                    f"the target {self.name!r} of the shape {values.shape} holds {values.dtype} "
                    "values, expected numbers"
                )
            values = values.astype(np.float64)
            absent = ~np.isfinite(values).all(axis=1)
        else:
            numeric = is_numeric(values, self.name)
            values = to_numbers(values, self.name) if numeric else to_texts(values)
            absent = missing(values)
        if absent.any():
            raise ValueError(
                f"the target {self.name!r} has no usable value in {np.count_nonzero(absent)} of "
                f"{len(values)} rows, first in row {int(np.argmax(absent)) + 1}: "
                "fill in or remove these rows"
            )
        return values

    def get_config(self) -> dict[str, Any]:
        require_fitted(self, self.task)
        return {"task": self.task, "name": self.name, "classes": self.classes}

    def get_arrays(self) -> Arrays:
        if self.mean is None or self.std is None:
            return {}
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        new = cls(config["task"], config["name"])
        new.task, new.classes = config["task"], config["classes"]
        if new.task == "regression":
            new.mean, new.std = arrays["mean"], arrays["std"]
        return new


def _look_like_labels(whole: np.ndarray) -> bool:
    distinct = len(np.unique(whole))
    counted = whole.min() == 0 and whole.max() == distinct - 1
    return distinct <= FEW or (counted and len(whole) >= FEW * distinct)
