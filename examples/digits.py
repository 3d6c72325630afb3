"""Handwritten digits, from the data to a model in a file.

    python examples/digits.py [FOLDER]

1,797 digits of 8x8 pixels come with scikit-learn. A network of two hidden layers learns four fifths
of them and is asked about the rest. FOLDER then holds the model and a page about the run to look at
in a browser.
"""

import sys
from pathlib import Path

import fastnn as fnn


def main(folder: str = "runs/examples") -> None:
    data = fnn.datasets.digits()

    # Pixels are centred, on the mean of the training rows: the test rows must not be looked at.
    center = fnn.preprocessing.Center(scale="range").fit(data.X_train)
    X, X_test = center.transform(data.X_train), center.transform(data.X_test)

    layers = []
    for _ in range(2):
        layers += [fnn.Dense(128), fnn.BatchNorm(), fnn.ReLU()]
    model = fnn.Sequential([*layers, fnn.Dense(10, initializer="xavier")], seed=0)
    model.preprocessing = center  # saved with the model, for whoever uses it later

    # The recorder looks on, for the pictures; training works as well without it.
    recorder = fnn.Recorder(probe=(X[:256], data.y_train[:256]))
    history = model.fit(
        X,
        data.y_train,
        loss="softmax_cross_entropy",
        optimizer=fnn.SGD(lr=0.05, momentum=0.9, weight_decay=3e-3),
        batch_size=64,
        epochs=15,
        validation_data=(X_test, data.y_test),
        callbacks=[recorder],
        verbose=False,
    )
    result = model.evaluate(X_test, data.y_test)
    print(f"test accuracy {result['accuracy']:.1%} after {history.epochs} epochs")

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "digits.safetensors")
    again = fnn.load(out / "digits.safetensors")
    images = data.X_test[:5]
    print("the first digits:", *again.predict(again.preprocessing.transform(images)))
    print("in truth:        ", *data.y_test[:5])
    page = fnn.write_report(
        out / "digits.html",
        history,
        model=model,
        x=X_test,
        y=data.y_test,
        recorder=recorder,
        image_shape=(8, 8),
        title="Handwritten digits",
    )
    print(f"written: {out / 'digits.safetensors'}, {page}")


if __name__ == "__main__":
    main(*sys.argv[1:])
