"""`fastnn train`: a multi-layer perceptron from a file, with its record and its picture."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli import report
from fastnn.cli.arguments import image_shape, names, number, whole, widths
from fastnn.cli.data import DIGITS, is_table, keep_inputs, load_training
from fastnn.files import writable_folder
from fastnn.progress import write_line

if TYPE_CHECKING:
    from fastnn.datasets import Dataset
    from fastnn.optimizers import Optimizer
    from fastnn.preprocessing import Preparation

HELP = "train a network on digits, an .npz, a .csv or a .parquet file"

DESCRIPTION = """\
Train a multi-layer perceptron and print, epoch by epoch, the loss, the accuracy on the training
and the test rows and the speed.

DATA is one of
  digits      the 1,797 handwritten digits that come with scikit-learn
  FILE.npz    arrays X and y, or X_train, y_train, X_test and y_test; images are flattened
  FILE.csv, FILE.parquet
              a table; --target names the column to predict, the others are the inputs: numbers
              are standardised, texts become one indicator (0 or 1) per value

examples:
  fastnn train digits --out run
  fastnn train mnist.npz --out run --epochs 10
  fastnn train cifar10.npz --hidden 512,256 --epochs 20 --lr 0.05
  fastnn train titanic.csv --target survived --drop name,ticket --impute --out run
  fastnn train houses.parquet --target price --task regression
  fastnn train digits --report run.html

In DIR, --out leaves model.safetensors (for fastnn predict and fastnn.load, with the preprocessing
inside), history.csv (one row per epoch) and curves.png. --report writes one HTML page that needs
nothing but itself: curves, what the diagnosis found, confusion matrix (or predicted against true
values), first-layer weights of images, updates and gradients. Without either nothing is written.

