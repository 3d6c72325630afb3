"""Fixtures shared by the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Ctrl-C as in a terminal: what runs in the background of a script is started to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `isa` runs once for every instruction set this machine supports."""
    if "isa" in metafunc.fixturenames:
        machine = pytest.importorskip("fastnn._kernels.machine", exc_type=ImportError)
        metafunc.parametrize("isa", machine.available_isas(), indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Kernels of one instruction set; what was chosen before comes back."""
    from fastnn._kernels import machine

    before = machine.isa()
    machine.use_isa(request.param)
    yield request.param
    machine.use_isa(before)


@pytest.fixture
def thread_count() -> Iterator[None]:
    """Whatever a test sets with `set_num_threads` is undone after it."""
    from fastnn._kernels import machine

    before = machine.get_num_threads()
    yield
    machine.set_num_threads(before)
