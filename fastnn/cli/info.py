"""`fastnn info`: what runs here."""

from __future__ import annotations

import argparse

HELP = "print version, instruction set, threads and compiler"

DESCRIPTION = """\
Print the version, the instruction set in use and those this machine can run, the number of threads
and the compiler of the kernels.

examples:
  fastnn info
  FASTNN_ISA=avx2 fastnn info
  FASTNN_NUM_THREADS=1 fastnn info"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print `fastnn.show_config()`."""
    import fastnn

    fastnn.show_config()
    return 0
