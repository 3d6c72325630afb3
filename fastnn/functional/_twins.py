"""What an operation takes and returns is written down once, at its NumPy twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastnn import reference

Function = TypeVar("Function", bound=Callable[..., Any])


def documented(function: Function) -> Function:
    """Give an operation the documentation of its twin in `fastnn.reference`."""
    function.__doc__ = getattr(reference, function.__name__).__doc__
    return function
