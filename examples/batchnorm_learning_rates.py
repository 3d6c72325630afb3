"""Batch norm allows high learning rates.

    python examples/batchnorm_learning_rates.py [FOLDER]

The same network of five hidden layers learns the digits at rates from 0.01 to 1, once without and
once with batch norm. Without it, a high rate throws the activations out of their range from one
step to the next, and nothing is learned, or the loss becomes infinite. With it each layer gets
inputs of mean 0 and variance 1 (before gamma and beta) however the weights before it have grown,
and a gradient that is the smaller the larger its weights (Ioffe and Szegedy 2015, section 3.3).
"""

import sys
from pathlib import Path

import fastnn as fnn
from fastnn import plots

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
SHOWN = 0.3
EPOCHS = 8


def main(folder: str = "runs/examples") -> None:
    data = fnn.datasets.digits()
    center = fnn.preprocessing.Center(scale="range").fit(data.X_train)
    X, X_test = center.transform(data.X_train), center.transform(data.X_test)

    def train(lr: float, batchnorm: bool) -> fnn.History:
        layers = []
        for _ in range(5):
            layers += [fnn.Dense(64), *([fnn.BatchNorm()] if batchnorm else []), fnn.ReLU()]
        model = fnn.Sequential([*layers, fnn.Dense(10, initializer="xavier")], seed=0)
        try:
            return model.fit(
                X,
                data.y_train,
                optimizer=fnn.SGD(lr=lr, momentum=0.9),
                batch_size=64,
                epochs=EPOCHS,
                validation_data=(X_test, data.y_test),
                verbose=False,
            )
        except fnn.NonFiniteError:  # the run stops before the update that would break the model
            return model.history

    print(f"test accuracy after {EPOCHS} epochs")
    print("learning rate  without  with batch norm")
    shown, highest = {}, {}
    for lr in RATES:
        cells = []
        for label, batchnorm in (("without batch norm", False), ("with batch norm", True)):
            history = train(lr, batchnorm)
            if history.epochs < EPOCHS:
                cells.append("diverged")
                continue
            accuracy = history["val_accuracy"][-1]
            cells.append(f"{accuracy:.1%}")
            if accuracy > 0.9:
                highest[label] = lr
            if lr == SHOWN:
                shown[label] = history
        print(f"{lr:13g}  {cells[0]:>8}  {cells[1]:>15}")
    for label, lr in highest.items():
        print(f"highest rate that reaches 90% {label}: {lr:g}")

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    figure = plots.training_curves(shown, title=f"learning rate {SHOWN}", validation="test")
    plots.save(figure, out / "batchnorm_learning_rates.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
