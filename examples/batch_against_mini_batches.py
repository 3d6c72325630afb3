"""Gradient descent on all rows at once, and on mini-batches.

    python examples/batch_against_mini_batches.py [FOLDER]

A straight line is fitted to 1,000 points, so there are two parameters and their way can be drawn.
With all rows, a step goes exactly downhill, and an epoch is a single step. With mini-batches of 20
a step goes only roughly downhill, but an epoch has 50 of them: the same work takes them much
further. At the bottom they wander about, the more the higher the learning rate.
"""

import sys
from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn import plots

LEARNING_RATE, EPOCHS, NOISE = 0.1, 60, 0.5


class Path2D:
    """A callback of one's own: any object with the methods that it wants to be called by."""

    def on_fit_begin(self, training):
        self.points = [self.where(training.model)]

    def on_batch_end(self, training):
        self.points.append(self.where(training.model))

    @staticmethod
    def where(model):
        parameters = model.parameters()  # views, so the numbers are copied out of them
        return float(parameters["0.weight"][0, 0]), float(parameters["0.bias"][0])


def main(folder: str = "runs/examples") -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (1000, 1))
    y = 2 * x + 1 + NOISE * rng.standard_normal(x.shape)

    def loss_at(points):  # mean squared error for each (slope, intercept)
        return ((points[:, :1] * x.T + points[:, 1:] - y.T) ** 2).mean(axis=1)

    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    best = loss_at(np.array([[slope, intercept]]))[0]

    runs, paths = {}, {}
    for label, batch_size in (("all 1,000 rows", None), ("mini-batches of 20", 20)):
        model = fnn.Sequential(
            [fnn.Dense(1, initializer="zeros")], input_dim=1, dtype="float64", seed=0
        )
        model.parameters()["0.weight"][:], model.parameters()["0.bias"][:] = -2.0, -1.0
        runs[label], path = fnn.Recorder(), Path2D()
        model.fit(
            x,
            y,
            loss="mean_squared_error",
            optimizer=fnn.SGD(lr=LEARNING_RATE),
            batch_size=batch_size,
            epochs=EPOCHS,
            callbacks=[runs[label], path],
            verbose=False,
        )
        paths[label] = np.array(path.points)
        losses = loss_at(paths[label])
        steps = int(np.argmax(losses < 1.05 * best))
        epochs = steps / runs[label].steps_per_epoch
        wander = paths[label][-len(losses) // 10 :].std(axis=0).max()
        print(
            f"{label}: within 5% of the best loss after {steps} steps = {epochs:g} epochs, "
            f"wanders by {wander:.1g} at the end"
        )

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    figure = plots.descent_paths(loss_at, paths, labels=("slope", "intercept"))
    plots.save(figure, out / "batch_against_mini_batches_paths.png")
    plots.save(plots.step_losses(runs), out / "batch_against_mini_batches.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
