"""First-layer weights, noisy and smooth.

    python examples/first_layer_weights.py [FOLDER]

A unit of the first layer has a weight for each pixel, so its weights can be looked at as an image.
Without regularisation the network learns its training rows by heart, and the noise that its weights
began with is still there. Weight decay takes away what is not needed, and strokes become visible.
(With images as small as these, so much of it costs accuracy: it is here to be looked at.)
"""

import sys
from pathlib import Path

import fastnn as fnn
from fastnn import plots
from fastnn.plots.weights import geary, weight_images


def main(folder: str = "runs/examples") -> None:
    data = fnn.datasets.digits()
    center = fnn.preprocessing.Center(scale="range").fit(data.X_train)
    X, X_test = center.transform(data.X_train), center.transform(data.X_test)

    models = {}
    for label, weight_decay in (("no regularisation", 0.0), ("weight decay 0.02", 0.02)):
        model = fnn.Sequential([fnn.Dense(40), fnn.ReLU(), fnn.Dense(10)], seed=0)
        model.fit(
            X,
            data.y_train,
            optimizer=fnn.SGD(lr=0.1, momentum=0.9, weight_decay=weight_decay),
            batch_size=64,
            epochs=25,
            verbose=False,
        )
        train, test = (
            model.evaluate(*rows)["accuracy"] for rows in ((X, data.y_train), (X_test, data.y_test))
        )
        noise = geary(weight_images(model, (8, 8)))
        print(
            f"{label}: accuracy {train:.1%} on training rows, {test:.1%} on others, "
            f"roughness of the weights {noise:.2f}"
        )
        models[label] = model

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    figure = plots.first_layer_weights(models, (8, 8), title="What the first layer looks for")
    plots.save(figure, out / "first_layer_weights.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
