"""How the arguments of a public operation come in; for the other compiled modules."""

from typing import Any, Literal, final

from fastnn.checks import Array

@final
class Taken: ...

@final
class Fit:
    def __init__(self, signature: str) -> None: ...
    def outputs(
        self, *given: Array | Literal[False] | None, number: int = 0
    ) -> tuple[Any, ...] | None: ...

def read_heads(on: bool = True) -> bool: ...
