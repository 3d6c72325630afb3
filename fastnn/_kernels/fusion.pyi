"""Batch norm between two dense layers, without passes over memory of its own."""

from fastnn._kernels.program import Finish, Program, Source
from fastnn.checks import Array, Parsed

class FusedNorm:
    def __init__(
        self,
        p: Program,
        z: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        activation: Parsed,
        mean: Array,
        rstd: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> None: ...
    def statistics(self) -> Finish: ...
    def add_merge(self, name: str) -> None: ...
    def output(self) -> Source: ...
    def add_output(self, name: str, y: Array) -> None: ...
    def gradient_sums(self, dy: Array) -> Finish: ...
    def add_gradient_merge(self, name: str) -> None: ...
    def gradient(self) -> Source: ...
    def add_gradient(self, name: str) -> None: ...
