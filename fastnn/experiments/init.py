"""What the scale of the initial weights does to a deep network.

Ten layers of 500 units see 1,000 rows of Gaussian numbers. With tanh and weights of 0.01·randn the
activations shrink to nothing from layer to layer, and the gradients with them; with 1·randn nearly all
of them saturate at ±1, where the slope is 0; with a variance of 1/fan_in (Xavier) they keep their
spread. A ReLU cuts off half of the variance, so there 1/fan_in shrinks and 2/fan_in (He) keeps. Batch
norm before the activation takes the scale of the weights out altogether.

Sources: Glorot and Bengio (2010), section 3; He et al. (2015), section 2.2; the experiment and its
published figures are those of the lectures of Stanford's CS231n.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.cli.arguments import whole

if TYPE_CHECKING:
    import numpy as np

    from fastnn.models import Sequential
    from fastnn.statistics import ActivationStatistics

HELP = "what the scale of the initial weights does to a deep network"

DESCRIPTION = """\
Ten layers of 500 units, 1,000 Gaussian inputs: mean, spread, saturated and dead units of each layer
with tanh and with ReLU, for each way to draw the weights, without and with batch norm. The published
figures stand beside those measured. Then two small ones: weights that are all equal, and a stack of
layers without activations.

examples:
  fastnn experiment init
  fastnn experiment init --seed 7 --seeds 1
  fastnn experiment init --plot activations.png --csv activations.csv"""

LAYERS, UNITS, ROWS = 10, 500, 1000


class Case(NamedTuple):
    """An activation, and how the weights before it are drawn (scale: times the rule's)."""

    activation: str
    initializer: str
    scale: float
    label: str


CASES = (
    Case("Tanh", "normal", 0.01, "tanh, 0.01·randn"),
    Case("Tanh", "normal", 1.0, "tanh, 1·randn"),
    Case("Tanh", "xavier", 1.0, "tanh, Xavier"),
    Case("ReLU", "xavier", 1.0, "ReLU, Xavier"),
    Case("ReLU", "he", 1.0, "ReLU, He"),
)
TANH_XAVIER, RELU_HE = CASES[2], CASES[4]

#: Published, by layer.
TANH_XAVIER_STD = (0.628, 0.486, 0.408, 0.357, 0.321, 0.292, 0.273, 0.255, 0.239, 0.228)
RELU_HE_MEAN = (0.562, 0.554, 0.546, 0.565, 0.548, 0.587, 0.597, 0.623, 0.567, 0.555)
RELU_HE_STD = (0.825, 0.828, 0.814, 0.827, 0.835, 0.860, 0.871, 0.889, 0.845, 0.845)
#: How far a draw of tanh with Xavier may lie from the published one.
ALLOWED = 0.006


def network(case: Case, seed: int, batch_norm: bool = False) -> tuple[Sequential, np.ndarray]:
    """The network of a case and its 1,000 inputs, both drawn with `seed`.

    With `batch_norm` there is one between each dense layer and its activation.
    """
    import numpy as np

    import fastnn as fnn

    layers: list[fnn.Layer] = []
    for _ in range(LAYERS):
        config = {"name": case.initializer, "scale": case.scale}
        layers.append(fnn.Dense(UNITS, initializer=config))
        if batch_norm:
            layers.append(fnn.BatchNorm())
        layers.append(getattr(fnn, case.activation)())
    model = fnn.Sequential(layers, input_dim=UNITS, seed=seed)
    return model, np.random.default_rng(seed).standard_normal((ROWS, UNITS), np.float32)


def measure(case: Case, seed: int, batch_norm: bool = False) -> ActivationStatistics:
    """The statistics of the ten activations of one network.

    Examples
    --------
    >>> [round(s.std, 1) for s in measure(TANH_XAVIER, seed=0)][:3]
    [0.6, 0.5, 0.4]
    """
    import fastnn as fnn

    return fnn.activation_statistics(*network(case, seed, batch_norm)).activations()


def measure_all(seed: int) -> dict[str, ActivationStatistics]:
    """All cases, without and with batch norm, by their labels."""
    return {
        case.label + ", batch norm" * batch_norm: measure(case, seed, batch_norm)
        for case in CASES
        for batch_norm in (False, True)
    }


class Spread(NamedTuple):
    """Means and standard deviations by seed and layer, (seeds, layers), and the median seed."""

    mean: np.ndarray
    std: np.ndarray
    median_seed: int


def over_seeds(case: Case, seeds: int, advance: Callable[[], object] = lambda: None) -> Spread:
    """The same network drawn with the seeds 0 … `seeds` − 1.

    The median seed is that whose standard deviation, averaged over the layers, is the median one (the
    lower of two).
    """
    import numpy as np

    mean, std = np.empty((seeds, LAYERS)), np.empty((seeds, LAYERS))
    for seed in range(seeds):
        model, x = network(case, seed)
        outputs = model.forward_all(x, training=True)[1::2]  # of the activations
        mean[seed] = [y.mean(dtype=np.float64) for y in outputs]
        std[seed] = [y.std(dtype=np.float64) for y in outputs]
        advance()
    order = np.argsort(std.mean(axis=1), kind="stable")
    return Spread(mean, std, int(order[(seeds - 1) // 2]))


def distinct_units(initializer: Any, seed: int = 0, steps: int = 100) -> tuple[int, float]:
    """How many of 32 hidden units differ after training, and the loss.

    Units that start equal get equal gradients and stay equal: a layer of them is as good as one unit.

    Examples
    --------
    >>> distinct_units("zeros")[0], distinct_units(0.1)[0], distinct_units("xavier")[0]
    (1, 1, 32)
    """
    import numpy as np

    import fastnn as fnn

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((256, 20))
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    model = fnn.Sequential(
        [fnn.Dense(32, initializer=initializer), fnn.Tanh(), fnn.Dense(2, initializer=initializer)],
        input_dim=20,
        dtype="float64",
        seed=seed,
    )
    model.compile(loss="softmax_cross_entropy", optimizer=fnn.SGD(0.5))
    loss = float("nan")
    for _ in range(steps):
        loss = model.train_on_batch(x, y)
    weight = model.parameters()["0.weight"]
    return int(np.unique(weight.round(9), axis=1).shape[1]), loss


def linear_stack(seed: int = 0) -> tuple[int, int, float]:
    """Ten dense layers without activations, and the one dense layer that equals them.

    Returns
    -------
    stacked, single : int
        Parameters of the stack, and of the one layer.
    difference : float
        The largest between their outputs, as a share of the largest output.

    Examples
    --------
    >>> linear_stack()[2] < 1e-12
    True
    """
    import numpy as np

    import fastnn as fnn

    stack = fnn.Sequential(
        [fnn.Dense(50, "xavier", bias_init=fnn.initializers.Normal(0.1)) for _ in range(LAYERS)],
        input_dim=50,
        dtype="float64",
        seed=seed,
    )
    single = fnn.Sequential([fnn.Dense(50)], input_dim=50, dtype="float64")
    w, b = np.eye(50), np.zeros(50)
    for layer in stack.layers:
        w, b = (
            w @ layer.parameters["weight"],
            b @ layer.parameters["weight"] + layer.parameters["bias"],
        )
    single.set_state({"0.weight": w, "0.bias": b})
    x = np.random.default_rng(seed).standard_normal((200, 50))
    expected = stack.forward(x)
    difference = np.abs(single.forward(x) - expected).max() / np.abs(expected).max()
    counts = [sum(a.size for a in model.parameters().values()) for model in (stack, single)]
    return counts[0], counts[1], float(difference)


# --- the command ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    add = parser.add_argument
    add("--seed", metavar="N", type=whole(0), default=0, help="of the tables; default 0")
    add(
        "--seeds",
        metavar="N",
        type=whole(1),
        default=100,
        help="draw ReLU with He's weights N times, seeds 0 to N-1, for the range (default 100)",
    )
    add("--plot", metavar="FILE", help="draw the histograms of all layers (.png, .svg or .pdf)")
    add("--csv", metavar="FILE", help="write the numbers of the tables")


def run(arguments: argparse.Namespace) -> int:
    """Run the experiment and print what it found."""
    from tqdm import tqdm

    from fastnn.progress import on_terminal

    if arguments.plot is not None:
        _check_picture(arguments.plot)
    networks = measure_all(arguments.seed)
    print(
        f"{LAYERS} layers of {UNITS} units, {ROWS:,} rows of {UNITS} Gaussian numbers, float32, "
        f"seed {arguments.seed}"
    )
    for line in tables(networks):
        print(line)
    with tqdm(total=arguments.seeds, desc="seeds", leave=False, disable=not on_terminal()) as bar:
        spread = over_seeds(RELU_HE, arguments.seeds, bar.update)
    for line in (*beside_published(networks, arguments.seed, spread), *small_ones()):
        print(line)
    if arguments.csv is not None:
        _write_csv(arguments.csv, networks)
        print(f"wrote {arguments.csv}")
    if arguments.plot is not None:
        from fastnn.plots import activation_histograms, save

        names = [f"layer {n}" for n in range(1, LAYERS + 1)]
        title = (
            f"What comes out of each layer, by how the weights are drawn (seed {arguments.seed})"
        )
        save(activation_histograms(networks, title=title, names=names), arguments.plot)
        print(f"wrote {arguments.plot}")
    return 0


def tables(networks: Mapping[str, ActivationStatistics]) -> Iterator[str]:
    """Standard deviation, mean, saturated and dead units by layer, a line for each network."""
    from fastnn.text import aligned

    number, share = "{:.3f}".format, "{:.0%}".format
    for heading, name, shown in (
        ("standard deviation by layer", "std", number),
        ("mean by layer", "mean", number),
        ("saturated values by layer", "saturated", share),
        ("dead units by layer", "dead", share),
    ):
        rows = [(heading, *map(str, range(1, LAYERS + 1)))]
        for label, statistics in networks.items():
            values = [getattr(s, name) for s in statistics]
            if values[0] is not None:
                rows.append((label, *(shown(round(value, 3) + 0.0) for value in values)))
        yield ""
        yield from aligned(rows)


def beside_published(
    networks: Mapping[str, ActivationStatistics], seed: int, spread: Spread
) -> Iterator[str]:
    """The published figures, and how those measured compare."""
    import numpy as np

    from fastnn.text import aligned

    here = [s.std for s in networks[TANH_XAVIER.label]]
    gap = float(np.abs(np.subtract(here, TANH_XAVIER_STD)).max())
    layers = tuple(map(str, range(1, LAYERS + 1)))
    yield ""
    yield from aligned(
        [
            ("tanh, Xavier: standard deviation", *layers),
            _row("published", TANH_XAVIER_STD),
            _row(f"seed {seed}", here),
        ]
    )
    within = "within" if gap <= ALLOWED else "NOT within"
    yield f"largest difference {gap:.4f}, {within} {ALLOWED}"

    last = len(spread.mean) - 1
    for what, published, found in (
        ("mean", RELU_HE_MEAN, spread.mean),
        ("standard deviation", RELU_HE_STD, spread.std),
    ):
        low, high = found.min(axis=0), found.max(axis=0)
        inside = int(((low <= published) & (published <= high)).sum())
        yield ""
        yield from aligned(
            [
                (f"ReLU, He: {what}", *layers),
                _row("published", published),
                _row(f"seed {spread.median_seed}, the median one", found[spread.median_seed]),
                _row(f"lowest of seeds 0 to {last}", low),
                _row(f"highest of seeds 0 to {last}", high),
            ]
        )
        if last:
            yield f"{inside} of {LAYERS} published figures lie inside the range of the seeds"
        else:
            yield "one seed has no range: --seeds 100 compares with the published figures"


def _row(label: str, values: Any) -> tuple[str, ...]:
    return (label, *(f"{value:.3f}" for value in values))


def small_ones() -> Iterator[str]:
    """Equal weights, and layers without activations."""
    from fastnn.text import aligned

    rows = [("32 hidden units, trained 100 steps from", "units that differ", "loss")]
    for label, initializer in (("W = 0", 0.0), ("W = 0.1", 0.1), ("Xavier", "xavier")):
        units, loss = distinct_units(initializer)
        rows.append((label, str(units), f"{loss:.3f}"))
    yield ""
    yield from aligned(rows)
    stacked, single, difference = linear_stack()
    yield ""
    yield (
        f"{LAYERS} layers without activations ({stacked:,} parameters) equal one "
        f"({single:,}): outputs differ by {difference:.0e} of the largest"
    )


def _check_picture(path: str) -> None:
    """A wrong ending, or no matplotlib, shows before the work is done."""
    from pathlib import Path

    from fastnn.plots.canvas import FORMATS, new_figure

    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"--plot {path}: expected a name that ends in {', '.join(FORMATS)}")
    new_figure(1.0, 1.0)


def _write_csv(path: str, networks: Mapping[str, ActivationStatistics]) -> None:
    from fastnn.files import replacing

    with replacing(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "layer", "mean", "std", "saturated", "dead"))
        for label, statistics in networks.items():
            for number, s in enumerate(statistics, 1):
                saturated = "" if s.saturated is None else s.saturated
                writer.writerow((label, number, s.mean, s.std, saturated, s.dead))
