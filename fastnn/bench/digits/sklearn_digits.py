"""Digits by scikit-learn's MLPClassifier, which stops after the epochs asked for and no sooner."""

import sys
import time
import warnings

import numpy as np
from sklearn.neural_network import MLPClassifier

imported = time.monotonic()

x, y, x_test, y_test = (np.load(f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))
epochs, batch, lr, momentum, *hidden = map(float, sys.argv[1:])

model = MLPClassifier(
    hidden_layer_sizes=tuple(map(int, hidden)),
    solver="sgd",
    alpha=0.0,
    batch_size=int(batch),
    learning_rate_init=lr,
    momentum=momentum,
    nesterovs_momentum=False,
    max_iter=int(epochs),
    tol=0.0,
    n_iter_no_change=int(epochs),
    random_state=0,
)
warnings.simplefilter("ignore")  # it would say that it did not converge
model.fit(x, y)
trained = time.monotonic()

accuracy = float(model.score(x_test, y_test))
