"""`fastnn experiment`: classic experiments on training, repeated."""

from __future__ import annotations

import argparse
from importlib import import_module

from fastnn.experiments import EXPERIMENTS

HELP = "repeat a classic experiment and print its tables"

DESCRIPTION = """\
Repeat a classic experiment on the training of neural networks and print its tables, beside the
published figures.

examples:
  fastnn experiment init
  fastnn experiment init --seeds 1 --plot activations.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each experiment."""
    experiments = parser.add_subparsers(metavar="NAME", required=True)
    for name in EXPERIMENTS:
        module = import_module(f"fastnn.experiments.{name}")
        experiment = experiments.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(experiment)
        experiment.set_defaults(experiment=module.run)


def run(arguments: argparse.Namespace) -> int:
    """Run the experiment that was named."""
    return int(arguments.experiment(arguments))
