"""Digits by fastnn."""

import sys
import time

import numpy as np

import fastnn as fnn

imported = time.monotonic()

x, y, x_test, y_test = (np.load(f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))
epochs, batch, lr, momentum, *hidden = map(float, sys.argv[1:])

layers = [layer for h in hidden for layer in (fnn.Dense(int(h)), fnn.ReLU())]
model = fnn.Sequential([*layers, fnn.Dense(10)], seed=0)
model.fit(
    x,
    y,
    loss="softmax_cross_entropy",
    optimizer=fnn.SGD(lr, momentum=momentum),
    batch_size=int(batch),
    epochs=int(epochs),
    verbose=False,
)
trained = time.monotonic()

accuracy = float(np.mean(model.predict(x_test) == y_test))
