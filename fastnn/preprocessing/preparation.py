"""All that lies between a user's data and a network: the inputs' side and the target's."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from fastnn.preprocessing.base import Arrays, Preprocessor, from_state
from fastnn.preprocessing.target import TargetEncoder


class Preparation(Preprocessor):
    """A preprocessor of the inputs together with the encoder of the target.

    Parameters
    ----------
    inputs : Preprocessor
        `Standardize`, `Center`, `TableEncoder`, …
    target : TargetEncoder

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.preprocessing import Standardize
    >>> ready = Preparation(Standardize(), TargetEncoder())
    >>> _ = ready.inputs.fit(np.array([[1.0], [3.0]])), ready.target.fit(["no", "yes"])
    >>> ready.transform(np.array([[3.0]])), ready.target.transform(["yes"])
    (array([[1.]], dtype=float32), array([1]))
    """

    kind = "preparation"

    def __init__(self, inputs: Preprocessor, target: TargetEncoder) -> None:
        self.inputs = inputs
        self.target = target

    def fit(self, data: Any) -> Self:
        """Fit both on a pair (inputs, targets) of the training rows."""
        inputs, targets = data
        self.inputs.fit(inputs)
        self.target.fit(targets)
        return self

    def transform(self, data: Any) -> np.ndarray:
        """The inputs as the network takes them."""
        return self.inputs.transform(data)

    def get_config(self) -> dict[str, Any]:
        return {
            side: {"kind": part.kind, "config": part.get_config()} for side, part in self._sides()
        }

    def get_arrays(self) -> Arrays:
        return {
            f"{side}.{name}": array
            for side, part in self._sides()
            for name, array in part.get_arrays().items()
        }

    def _sides(self) -> list[tuple[str, Preprocessor]]:
        return [("inputs", self.inputs), ("target", self.target)]

    @classmethod
    def _restore(cls, config: dict[str, Any], arrays: Arrays) -> Self:
        def side(name: str) -> Any:
            own = {
                key.removeprefix(f"{name}."): array
                for key, array in arrays.items()
                if key.startswith(f"{name}.")
            }
            return from_state(config[name]["kind"], config[name]["config"], own)

        return cls(side("inputs"), side("target"))
