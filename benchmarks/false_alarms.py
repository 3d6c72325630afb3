"""How often the doctor cries wolf: its findings on runs that are well.

    python benchmarks/false_alarms.py [--mnist FILE.npz] [--seeds 10]

Networks that train well, on scikit-learn's digits and (with a file of arrays X_train, y_train, X_test,
y_test) on MNIST, over architectures, optimizers and seeds. The doctor looks after every epoch, so a
finding counts wherever in the run it appears; `fastnn.diagnose` with its sanity checks looks at the end.
A run counts as well if its test accuracy is at least 95% (digits) or 94% (MNIST). What the findings say
is printed for the first three of each kind, to judge by reading.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn as fnn

NETWORKS: dict[str, Callable[[], list[Any]]] = {
    "relu 64": lambda: [fnn.Dense(64), fnn.ReLU(), fnn.Dense(10)],
    "relu 128-64": lambda: [
        fnn.Dense(128), fnn.ReLU(), fnn.Dense(64), fnn.ReLU(), fnn.Dense(10)
    ],
    "BN relu 128-128": lambda: [
        *_blocks(fnn.ReLU, 128, 2, norm=True), fnn.Dense(10, "xavier")
    ],
    "BN relu 5 x 64": lambda: [*_blocks(fnn.ReLU, 64, 5, norm=True), fnn.Dense(10, "xavier")],
    "tanh 64-64": lambda: [*_blocks(fnn.Tanh, 64, 2), fnn.Dense(10, "xavier")],
    "sigmoid 64": lambda: [*_blocks(fnn.Sigmoid, 64, 1), fnn.Dense(10, "xavier")],
    "ELU 100": lambda: [*_blocks(fnn.ELU, 100, 1), fnn.Dense(10, "xavier")],
    "dropout 256": lambda: [fnn.Dense(256), fnn.ReLU(), fnn.Dropout(0.5), fnn.Dense(10)],
    "maxout 64": lambda: [fnn.Maxout(64), fnn.Dense(10, "xavier")],
}  # fmt: skip
OPTIMIZERS: dict[str, Callable[[int], Any]] = {
    "SGD momentum": lambda steps: fnn.SGD(0.02, momentum=0.9),
    "SGD cosine": lambda steps: fnn.SGD(fnn.schedules.Cosine(0.05, steps), 0.9, weight_decay=1e-3),
    "Adam": lambda steps: fnn.Adam(0.002),
}
LEAST = {"digits": 0.95, "MNIST": 0.94}


def _blocks(activation: Any, units: int, count: int, norm: bool = False) -> Iterator[Any]:
    for _ in range(count):
        yield fnn.Dense(units, "he" if activation is fnn.ReLU else "xavier")
        if norm:
            yield fnn.BatchNorm()
        yield activation()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", metavar="FILE", help="an .npz of MNIST")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=15, help="of digits; MNIST: two thirds")
    arguments = parser.parse_args()
    data = {"digits": fnn.datasets.digits()}
    if arguments.mnist:
        data["MNIST"] = fnn.datasets.load_npz(arguments.mnist)
    for name, source in data.items():
        X, Xt = (np.asarray(part, np.float32) for part in (source.X_train, source.X_test))
        mean, scale = X.mean(axis=0), X.max()
        splits = ((X - mean) / scale * 2, source.y_train, (Xt - mean) / scale * 2, source.y_test)
        epochs = arguments.epochs if name == "digits" else 2 * arguments.epochs // 3
        seeds = arguments.seeds if name == "digits" else max(1, arguments.seeds // 5)
        _count(name, splits, epochs, seeds)


def _count(name: str, data: tuple[Any, ...], epochs: int, seeds: int) -> None:
    X, y, Xt, yt = data
    found: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    runs = ill = alarmed = 0
    for network, layers in NETWORKS.items():
        for rule, made in OPTIMIZERS.items():
            for seed in range(seeds):
                doctor = fnn.Doctor(every=1, show=None)
                model = fnn.Sequential(layers(), seed=seed)
                optimizer = made(fnn.schedules.steps(len(X), 64, epochs))
                history = model.fit(
                    X, y, optimizer=optimizer, batch_size=64, epochs=epochs,
                    validation_data=(Xt, yt), callbacks=[doctor], verbose=False,
                )  # fmt: skip
                if history["val_accuracy"][-1] < LEAST[name]:
                    ill += 1
                    continue
                runs += 1
                findings = [*doctor.findings, *fnn.diagnose(history, model, X, y)]
                kinds = {f"{f.kind} ({f.severity})" for f in findings}
                found.update(kinds)
                alarmed += any(f.severity != "hint" for f in findings)
                for f in findings:
                    shown = examples.setdefault(f.kind, [])
                    if len(shown) < 3:
                        shown.append(f"{network}, {rule}, seed {seed}: {f.title}: {f.evidence}")
    print(f"{name}: {runs} healthy runs of {epochs} epochs ({ill} others left out)")
    print(f"  {alarmed} with a warning or an error ({alarmed / max(1, runs):.1%})")
    for kind, count in found.most_common():
        print(f"  {count:4d}  {kind}")
    for texts in examples.values():
        for text in texts:
            print(f"    {text}")


if __name__ == "__main__":
    main()
