"""The command `fastnn`.

Each command is a module of this package with four things: `HELP` (one line), `DESCRIPTION` (what
`fastnn COMMAND --help` says, with examples), `add_arguments(parser)` and `run(arguments) -> int`.
A new one is a new file and its name in `COMMANDS`. Their modules are imported for every call of
`fastnn`, so they import what is heavy inside `run`.

Bad input of any kind ends in one line on standard error and exit status 2. The rest of fastnn
raises errors that say what was given, what was expected and what to do; `main` prints them. What a
user cannot cause (an AssertionError, a KeyError, …) keeps its traceback, and FASTNN_TRACEBACK=1
shows every traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from fastnn.preprocessing.columns import unknown

COMMANDS = ("train", "predict", "gradcheck", "experiment", "info", "bench")

BAD_INPUT = (
    ArithmeticError,  # a training run that diverged
    ImportError,  # an extra that is not installed, an unknown FASTNN_ISA
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 128 + 2  # as the shell counts a death by SIGINT


class UsageError(ValueError):
    """Arguments that do not fit the command."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here what is left over: the parser above does not know a command's options."""
        parsed, left = super().parse_known_args(args, namespace)
        if left and left[0].startswith("-"):
            names = [name for action in self._actions for name in action.option_strings]
            known = [name for name in names if name.startswith("--")]
            self.error(unknown("option", left[0].partition("=")[0], known))
        if left:
            self.error(f"one argument too many: {left[0]!r}")
        return parsed, left


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        0 if all went well, 2 for bad input, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = f"fastnn {arguments[0]}" if arguments and arguments[0] in COMMANDS else "fastnn"
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            status = _run(arguments)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        _print_line(f"{name}: interrupted{_details(interrupt)}")
        return EXIT_INTERRUPTED
    except BAD_INPUT as error:
        if os.environ.get("FASTNN_TRACEBACK"):
            raise
        _print_line(f"{name}: error: {_message(error)}")
        return EXIT_BAD_INPUT


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else None
    if first is None:
        raise UsageError(f"which command? one of {', '.join(COMMANDS)} (see fastnn --help)")
    if not first.startswith("-") and first not in COMMANDS:
        raise UsageError(f"{unknown('command', first, COMMANDS)} (see fastnn --help)")
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit as exit:  # --help and --version have done their work
        return int(exit.code or 0)
    return int(parsed.run(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastnn",
        description="Train neural networks on this computer's CPU, and use them.",
        epilog="fastnn COMMAND --help tells more about a command, with examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name in COMMANDS:
        module = import_module(f"fastnn.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        import fastnn

        print(f"fastnn {fastnn.__version__}")
        parser.exit()


def _message(error: BaseException) -> str:
    """The text of an error on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error}" if str(error) else "not enough memory"
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


def _details(interrupt: KeyboardInterrupt) -> str:
    return f": {interrupt}" if str(interrupt) else ""


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    _print_line(f"fastnn: warning: {' '.join(str(message).split())}")


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
