"""The price of a call in two builds of fastnn, in pairs: python benchmarks/builds.py FOLDER OTHER

Each folder has a `fastnn` that can be imported: a checkout built in place, or an unpacked wheel. Calls on
arrays of 8 x 8 are all overhead: what is compared is the way in and out, not the kernels. One process per
build, alternated on one core; the median of the ratios of neighbours is printed with its quartiles.
This is how the choice between the limited and the full C API was made (setup.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

CALLS = {
    "relu, out=": "f.relu(x, out=y)",
    "relu": "f.relu(x)",
    "tanh_backward": "f.tanh_backward(x, y, dx_out=z)",
    "softmax": "f.softmax(x, out=y)",
    "dense_forward": "f.dense_forward(x, w, b, activation='relu', out=y)",
    "dense_backward": "f.dense_backward(x, y, w)",
    "batchnorm_forward": "f.batchnorm_forward(x, b, b)",
    "dropout": "f.dropout(x, 0.5, 1, out=y)",
    "softmax_cross_entropy": "f.softmax_cross_entropy(x, labels)",
    "adam_update": "f.adam_update(z, x, m, v, step=1, lr=1e-9)",
    "train_on_batch": "model.train_on_batch(x, labels)",
    "forward of a model": "model.forward(x)",
}
SETUP = """
import sys; sys.path.insert(0, sys.argv[1])
import json, os, timeit
try:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
except (AttributeError, OSError) as error:
    print(f"not pinned to a core ({error}): the figures are less certain", file=sys.stderr)
import numpy as np
import fastnn
import fastnn.functional as f
x, w = np.random.default_rng(0).standard_normal((2, 8, 8), dtype="float32")
y, z, m, v, b, labels = x.copy(), x.copy(), 0 * x, 0 * x, w[0].copy(), np.arange(8)
model = fastnn.Sequential([fastnn.Dense(8), fastnn.ReLU(), fastnn.Dense(8)], input_dim=8, seed=0)
model.compile(loss="softmax_cross_entropy", optimizer=fastnn.SGD(lr=1e-9), batch_size=8)
timers, missing = {}, []
for name, call in json.loads(sys.argv[2]).items():
    try:
        exec(call)
        timers[name] = timeit.Timer(call, globals=globals())
    except (AttributeError, TypeError) as error:  # an older build
        print(name, error, file=sys.stderr)
for name, number, timer in [(n, max(1, round(2e-3 / (t.timeit(200) / 200))), t) for n, t in timers.items()]:
    timers[name] = lambda timer=timer, number=number: min(timer.repeat(2, number)) / number
print(json.dumps([fastnn.__file__, list(timers)]), flush=True)
for line in sys.stdin:
    print(json.dumps([timer() * 1e9 for timer in timers.values()]), flush=True)
"""


class Build:
    """A process that times every call once whenever it is asked to."""

    def __init__(self, folder: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SETUP, os.path.abspath(folder), json.dumps(CALLS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.asks, self.answers = self.process.stdin, self.process.stdout
        ready = self.answers.readline()
        if not ready:
            raise SystemExit(
                f"{folder}: the process ended with status {self.process.wait()}, see above"
            )
        self.file, self.names = json.loads(ready)

    def times(self) -> dict[str, float]:
        """Nanoseconds of each call."""
        self.asks.write("\n")
        self.asks.flush()
        return dict(zip(self.names, json.loads(self.answers.readline()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("other")
    parser.add_argument("--pairs", type=int, default=30)
    options = parser.parse_args()
    builds = [Build(options.folder), Build(options.other)]
    print("\n".join(f"{which}: {build.file}" for which, build in zip("AB", builds, strict=True)))
    pairs = [[build.times() for build in builds] for _ in range(options.pairs)]
    print(f"{'call':24} {'A, ns':>8} {'B, ns':>8} {'B / A':>8}")
    for name in (name for name in builds[0].names if name in builds[1].names):
        a, b = (statistics.median(pair[which][name] for pair in pairs) for which in (0, 1))
        low, middle, high = statistics.quantiles((p[1][name] / p[0][name] for p in pairs), n=4)
        print(f"{name:24} {a:8.0f} {b:8.0f} {middle:8.2f} ({low:.2f}-{high:.2f})")
    for build in builds:
        build.asks.close()
        build.process.wait()


if __name__ == "__main__":
    main()
