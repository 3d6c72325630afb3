"""What fastnn runs on: the instruction set in use, the number of threads, how it was built."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastnn._kernels import machine as _machine
from fastnn._kernels.machine import available_isas, get_num_threads, isa, set_num_threads

__all__ = [
    "available_isas", "get_num_threads", "isa", "set_num_threads", "show_config", "threads",
]  # fmt: skip


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a `with` block.

    Examples
    --------
    >>> before = get_num_threads()
    >>> with threads(1):
    ...     get_num_threads()
    1
    >>> get_num_threads() == before
    True
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def config() -> dict[str, str]:
    """What `show_config` prints, as a mapping.

    Examples
    --------
    >>> config()["instruction set"] in available_isas()
    True
    """
    import numpy

    from fastnn import __version__

    openmp = _machine.openmp()
    return {
        "fastnn": __version__,
        "instruction set": isa(),
        "available": ", ".join(available_isas()),
        "threads": str(get_num_threads()),
        "OpenMP": str(openmp) if openmp else "no (one thread)",
        "compiler": _machine.compiler(),
        "NumPy": numpy.__version__,
        "Python": f"{platform.python_version()} on {platform.machine()} {sys.platform}",
    }


def show_config() -> None:
    """Print version, instruction set, threads and compiler.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastnn ...
    """
    entries = config()
    width = max(map(len, entries))
    for key, value in entries.items():
        print(f"{key:<{width}}  {value}")
