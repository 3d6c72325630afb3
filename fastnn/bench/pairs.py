"""Alternated rounds and paired ratios: how two contenders are compared on a machine that is shared.

A single time says as much about the neighbours as about the code. Two rounds of a twentieth of a
second, one right after the other, meet the same clock and the same neighbours; their ratio is
what a pair gives, and the median over many pairs is what is reported.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from fastnn.bench.client import WorkerProcess


@dataclass(frozen=True)
class Effort:
    """How long to measure one task.

    `min_pairs` pairs of rounds of about `round_seconds` each (or of one step, where a step takes
    longer), and more, up to `max_pairs`, until `budget` seconds have passed.
    """

    round_seconds: float
    min_pairs: int
    max_pairs: int
    budget: float


STEPS = Effort(round_seconds=0.05, min_pairs=30, max_pairs=60, budget=15.0)
QUICK_STEPS = Effort(round_seconds=0.02, min_pairs=5, max_pairs=15, budget=2.0)
# Calls come by the hundred: short rounds.
CALLS = Effort(round_seconds=0.004, min_pairs=30, max_pairs=40, budget=0.5)
QUICK_CALLS = Effort(round_seconds=0.002, min_pairs=5, max_pairs=9, budget=0.1)


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios, its 95% bootstrap interval and the number of pairs."""

    median: float
    low: float
    high: float
    pairs: int


def paired_ratio(
    numerators: Sequence[float], denominators: Sequence[float], resamples: int = 2000
) -> Ratio:
    """Median of ``numerators[i] / denominators[i]`` with a percentile bootstrap interval.

    Pairs are drawn with replacement, as wholes, so that what both sides of a pair share
    cancels in the interval too. The draw is seeded: the same rounds give the same interval.

    >>> paired_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    Ratio(median=2.0, low=2.0, high=2.0, pairs=3)
    """
    ratios = np.asarray(numerators, np.float64) / np.asarray(denominators, np.float64)
    draws = np.random.default_rng(0).integers(0, len(ratios), (resamples, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


@dataclass
class Rounds:
    """Seconds per step of every round of a peer (`theirs`), each beside one of ours (`ours`)."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def speedup(self) -> Ratio:
        """How many times faster ours is."""
        return paired_ratio(self.theirs, self.ours)

    def their_seconds(self) -> float:
        """Median seconds per step of the peer."""
        return median(self.theirs)


@dataclass
class Measured:
    """Everything one alternation gave.

    `peaks` holds flop/s, each measured right before a round of ours in `beside_peak` (seconds
    per step), so that the fraction of the peak is paired too.
    """

    peers: dict[str, Rounds]
    peaks: list[float] = field(default_factory=list)
    beside_peak: list[float] = field(default_factory=list)

    def our_seconds(self) -> float:
        """Median seconds per step over all rounds of ours."""
        alone = self.beside_peak
        return median([t for rounds in self.peers.values() for t in rounds.ours] + alone)

    def peak_fraction(self, flops: int) -> Ratio | None:
        """Share of the FMA peak that ours reaches with `flops` of arithmetic per step."""
        if not self.peaks:
            return None
        floors = [flops / peak for peak in self.peaks]
        return paired_ratio(floors, self.beside_peak)


def alternate(
    ours: WorkerProcess,
    peers: Sequence[WorkerProcess],
    effort: Effort,
    machine: WorkerProcess | None = None,
    dtype: str = "float32",
) -> Measured:
    """Time what the workers have built, in turns.

    One cycle is: peak, ours; then for each peer a pair, ours first in even cycles and theirs
    first in odd ones, so that a drift favours nobody. A worker that is not asked sleeps.
    """
    steps = {
        worker.name: int(worker.ask("calibrate", seconds=effort.round_seconds)["steps"])
        for worker in (ours, *peers)
    }
    # With more than one thread, give the pool of the last round the time to fall asleep.
    pause = 0.005 if ours.threads > 1 else 0.0

    def seconds(worker: WorkerProcess) -> float:
        if pause:
            time.sleep(pause)
        answer = worker.ask("time", steps=steps[worker.name])
        return float(answer["seconds"]) / int(answer["steps"])

    measured = Measured({peer.name: Rounds() for peer in peers})
    start = time.monotonic()
    for cycle in range(effort.max_pairs):
        if cycle >= effort.min_pairs and time.monotonic() - start > effort.budget:
            break
        if machine is not None:
            peak = machine.ask("peak", dtype=dtype, seconds=min(0.02, effort.round_seconds))
            measured.peaks.append(float(peak["flops"]))
        if machine is not None or not peers:
            measured.beside_peak.append(seconds(ours))
        for peer in peers:
            rounds = measured.peers[peer.name]
            first, second = (peer, ours) if cycle % 2 else (ours, peer)
            times = {first.name: seconds(first), second.name: seconds(second)}
            rounds.ours.append(times[ours.name])
            rounds.theirs.append(times[peer.name])
    return measured
