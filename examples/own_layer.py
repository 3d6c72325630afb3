"""A layer of one's own: the parametric ReLU, with a slope that is learned.

    python examples/own_layer.py

    y = x where x > 0, and y = a * x elsewhere, with one a for each unit
    dL/dx = dy where x > 0, and a * dy elsewhere
    dL/da = the sum over the rows of dy * x, where x <= 0

(He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers", equations 1 and 8.) The layer is plain
NumPy, and fastnn trains and saves it like its own. Whoever writes a backward pass checks it: here
against centred differences.
"""

import tempfile

import numpy as np

import fastnn as fnn


class PReLU(fnn.Layer):
    def __init__(self, slope=0.25):
        self.slope = slope

    def build(self, input_shape):
        self.add_parameter("slope", input_shape, self.slope)
        return input_shape

    def forward(self, x, training=True):
        self.x = x
        return np.where(x > 0, x, self.parameters["slope"] * x)

    def backward(self, dy):
        below = np.where(self.x > 0, 0, self.x)
        self.gradients["slope"] = (dy * below).sum(axis=0)
        return np.where(self.x > 0, dy, self.parameters["slope"] * dy)


def spirals(rng, rows=600, arms=3):
    """Points (rows, 2) on arms that are wound up into each other, and the arm of each."""
    arm = np.arange(rows) % arms
    radius = rng.uniform(0.1, 1, rows)
    angle = 4 * radius + 2 * np.pi * arm / arms + 0.15 * rng.standard_normal(rows)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), arm


def main() -> None:
    rng = np.random.default_rng(0)
    X, y = spirals(rng)
    model = fnn.Sequential(
        [fnn.Dense(32), PReLU(), fnn.Dense(32), PReLU(), fnn.Dense(3)],
        input_dim=2,
        dtype="float64",
        seed=0,
    )

    print(f"gradient check: {relative_error(model, X[:50], y[:50]):.1e} (1e-7 and less is right)")

    model.fit(X, y, optimizer=fnn.Adam(lr=0.01), batch_size=50, epochs=60, verbose=False)
    X_new, y_new = spirals(rng)
    print(f"accuracy on new points: {model.evaluate(X_new, y_new)['accuracy']:.1%}")
    slopes = model.parameters()["1.slope"]
    print(f"slopes of the first layer: {slopes.min():.2f} to {slopes.max():.2f}, from 0.25")

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/spirals.safetensors"
        model.save(path)
        # A file holds numbers and names, never code: what a PReLU is, it has to be told.
        again = fnn.load(path, layers={"PReLU": PReLU})
    same = np.array_equal(again.predict_proba(X), model.predict_proba(X))
    print("saved and loaded:", "the same" if same else "different!")


def relative_error(model, x, y, eps=1e-5):
    """Of the gradients of all slopes, beside centred differences of the loss."""
    loss = fnn.SoftmaxCrossEntropy()

    def value():
        return loss.forward_backward(model.forward(x), y)[0]

    model.backward(loss.forward_backward(model.forward(x), y)[1])
    given, measured = [], []
    for name, slopes in model.parameters().items():
        if not name.endswith("slope"):
            continue
        given.append(model.gradients()[name].copy())
        for i, slope in enumerate(slopes.copy()):
            slopes[i] = slope + eps
            up = value()
            slopes[i] = slope - eps
            measured.append((up - value()) / (2 * eps))
            slopes[i] = slope
    given = np.concatenate(given)
    norm = np.linalg.norm
    return norm(given - measured) / ((norm(given) + norm(measured)) / 2)


if __name__ == "__main__":
    main()
