"""Digits by NumPy alone, every gradient by hand."""

import sys
import time
from itertools import pairwise

import numpy as np

imported = time.monotonic()

x, y, x_test, y_test = (np.load(f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))
epochs, batch, lr, momentum, *hidden = map(float, sys.argv[1:])
epochs, batch = int(epochs), int(batch)
rate, keep = np.float32(lr), np.float32(momentum)

rng = np.random.default_rng(0)
sizes = [x.shape[1], *map(int, hidden), 10]
ws = [
    rng.standard_normal((d, h), np.float32) * np.float32(np.sqrt(2 / d)) for d, h in pairwise(sizes)
]
bs = [np.zeros(h, np.float32) for h in sizes[1:]]
velocities = [np.zeros_like(p) for p in (*ws, *bs)]


def forward(x: np.ndarray) -> list[np.ndarray]:
    """The inputs of every layer, and the logits."""
    outputs = [x]
    for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
        z = outputs[-1] @ w
        z += b
        outputs.append(np.maximum(z, 0, out=z) if i < len(ws) - 1 else z)
    return outputs


for _ in range(epochs):
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch):
        rows = order[start : start + batch]
        outputs = forward(x[rows])
        delta = np.exp(outputs[-1] - outputs[-1].max(axis=1, keepdims=True))
        delta /= delta.sum(axis=1, keepdims=True)
        delta[np.arange(len(rows)), y[rows]] -= 1
        delta /= np.float32(len(rows))
        dws, dbs = [], []
        for i in range(len(ws) - 1, -1, -1):
            dws.append(outputs[i].T @ delta)
            dbs.append(delta.sum(axis=0))
            if i:
                delta = (delta @ ws[i].T) * (outputs[i] > 0)
        gradients = (*dws[::-1], *dbs[::-1])
        for p, g, v in zip((*ws, *bs), gradients, velocities, strict=True):
            v *= keep
            v += g
            p -= rate * v
trained = time.monotonic()

accuracy = float(np.mean(forward(x_test)[-1].argmax(axis=1) == y_test))
