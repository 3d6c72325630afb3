"""Digits by JAX: a whole epoch in one compiled `lax.scan`."""

import sys
import time
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

imported = time.monotonic()

x, y, x_test, y_test = (np.load(f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))
epochs, batch, lr, momentum, *hidden = map(float, sys.argv[1:])

rng = np.random.default_rng(0)
sizes = [x.shape[1], *map(int, hidden), 10]
params = [
    (rng.standard_normal((d, h), np.float32) * np.float32(np.sqrt(2 / d)), np.zeros(h, np.float32))
    for d, h in pairwise(sizes)
]


def logits(params: Any, x: Any) -> Any:
    *below, (w, b) = params
    for w_below, b_below in below:
        x = jax.nn.relu(x @ w_below + b_below)
    return x @ w + b


def loss(params: Any, x: Any, y: Any) -> Any:
    rows = jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], axis=1)
    return -rows.mean()


def step(state: Any, batch: Any) -> Any:
    params, velocity = state
    gradient = jax.grad(loss)(params, *batch)
    velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
    return (jax.tree.map(lambda p, v: p - lr * v, params, velocity), velocity), None


@jax.jit  # type: ignore[untyped-decorator]
def epoch(state: Any, xs: Any, ys: Any) -> Any:
    return jax.lax.scan(step, state, (xs, ys))[0]


steps = len(x) // int(batch)  # whole batches only: a last short one would be compiled again
state = (params, jax.tree.map(np.zeros_like, params))
for _ in range(int(epochs)):
    rows = rng.permutation(len(x))[: steps * int(batch)].reshape(steps, int(batch))
    state = epoch(state, x[rows], y[rows])
jax.block_until_ready(state)
trained = time.monotonic()

accuracy = float(np.mean(np.asarray(logits(state[0], x_test)).argmax(axis=1) == y_test))
