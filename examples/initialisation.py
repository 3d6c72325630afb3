"""The scale of the first weights decides whether a deep network can learn at all.

    python examples/initialisation.py

Ten layers of 500 units are given 1,000 rows of Gaussian noise, untrained. With weights of
0.01 * randn each layer shrinks what it gets until nothing is left; with 1 * randn every tanh is
saturated at -1 or 1; with a variance of 1/fan_in (Xavier) or, for ReLU, of 2/fan_in (He) the spread
stays from layer to layer. `fastnn experiment init` does it over many seeds, also with batch norm,
beside the published figures, and draws a histogram for each layer; here is one network of each kind.
"""

import numpy as np

import fastnn as fnn

NETWORKS = {
    "tanh, 0.01 * randn": (fnn.Tanh, fnn.initializers.Normal(0.01)),
    "tanh, 1 * randn": (fnn.Tanh, fnn.initializers.Normal(1.0)),
    "tanh, Xavier": (fnn.Tanh, "xavier"),
    "ReLU, Xavier": (fnn.ReLU, "xavier"),
    "ReLU, He": (fnn.ReLU, "he"),
}


def main() -> None:
    x = np.random.default_rng(0).standard_normal((1000, 500)).astype("float32")
    print(f"{'standard deviation of layer':27}  {'1':>7}  {'2':>7}  {'5':>7}  {'10':>7}  saturated")
    for name, (activation, initializer) in NETWORKS.items():
        layers = []
        for _ in range(10):
            layers += [fnn.Dense(500, initializer=initializer), activation()]
        model = fnn.Sequential(layers, input_dim=500, seed=0)
        found = fnn.activation_statistics(model, x).activations()
        spread = "  ".join(f"{found[layer].std:7.2g}" for layer in (0, 1, 4, 9))
        saturated = found[9].saturated
        print(f"{name:27}  {spread}  {'' if saturated is None else f'{saturated:9.0%}'}")


if __name__ == "__main__":
    main()
