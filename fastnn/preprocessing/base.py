"""What every preprocessor can do, and how one comes back from a model file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

Arrays = dict[str, np.ndarray]


class Preprocessor(ABC):
    """Fitted on the training data, applied to all data, stored with the model.

    A subclass names its `kind` (the word that stands for it in a model file) and is thereby known
    to `from_state`. Its state is a configuration that JSON can hold and named arrays.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Preprocessor]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            Preprocessor._kinds[cls.kind] = cls

    @abstractmethod
    def fit(self, data: Any) -> Self:
        """Learn from the training data; returns self."""

    @abstractmethod
    def transform(self, data: Any) -> np.ndarray:
        """The data as the network takes it, always a new array."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """All of the state that JSON can hold."""

    @abstractmethod
    def get_arrays(self) -> Arrays:
        """All of the state that is arrays, by name."""

    @classmethod
    @abstractmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        """The inverse of `get_config` and `get_arrays`."""


def from_state(kind: str, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """Rebuild a preprocessor from its `kind`, `get_config()` and `get_arrays()`.

    Raises
    ------
    ValueError
        The kind is unknown or the state incomplete: the file was written by a newer fastnn, by
        other code, or was damaged.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.preprocessing import Standardize
    >>> old = Standardize().fit(np.array([[1.0], [3.0]]))
    >>> new = from_state(old.kind, old.get_config(), old.get_arrays())
    >>> new.transform(np.array([[5.0]]))
    array([[3.]], dtype=float32)
    """
    cls = Preprocessor._kinds.get(kind)
    if cls is None:
        raise ValueError(
            f"unknown preprocessing {kind!r}; this fastnn knows {', '.join(Preprocessor._kinds)}"
        )
    try:
        return cls._restore(dict(config), dict(arrays))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the state of the preprocessing {kind!r} is damaged: {error!r}") from None


def require_fitted(preprocessor: Preprocessor, state: object) -> None:
    """Raise RuntimeError where `state`, which only `fit` sets, is still None."""
    if state is None:
        name = type(preprocessor).__name__
        raise RuntimeError(f"this {name} has not seen data yet: call fit(training_data) first")
