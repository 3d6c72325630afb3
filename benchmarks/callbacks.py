"""What callbacks cost: `fastnn bench medium` with the doctor, a recorder or both, and without.

    python benchmarks/callbacks.py [--callback Recorder] [--rows 60000] [--epochs 5] [--pairs 3]

784-512-512-10, batch norm and ReLU, batch 128, on generated rows, one thread. Two figures: the time that the
callbacks' own methods take, as a share of the rest of the same fit; and how many times as long a fit takes
with it as without (the median of paired ratios). The latter also has what comes of interrupted steps; but as
neighbours on the machine disturb it more than the callbacks do, the ratio of two fits without any stands
beside it. All fits are of one model, because where a model lies in memory makes a difference, too. Before,
steps are checked to be the same bits with and without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.hooks import HOOKS


class Timed:
    """A callback, with the seconds that its methods take."""

    def __init__(self, callback: Any) -> None:
        self.seconds = 0.0
        for name in (*HOOKS, "next_step", "needs_gradients"):
            if hasattr(callback, name):
                method = getattr(callback, name)
                setattr(self, name, self._timed(method) if callable(method) else method)

    def _timed(self, method: Callable[[Any], object]) -> Callable[[Any], object]:
        def call(training: Any) -> object:
            started = time.perf_counter()
            result = method(training)
            self.seconds += time.perf_counter() - started
            return result

        return call


def network() -> fnn.Sequential:
    layers = [
        fnn.Dense(512), fnn.BatchNorm(), fnn.ReLU(),
        fnn.Dense(512), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10),
    ]  # fmt: skip
    return fnn.Sequential(layers, input_dim=784, seed=0)


def fit(model: fnn.Sequential, X: Any, y: Any, epochs: int, callbacks: list[Any]) -> float:
    started = time.perf_counter()
    model.fit(X, y, batch_size=128, epochs=epochs, callbacks=callbacks, verbose=False)
    return time.perf_counter() - started


def check(X: Any, y: Any, callbacks: list[Any]) -> None:
    """The same bits with the callbacks and without."""
    models = network(), network()
    for model, given in zip(models, ([], callbacks), strict=True):
        fit(model, X, y, 2, given)
    for key, value in models[0].parameters().items():
        assert np.array_equal(value, models[1].parameters()[key]), key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callback", action="append", choices=("Doctor", "Recorder", "both"))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    fnn.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, arguments.rows)
    X = rng.standard_normal((arguments.rows, 784), np.float32)
    X += 2 * np.eye(10, 784, dtype=np.float32)[y]
    makers: dict[str, Callable[[], list[Any]]] = {
        "Doctor": lambda: [fnn.Doctor(show=None)],
        "Recorder": lambda: [fnn.Recorder(probe=(X[:256], y[:256]))],
    }
    makers["both"] = lambda: makers["Doctor"]() + makers["Recorder"]()
    model = network()
    model.compile(optimizer=fnn.SGD(0.01, momentum=0.9))
    for name in arguments.callback or makers:
        check(X[:1280], y[:1280], makers[name]())
        ratios, controls, shares = [], [], []
        for _ in range(arguments.pairs):
            before = fit(model, X, y, arguments.epochs, [])
            timed = [Timed(callback) for callback in makers[name]()]
            together = fit(model, X, y, arguments.epochs, timed)
            after = fit(model, X, y, arguments.epochs, [])
            ratios.append(2 * together / (before + after))
            controls.append(after / before)
            seconds = sum(callback.seconds for callback in timed)
            shares.append(seconds / (together - seconds))
        print(
            f"{name}: {statistics.median(shares):.2%} of the training time in its methods "
            f"({', '.join(f'{share:.2%}' for share in shares)}); a fit takes "
            f"{statistics.median(ratios):.3f} times as long ({', '.join(f'{r:.3f}' for r in ratios)}; "
            f"without it, twice: {', '.join(f'{r:.3f}' for r in controls)})"
        )


if __name__ == "__main__":
    main()
