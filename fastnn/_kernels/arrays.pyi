"""How arrays come into the kernels; what is in here is for the other compiled modules."""

from typing import final

@final
class Arrays:
    @property
    def itemsize(self) -> int: ...
