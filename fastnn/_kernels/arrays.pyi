"""How arrays come into the kernels; what is in here is for the other compiled modules."""

from typing import Any, Literal, final

from fastnn.checks import Array

class Fit:
    def __init__(self, signature: str) -> None: ...
    def outputs(self, *arrays: Array | Literal[False] | None) -> tuple[Any, ...] | None: ...

@final
class Arrays:
    @property
    def itemsize(self) -> int: ...
