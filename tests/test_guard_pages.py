"""No kernel reads or writes beyond its arrays: each is run against forbidden pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's mprotect")
def test_nothing_beyond_an_array_is_touched(isa: str) -> None:
    script = Path(__file__).with_name("guard_pages.py")
    command = [sys.executable, script, isa]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{isa}: ended at {last}\n{done.stderr[-2000:]}"
