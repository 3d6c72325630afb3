"""`fastnn gradcheck`: the gradients of a saved model against centred differences."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastnn.cli.arguments import number, whole

if TYPE_CHECKING:
    import numpy as np

    from fastnn.losses import Loss

HELP = "check the gradients of a saved model against centred differences"

DESCRIPTION = """\
Compute the gradient of MODEL's loss twice, by backward and by centred differences in float64, and
compare them for all parameters. Exit status 0 where they agree, 1 where not: then the elements that
differ are named, with both values.

The rows are random ones, or the first of DATA: digits, an .npz with X and y, or the table that the
model was trained on. A model that fastnn train wrote prepares them as in training.

examples:
  fastnn gradcheck runs/digits/model.safetensors
  fastnn gradcheck runs/digits/model.safetensors digits --rows 50
  fastnn gradcheck big.safetensors --samples 2000 --seed 1
  fastnn gradcheck mine.safetensors --layers mylayers.py"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model file of fastnn train or model.save")
    add("data", metavar="DATA", nargs="?", help="rows to check with (default: random ones)")
    add("--rows", metavar="N", type=whole(1), default=32, help="how many (default 32)")
    add("--loss", metavar="NAME", help="instead of the model's own")
    add(
        "--samples",
        metavar="N",
        type=whole(1),
        help="check so many parameters, drawn with --seed (default: all up to 200,000, 10,000 of more)",
    )
    add("--seed", metavar="N", type=whole(0), default=0, help="of the sample and the random rows")
    add("--step", metavar="H", type=number(0, open_low=True), help="of the differences")
    add(
        "--tolerance",
        metavar="X",
        type=number(0, open_low=True),
        default=1e-7,
        help="largest relative error (default 1e-7)",
    )
    add(
        "--inference",
        action="store_true",
        help="the network as it predicts: running statistics in batch norm, no dropout",
    )
    add("--layers", metavar="FILE.py", help="run this file for layers of your own that MODEL has")
    add("--threads", metavar="N", type=whole(1), help="default: what the process may use")


def run(arguments: argparse.Namespace) -> int:
    """Check as the command line says; 0 where it passed, 1 where not."""
    import fastnn
    from fastnn import losses

    if arguments.threads is not None:
        fastnn.set_num_threads(arguments.threads)
    model = fastnn.load(arguments.model, layers=_own_layers(arguments.layers))
    loss = losses.get(arguments.loss or model.loss or "softmax_cross_entropy")
    if arguments.data is None:
        x, y = random_batch(model, loss, arguments.rows, arguments.seed)
    else:
        x, y = _batch(model, arguments.data, arguments.rows)
    report = fastnn.gradcheck(
        model,
        x,
        y,
        loss=loss,
        samples=arguments.samples,
        seed=arguments.seed,
        step=arguments.step,
        tolerance=arguments.tolerance,
        training=not arguments.inference,
    )
    print(report)
    return 0 if report else 1


def random_batch(model: Any, loss: Loss, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal inputs, and targets that the loss can take."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, *model.input_shape))
    if loss.name == "binary_cross_entropy":
        return x, rng.integers(0, 2, (rows, *model.output_shape)).astype(np.float64)
    if loss.kind == "classification":
        return x, rng.integers(0, model.output_shape[0], rows)
    return x, rng.standard_normal((rows, *model.output_shape))


def _batch(model: Any, source: str, rows: int) -> tuple[Any, Any]:
    """The first rows of the data, prepared as in training."""
    from fastnn.cli.data import load_training
    from fastnn.preprocessing import Preparation

    preparation = model.preprocessing if isinstance(model.preprocessing, Preparation) else None
    target = preparation.target if preparation else None
    data = load_training(
        source,
        target=target.name if target and source.endswith((".csv", ".parquet")) else None,
        drop=[],
        test_fraction=None,
        task=(target.task if target else None) or "auto",
        impute=True,
    )
    X, y = data.X_train, data.y_train[:rows]
    X = {name: column[:rows] for name, column in X.items()} if isinstance(X, dict) else X[:rows]
    if preparation is not None:
        return preparation.transform(X), preparation.target.transform(y)
    return X if model.preprocessing is None else model.preprocessing.transform(X), y


def _own_layers(path: str | None) -> dict[str, Any]:
    """The classes of layers that a Python file of the user's defines."""
    if path is None:
        return {}
    import runpy

    from fastnn.layers import Layer

    try:
        names = runpy.run_path(path)
    except OSError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    found = {
        name: value
        for name, value in names.items()
        if isinstance(value, type) and issubclass(value, Layer) and value is not Layer
    }
    if not found:
        raise ValueError(f"{path} defines no class of layers (class Mine(fastnn.Layer))")
    return found
