"""`fastnn predict`: the answers of a trained model for the rows of a file."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from fastnn.cli.data import keep_inputs, load_inputs
from fastnn.files import replacing

HELP = "predict with a trained model, as CSV"

DESCRIPTION = """\
Write one line of CSV for each row of FILE: the predicted class by the name it had in the training
data, or the predicted number. The preprocessing of the training is inside MODEL and is applied.

FILE is what the model was trained on: a .csv or .parquet table with the same column names (others
are ignored, the target may be there or not), an .npz with X (or X_test), or digits (the rows that
training left out). A text that a column of the training data never had counts as none of its known
ones, with a warning.

examples:
  fastnn predict run/model.safetensors passengers.csv
  fastnn predict run/model.safetensors passengers.csv --proba --out predictions.csv
  fastnn predict run/model.safetensors digits | head"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.add_argument("model", metavar="MODEL", help="a model file of fastnn train or model.save")
    parser.add_argument("file", metavar="FILE", help="the rows to predict from")
    parser.add_argument("--out", metavar="FILE", help="write there instead of standard output")
    parser.add_argument(
        "--proba", action="store_true", help="add a column with the probability of each class"
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict as the command line says."""
    import fastnn
    from fastnn.preprocessing import Preparation
    from fastnn.preprocessing.arrays import check_finite

    if arguments.out is not None:
        keep_inputs([arguments.model, arguments.file], [Path(arguments.out)])
    model = fastnn.load(arguments.model)
    preprocessing = model.preprocessing
    data = load_inputs(arguments.file, preprocessing)
    X = check_finite(data) if preprocessing is None else preprocessing.transform(data)
    target = preprocessing.target if isinstance(preprocessing, Preparation) else None
    header, rows = _answers(model, target, X, arguments.proba)
    if arguments.out is None:
        _write(sys.stdout, header, rows)
    else:
        with replacing(arguments.out, "w", newline="", encoding="utf-8") as file:
            _write(file, header, rows)
    return 0


def _answers(
    model: Any, target: Any, X: Any, proba: bool
) -> tuple[list[str], Iterable[Sequence[Any]]]:
    """The line of names and the lines of values."""
    if model.kind == "classification":
        if not proba:
            labels = model.predict(X)
            values = labels if target is None else target.decode(labels)
            return ["prediction"], ([value] for value in values.tolist())
        shares = model.predict_proba(X)
        labels = shares.argmax(axis=1)
        values = labels if target is None else target.decode(labels)
        classes = range(shares.shape[1]) if target is None else target.classes
        # As text: str of a float32 is as short as tells it from its neighbours.
        return (
            ["prediction", *(f"p({name})" for name in classes)],
            ([value, *map(str, row)] for value, row in zip(values.tolist(), shares, strict=True)),
        )
    if proba:
        raise ValueError("--proba is for classes, this model predicts numbers")
    numbers = model.predict(X)
    if target is not None:
        numbers = target.decode(numbers).astype(numbers.dtype)
    several = numbers.shape[1] > 1
    header = [f"prediction_{i}" for i in range(numbers.shape[1])] if several else ["prediction"]
    return header, (list(map(str, row)) for row in numbers)


def _write(file: IO[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
