"""Pieces of Python run in a process of their own, for what is decided once per process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import fastnn

# What the outside may have set, and what a test of it must not inherit.
OURS = ("FASTNN_ISA", "FASTNN_NUM_THREADS", "OMP_NUM_THREADS")


def inherited() -> dict[str, str]:
    """The environment without what decides how fastnn runs, and with the fastnn under test."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    folders = [str(Path(fastnn.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def python(*arguments: str, timeout: float = 120, **environment: str) -> Any:
    """`python …` with these variables set and this same fastnn; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**inherited(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def printed(code: str, **environment: str) -> str:
    """What a piece of code prints; it must end well."""
    done = python("-c", textwrap.dedent(code), **environment)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()