A regression standardises its target: a loss of 1 is that of always answering the mean."""

SCHEDULES = (
    "cosine",
    "constant",
    "step",
    "exponential",
    "inverse-time",
    "one-cycle",
    "plateau",
)

SCALINGS = ("center", "standardize", "minmax", "whiten", "zca")

ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh")

MODEL, HISTORY, CURVES = "model.safetensors", "history.csv", "curves.png"


@dataclass(frozen=True)
class Defaults:
    """What is taken where the command line says nothing."""

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float


#: Rate and weight decay where --optimizer is not sgd, whose are in DEFAULTS: their steps are about as long as
#: the rate says, whatever the size of the gradient.
ADAPTIVE = {
    "adagrad": (0.02, 0.0),
    "rmsprop": (0.002, 0.0),
    "adam": (0.003, 0.0),
    "adamw": (0.003, 0.01),
}

DEFAULTS = {
    "digits": Defaults((128, 128), epochs=15, batch_size=64, lr=0.1, weight_decay=3e-3),
    "array": Defaults((256, 128), epochs=10, batch_size=64, lr=0.1, weight_decay=3e-3),
    "table": Defaults((64, 64), epochs=30, batch_size=32, lr=0.02, weight_decay=1e-3),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    add = parser.add_argument
    add("data", metavar="DATA", help="digits, or an .npz, .csv or .parquet file")
    add("--out", metavar="DIR", help="write model, history and picture there")
    add(
        "--report",
        metavar="PAGE.html",
        nargs="?",
        const="",
        help=f"write the run as an HTML page; without a name {report.REPORT} in the DIR of --out",
    )
    add(
        "--image-shape",
        metavar="H,W",
        type=image_shape,
        help="of the rows, to show first-layer weights as images in the report (28,28; 32,32,3 or "
        "3,32,32 with colours); default: as the .npz stores them, or a square of bytes",
    )

    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--target", metavar="COLUMN", help="the column of a table to predict")
    add("--drop", metavar="A,B", type=names, default=[], help="columns of a table to leave out")
    add(
        "--impute",
        action="store_true",
        help="fill missing values with the column's mean or most frequent text",
    )
    add(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="auto: texts and few whole numbers are classes",
    )
    add(
        "--scaling",
        choices=("auto", *SCALINGS),
        default="auto",
        help="of an .npz: auto centres where all columns share their unit (whole numbers, or all "
        "from 0 to 1, such as pixels): it takes the mean image off, in units of the common range; "
        "otherwise it standardises each column. whiten: principal components of unit variance; "
        "zca: the same, turned back to the columns",
    )
    add(
        "--test-fraction",
        metavar="F",
        type=number(0, 1),
        help="share of the rows to test on, where DATA has no test rows of its own (default 0.2; "
        "0 for none); the choice does not depend on --seed",
    )

    network = parser.add_argument_group("network")
    add = network.add_argument
    add(
        "--hidden",
        metavar="N,N",
        type=widths,
        help=f"units per hidden layer, or none; {_default('hidden')}",
    )
    add("--activation", choices=ACTIVATIONS, default="relu", help="default relu")
    add("--no-batchnorm", action="store_true", help="without batch norm before the activations")
    add("--dtype", choices=("float32", "float64"), default="float32", help="default float32")

    training = parser.add_argument_group("training")
    add = training.add_argument
    add("--epochs", metavar="N", type=whole(1), help=_default("epochs"))
    add("--batch-size", metavar="N", type=whole(1), help=_default("batch_size"))
    add("--optimizer", choices=("sgd", *ADAPTIVE), default="sgd", help="default sgd")
    rates = ", ".join(f"{name} {lr:g}" for name, (lr, _) in ADAPTIVE.items())
    add(
        "--lr",
        metavar="X",
        type=number(0, open_low=True),
        help=f"learning rate; for sgd {_default('lr')}; {rates}",
    )
    add(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        help="the learning rate falls to 0 along a half cosine (default); stays; falls to a tenth after "
        "each third (step), to a hundredth in all (exponential, inverse-time); rises and falls "
        "(one-cycle); or is lowered where the loss stops falling (plateau)",
    )
    add("--warm-up", metavar="N", type=whole(0), default=0, help="epochs of rising rates first")
    add(
        "--early-stopping",
        metavar="N",
        type=whole(1),
        help="stop after N epochs without a lower test loss (without test rows: training loss), and "
        "keep the weights of the best one",
    )
    add(
        "--diagnose",
        action="store_true",
        help="print findings as they appear: what goes wrong, why, and what to try",
    )
    add("--momentum", metavar="X", type=number(0, 1), help="of sgd (default 0.9) and rmsprop (0)")
    add(
        "--clip-norm",
        metavar="X",
        type=number(0, open_low=True),
        help="scale gradients down to this norm over all parameters; default: as they are",
    )
    add("--weight-decay", metavar="X", type=number(0), help=_default("weight_decay"))
    add("--seed", metavar="N", type=whole(0), default=0, help="of weights and order; default 0")
    add("--threads", metavar="N", type=whole(1), help="default: what the process may use")
    add("--quiet", action="store_true", help="print the last lines only")


def _default(name: str) -> str:
    """What the help says about a setting of `DEFAULTS`."""
    values = [getattr(DEFAULTS[kind], name) for kind in ("digits", "array", "table")]
    texts = [",".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" for v in values]
    if len(set(texts)) == 1:
        return f"default {texts[0]}"
    return "default {} for digits, {} for .npz, {} for tables".format(*texts)


def run(arguments: argparse.Namespace) -> int:
    """Train as the command line says."""
    import fastnn

    if arguments.threads is not None:
        fastnn.set_num_threads(arguments.threads)
    settings = _settings(arguments)
    optimizer = _optimizer(arguments, settings)
    table = is_table(arguments.data)
    data = load_training(
        arguments.data,
        target=arguments.target,
        drop=arguments.drop,
        test_fraction=arguments.test_fraction,
        task=arguments.task,
        impute=arguments.impute,
    )
    preparation = _preparation(arguments, data, table)
    X, y = _prepared(preparation, data.X_train, data.y_train)
    test = None
    if data.y_test is not None:
        test = _prepared(preparation, data.X_test, data.y_test)
    model = _network(arguments, settings, X.shape[1], preparation.target.outputs)
    model.preprocessing = preparation
    out = None if arguments.out is None else _output_folder(arguments.out, arguments.data)
    title = f"{Path(arguments.data).name}: {_shape(model)}"
    described = _describe_data(arguments.data, data, preparation, X.shape[1])
    page = None
    if arguments.report is not None:
        page = report.RunReport(
            report.report_path(arguments.report, arguments.out, arguments.data),
            X,
            y,
            report.images_of(arguments.image_shape, arguments.data, X.shape[1], table),
            title,
            described,
            _facts(arguments, settings),
        )
    elif arguments.image_shape is not None:
        raise ValueError("--image-shape is for the pictures of --report")

    say = (lambda line: None) if arguments.quiet else write_line
    say(described)
    say(_describe_network(model, arguments, settings))
    classifies = preparation.target.task == "classification"
    optimizer.lr = _schedule(arguments, settings, len(X))
    callbacks = _callbacks(arguments, classifies, test is not None)
    if page is not None:
        callbacks.append(page.recorder)
    started = time.perf_counter()
    try:
        history = model.fit(
            X,
            y,
            loss="softmax_cross_entropy" if classifies else "mean_squared_error",
            optimizer=optimizer,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=test,
            callbacks=callbacks,
            verbose=False if arguments.quiet else "auto",
        )
    except fastnn.NonFiniteError as error:
        if page is not None:
            page.write_failure(model, error, "test")
        raise
    seconds = time.perf_counter() - started
    print(_result(model, preparation, data, X, y, test, seconds))
    if out is not None:
        _write(out, model, history, title)
    if page is not None:
        page.write(model, (X, y) if test is None else test, "training" if test is None else "test")
    elif out is None and not arguments.quiet:
        print("nothing written (--out DIR keeps the model, its history and the curves)")
    return 0


def _facts(arguments: argparse.Namespace, settings: Defaults) -> dict[str, object]:
    """How the run was made, for the report."""
    return {
        "data": arguments.data,
        "learning rate": f"{settings.lr:g}, {arguments.schedule}",
        "batch size": settings.batch_size,
        "weight decay": settings.weight_decay,
        "dtype": arguments.dtype,
    }


def _settings(arguments: argparse.Namespace) -> Defaults:
    """The defaults for the kind of data, where the command line does not say otherwise."""
    if arguments.data == DIGITS:
        kind = "digits"
    else:
        kind = "table" if is_table(arguments.data) else "array"
    own = {
        name: tuple(value) if isinstance(value, list) else value
        for name in Defaults.__dataclass_fields__
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.optimizer in ADAPTIVE:
        lr, weight_decay = ADAPTIVE[arguments.optimizer]
        own = {"lr": lr, "weight_decay": weight_decay, **own}
    return Defaults(**{**vars(DEFAULTS[kind]), **own})


def _optimizer(arguments: argparse.Namespace, settings: Defaults) -> Optimizer:
    """The optimizer, at a constant rate."""
    from fastnn import optimizers

    options: dict[str, Any] = {"weight_decay": settings.weight_decay}
    if arguments.clip_norm is not None:
        options["clip_norm"] = arguments.clip_norm
    if arguments.optimizer == "sgd":
        options["momentum"] = 0.9
    if arguments.momentum is not None:
        if arguments.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"--momentum is for sgd and rmsprop, not for {arguments.optimizer}")
        options["momentum"] = arguments.momentum
    kinds = {name.lower(): kind for name, kind in optimizers.KNOWN.items()}
    return kinds[arguments.optimizer](settings.lr, **options)


def _preparation(arguments: argparse.Namespace, data: Dataset, table: bool) -> Preparation:
    """The preprocessing, fitted on the training rows."""
    from fastnn import preprocessing

    options = {"impute": arguments.impute, "dtype": arguments.dtype}
    target = preprocessing.TargetEncoder(arguments.task, arguments.target or "y")
    inputs: Any
    if table:
        inputs = preprocessing.TableEncoder(**options)
    else:
        scaling = arguments.scaling
        if scaling == "auto":
            scaling = "center" if _share_a_unit(data.X_train) else "standardize"
        if scaling in ("whiten", "zca") and arguments.impute:
            raise ValueError(f"--impute is for columns, --scaling {scaling} mixes them")
        makers: dict[str, Callable[[], Any]] = {
            "center": lambda: preprocessing.Center(**options, scale="range"),
            "standardize": lambda: preprocessing.Standardize(**options),
            "minmax": lambda: preprocessing.MinMax(**options),
            "whiten": lambda: preprocessing.PCA(whiten=True, dtype=arguments.dtype),
            "zca": lambda: preprocessing.ZCA(dtype=arguments.dtype),
        }
        inputs = makers[scaling]()
    return preprocessing.Preparation(inputs, target).fit((data.X_train, data.y_train))


def _share_a_unit(X: Any) -> bool:
    """Whether the columns of an array look like the pixels of an image."""
    if X.dtype.kind in "biu":
        return True
    import numpy as np

    return bool(np.fmin.reduce(X, axis=None) >= 0 and np.fmax.reduce(X, axis=None) <= 1)


def _prepared(preparation: Preparation, X: Any, y: Any) -> tuple[Any, Any]:
    return preparation.transform(X), preparation.target.transform(y)


def _network(arguments: argparse.Namespace, settings: Defaults, inputs: int, outputs: int) -> Any:
    import fastnn

    classes = dict(
        zip(
            ACTIVATIONS,
            (fastnn.ReLU, fastnn.LeakyReLU, fastnn.ELU, fastnn.Sigmoid, fastnn.Tanh),
            strict=True,
        )
    )
    # He's variance makes up for the half that a rectifier cuts off; the others do not cut.
    initializer = "he" if arguments.activation in ("relu", "leaky_relu", "elu") else "xavier"
    layers: list[Any] = []
    for units in settings.hidden:
        layers.append(fastnn.Dense(units, initializer=initializer))
        if not arguments.no_batchnorm:
            layers.append(fastnn.BatchNorm())
        layers.append(classes[arguments.activation]())
    layers.append(fastnn.Dense(outputs, initializer="xavier"))
    return fastnn.Sequential(layers, input_dim=inputs, dtype=arguments.dtype, seed=arguments.seed)


def _schedule(arguments: argparse.Namespace, settings: Defaults, rows: int) -> Any:
    """The learning rate over the steps of the whole run."""
    from fastnn import schedules

    lr = settings.lr
    per_epoch = schedules.steps(rows, settings.batch_size)
    warm_up = per_epoch * arguments.warm_up
    steps = max(1, per_epoch * settings.epochs - warm_up)
    kinds: dict[str, Callable[[], Any]] = {
        "cosine": lambda: schedules.Cosine(lr, steps),
        "step": lambda: schedules.StepDecay(lr, every=-(-steps // 3)),
        "exponential": lambda: schedules.Exponential(lr, math.log(100) / steps),
        "inverse-time": lambda: schedules.InverseTime(lr, 99 / steps),
        "one-cycle": lambda: schedules.OneCycle(lr, steps),
    }
    if warm_up and arguments.schedule == "one-cycle":
        raise ValueError("--schedule one-cycle begins with a rise of its own: leave out --warm-up")
    rate = kinds[arguments.schedule]() if arguments.schedule in kinds else lr
    return schedules.WarmUp(warm_up, rate) if warm_up else rate


def _callbacks(arguments: argparse.Namespace, classifies: bool, tested: bool) -> list[Any]:
    """What looks on between the epochs."""
    from fastnn import callbacks

    monitor = "val_loss" if tested else "loss"
    found: list[Any] = [] if arguments.quiet else [_EpochLines(classifies)]
    if arguments.schedule == "plateau":
        found.append(callbacks.ReduceOnPlateau(monitor, patience=3))
    if arguments.early_stopping is not None:
        found.append(callbacks.EarlyStopping(monitor, arguments.early_stopping))
    if arguments.diagnose:
        from fastnn.diagnosis import Doctor

        found.append(Doctor())
    return found


class _EpochLines:
    """A callback that prints a line per epoch."""

    def __init__(self, classifies: bool) -> None:
        self.classifies = classifies

    def on_epoch_end(self, training: Any) -> None:
        row = training.history.last
        width = len(str(training.epochs))
        parts = [f"epoch {row['epoch']:{width}d}/{training.epochs}", f"loss {row['loss']:.4f}"]
        if self.classifies:
            parts.append(f"accuracy {row['accuracy']:6.2%}")
        if not math.isnan(row["val_loss"]):
            parts.append(f"test loss {row['val_loss']:.4f}")
            if self.classifies:
                parts.append(f"test accuracy {row['val_accuracy']:6.2%}")
        parts.append(f"{row['samples_per_second']:,.0f} samples/s")
        write_line("  ".join(parts))


def _describe_data(source: str, data: Dataset, preparation: Preparation, features: int) -> str:
    train, test = data.rows
    target = preparation.target
    if target.task == "classification":
        aim = f"{target.outputs} classes"
    else:
        aim = "regression" if target.outputs == 1 else f"regression of {target.outputs} numbers"
    rows = f"{train:,} training and {test:,} test rows" if test else f"{train:,} training rows"
    return f"{Path(source).name}: {rows}, {features:,} features, {aim}"


def _describe_network(model: Any, arguments: argparse.Namespace, settings: Defaults) -> str:
    import fastnn

    count = sum(array.size for array in model.parameters().values())
    threads = fastnn.get_num_threads()
    parts = [f"{count:,} parameters", arguments.dtype, fastnn.isa(), f"{threads} thread"]
    parts[-1] += "s"[: threads != 1]
    if settings.hidden:
        parts.insert(0, arguments.activation)
        if not arguments.no_batchnorm:
            parts.insert(0, "batch norm")
    return f"network {_shape(model)}: {', '.join(parts)}"


def _shape(model: Any) -> str:
    dense = [layer.units for layer in model.layers if hasattr(layer, "units")]
    return "-".join(map(str, (*model.input_shape, *dense)))


def _result(
    model: Any,
    preparation: Preparation,
    data: Dataset,
    X: Any,
    y: Any,
    test: tuple[Any, Any] | None,
    seconds: float,
) -> str:
    """The last line: how good on rows never seen (or, without such, on the training rows)."""
    split = "training" if test is None else "test"
    rows, targets = (X, y) if test is None else test
    if preparation.target.task == "classification":
        correct = int((model.predict(rows) == targets).sum())
        share = correct / len(rows)
        quality = f"{split} accuracy {share:.2%} ({correct:,} of {len(rows):,})"
    else:
        target = preparation.target
        truth = target.decode(targets)
        error = target.decode(model.predict(rows)) - truth
        spread = ((truth - truth.mean(axis=0)) ** 2).sum()
        fit = f", R² {1 - (error**2).sum() / spread:.3f}" if spread > 0 else ""
        quality = f"{split} error {(error**2).mean() ** 0.5:.4g} (root mean square{fit})"
    return f"{quality}, training {seconds:.2f} s"


def _output_folder(path: str, source: str) -> Path:
    """The folder for the results, proved writable before any time is spent on training."""
    folder = Path(path)
    files = [folder / name for name in (MODEL, HISTORY, CURVES)]
    keep_inputs([source], files)
    writable_folder(folder)
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder, a file is to be written there")
    if find_spec("matplotlib") is None:
        write_line(f"without {CURVES}: matplotlib is not installed (pip install 'fastnn[plot]')")
    return folder


def _write(folder: Path, model: Any, history: Any, title: str) -> None:
    written = [MODEL, HISTORY]
    model.save(folder / MODEL)
    history.to_csv(folder / HISTORY)
    if find_spec("matplotlib") is not None:
        history.plot(folder / CURVES, title=title, validation="test")
        written.append(CURVES)
    print(f"written to {folder}: {', '.join(written)}")
