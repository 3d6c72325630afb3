"""Gradient checking: a gradient computed by hand against centred differences of its function.

- `entry`: `gradcheck`, what people call as `fastnn.gradcheck`;
- `networks`: the loss of a model as a function of its parameters, and what `backward` says;
- `functions`: the same for a function and a gradient of the user's own;
- `differences`: centred differences, how exact they are, and what to make of those that disagree;
- `report`: the answer.
"""

from fastnn.gradient_check.entry import gradcheck
from fastnn.gradient_check.report import Element, GradientReport, Kink

__all__ = ["Element", "GradientReport", "Kink", "gradcheck"]
