"""The scale of the first weights decides whether a deep network can learn at all.

    python examples/initialisation.py [FOLDER]

Ten layers of 500 units are given 1,000 rows of Gaussian noise, untrained. With weights of
0.01 * randn each layer shrinks what it gets until nothing is left; with 1 * randn every tanh is
saturated at -1 or 1; with a variance of 1/fan_in (Xavier) or, for ReLU, of 2/fan_in (He) the spread
stays from layer to layer. `fastnn experiment init` does it over many seeds, also with batch norm,
beside the published figures; here is one network of each kind.
"""

import sys
from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn import plots

NETWORKS = {
    "tanh, 0.01 * randn": (fnn.Tanh, fnn.initializers.Normal(0.01)),
    "tanh, 1 * randn": (fnn.Tanh, fnn.initializers.Normal(1.0)),
    "tanh, Xavier": (fnn.Tanh, "xavier"),
    "ReLU, Xavier": (fnn.ReLU, "xavier"),
    "ReLU, He": (fnn.ReLU, "he"),
}


def main(folder: str = "runs/examples") -> None:
    x = np.random.default_rng(0).standard_normal((1000, 500)).astype("float32")
    found = {}
    print(f"{'standard deviation of layer':27}  {'1':>7}  {'2':>7}  {'5':>7}  {'10':>7}  saturated")
    for name, (activation, initializer) in NETWORKS.items():
        layers = []
        for _ in range(10):
            layers += [fnn.Dense(500, initializer=initializer), activation()]
        model = fnn.Sequential(layers, input_dim=500, seed=0)
        found[name] = fnn.activation_statistics(model, x).activations()
        spread = "  ".join(f"{found[name][layer].std:7.2g}" for layer in (0, 1, 4, 9))
        saturated = found[name][9].saturated
        print(f"{name:27}  {spread}  {'' if saturated is None else f'{saturated:9.0%}'}")

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    figure = plots.activation_histograms(found, names=[f"layer {k}" for k in range(1, 11)])
    plots.save(figure, out / "initialisation.png", dpi=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
