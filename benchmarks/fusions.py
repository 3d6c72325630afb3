"""What each fusion of the compiled step gains: the same step with it and without it, alternated.

    python benchmarks/fusions.py                  the workloads that a comment in the code speaks of
    python benchmarks/fusions.py medium deep      these
    python benchmarks/fusions.py 4096:512-1024-1024-10:relu --threads 2

One process, one thread if not told otherwise; a gain is the median of the paired ratios of times, with its
95% interval.  Above 1 the step is faster with the fusion than without.  MB is what the step holds with it and
without it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fastnn as fnn
from fastnn import stages
from fastnn.bench.contenders.fastnn_mlp import FastNNSteps
from fastnn.bench.pairs import paired_ratio
from fastnn.bench.workloads import Workload, parse

SECONDS, PAIRS = 0.1, 31


def summed_in_products(workload: Workload, wanted: bool) -> FastNNSteps:
    """With all gradients of biases summed by the products, or none."""
    before = stages.SUMMED_BYTES
    stages.SUMMED_BYTES = 0 if wanted else 1 << 62
    try:
        return FastNNSteps(workload)
    finally:
        stages.SUMMED_BYTES = before


def update_in_products(workload: Workload, wanted: bool) -> FastNNSteps:
    """With the update in the products where `dense.update_is_better_fused` says so, or nowhere."""
    steps = FastNNSteps(workload)
    steps.model.compile(keep_gradients=not wanted)
    steps.step = steps.model.step_for(workload.batch)
    return steps


def gain(fused: FastNNSteps, apart: FastNNSteps) -> str:
    """Paired times of the two, as many steps as take SECONDS."""
    started = time.perf_counter()
    fused.run(3)
    count = max(1, int(SECONDS * 3 / (time.perf_counter() - started)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(PAIRS):
        for steps, seconds in zip((fused, apart), times, strict=True):
            started = time.perf_counter()
            steps.run(count)
            seconds.append(time.perf_counter() - started)
    ratio = paired_ratio(times[1], times[0])
    held = [sum(steps.step.memory().values()) / 1e6 for steps in (fused, apart)]
    interval = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    return f"{interval}, {held[0]:.1f} and {held[1]:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["small", "medium", "wide", "deep", "deep-bn"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    fnn.set_num_threads(arguments.threads)
    for name in arguments.names:
        try:
            workload = parse(name)
        except ValueError as error:
            parser.error(str(error))
        if not workload.batchnorm:  # with it these gradients are 0
            pair = [summed_in_products(workload, wanted) for wanted in (True, False)]
            print(f"{name:8} bias gradients summed by the products {gain(*pair)}", flush=True)
        pair = [update_in_products(workload, wanted) for wanted in (True, False)]
        print(f"{name:8} updates inside the products           {gain(*pair)}", flush=True)


if __name__ == "__main__":
    np.seterr(all="ignore")  # the losses of so many steps do not matter
    main()
