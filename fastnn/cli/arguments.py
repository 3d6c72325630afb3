"""Types of command-line arguments, each with an error that says what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(minimum: int) -> Callable[[str], int]:
    """A whole number of at least `minimum`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {minimum}, got {text!r}"
            )
        return value

    return convert


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Callable[[str], float]:
    """A finite number from `low` (without it where `open_low`) to below `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value if open_low else low <= value) or not value < high:
            start = f"above {low:g}" if open_low else f"of at least {low:g}"
            end = f" and below {high:g}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"expected a number {start}{end}, got {text!r}")
        return value

    return convert


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def widths(text: str) -> list[int]:
    """The units of hidden layers, with commas between them; `none` for no hidden layer."""
    if text.strip().lower() == "none":
        return []
    try:
        units = [int(part) for part in text.split(",")]
    except ValueError:
        units = [0]
    if min(units) < 1:
        raise argparse.ArgumentTypeError(
            f"expected the units of each hidden layer, such as 64,64 (or none), got {text!r}"
        )
    return units


def image_shape(text: str) -> tuple[int, ...]:
    """Height and width of an image, with 3 before or after them where it has colours."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    colours = len(shape) == 3 and 3 in (shape[0], shape[2])
    if not (len(shape) == 2 or colours) or min(shape) < 1:
        raise argparse.ArgumentTypeError(
            f"expected height,width or height,width,3 or 3,height,width, such as 28,28, got {text!r}"
        )
    return shape
