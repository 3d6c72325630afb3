"""Classic experiments, which `fastnn experiment NAME` repeats.

Each experiment is a module of this package with four things: `HELP` (one line), `DESCRIPTION` (what
``fastnn experiment NAME --help`` says), `add_arguments(parser)` and `run(arguments) -> int`, beside
functions that return what `run` prints. A new one is a new file and its name in `EXPERIMENTS`. The
modules are imported for every call of ``fastnn``, so they import what is heavy inside functions.
"""

EXPERIMENTS = ("init",)
