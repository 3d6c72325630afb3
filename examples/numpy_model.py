"""The kernels in a network that is written by hand, in plain NumPy.

    python examples/numpy_model.py

Forward, backward and update of a small network, as a lecture writes them; each line is a call of
`fastnn.functional` on NumPy arrays. `fastnn.reference` has the same functions written in NumPy, so
the same program runs on both: the results agree to rounding, and the kernels are faster.
"""

import time

import numpy as np

from fastnn import functional, reference


def train(F, X, y, steps, hidden=256, classes=10, batch=128, lr=0.1):
    """Train by the functions of the module F; returns the loss of each step, and the time of one."""
    rng = np.random.default_rng(0)
    features = X.shape[1]
    w1 = (rng.standard_normal((features, hidden)) * np.sqrt(2 / features)).astype(X.dtype)
    w2 = (rng.standard_normal((hidden, classes)) * np.sqrt(1 / hidden)).astype(X.dtype)
    gamma, beta = np.ones(hidden, X.dtype), np.zeros(hidden, X.dtype)
    b2 = np.zeros(classes, X.dtype)

    losses, started = [], time.perf_counter()
    for step in range(steps):
        rows = slice(step * batch % len(X), step * batch % len(X) + batch)
        x, labels = X[rows], y[rows]

        # forward
        h = F.dense_forward(x, w1)
        a, mean, rstd = F.batchnorm_forward(h, gamma, beta, activation="relu")
        logits = F.dense_forward(a, w2, b2)
        loss, dlogits = F.softmax_cross_entropy(logits, labels)
        losses.append(float(loss))

        # backward, in the opposite order
        da, dw2, db2 = F.dense_backward(dlogits, a, w2)
        dh, dgamma, dbeta = F.batchnorm_backward(
            da, h, gamma, mean, rstd, beta=beta, y=a, activation="relu"
        )
        _, dw1, _ = F.dense_backward(dh, x, w1, need_dx=False, need_db=False)

        # update
        pairs = ((w1, dw1), (w2, dw2), (b2, db2), (gamma, dgamma), (beta, dbeta))
        for parameter, gradient in pairs:
            parameter -= lr * gradient
    return np.array(losses), (time.perf_counter() - started) / steps


def main() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 10, 1280)
    centres = rng.standard_normal((10, 784))
    X = (centres[y] + 3 * rng.standard_normal((len(y), 784))).astype(np.float32)

    train(functional, X, y, steps=2)  # the first calls of anything are slow
    fast, seconds = train(functional, X, y, steps=60)
    slow, numpy_seconds = train(reference, X, y, steps=60)
    print(f"loss {fast[0]:.3f} at first, {fast[-1]:.3f} at last")
    print(f"largest difference to NumPy: {np.abs(fast - slow).max():.1e}")
    print(
        f"a step: {seconds * 1e3:.2f} ms, in NumPy {numpy_seconds * 1e3:.2f} ms "
        f"({numpy_seconds / seconds:.1f} times as long)"
    )


if __name__ == "__main__":
    main()
