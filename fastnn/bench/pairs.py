"""Alternated rounds and paired ratios: how two contenders are compared on a machine that is shared.

A single time says as much about the neighbours as about the code. Two rounds of a twentieth of a
second, one right after the other, meet the same clock and the same neighbours; their ratio is
what a pair gives, and the median over many pairs is what is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from fastnn.bench.client import WorkerProcess


@dataclass(frozen=True)
class Effort:
    """How long to measure one task.

    `min_pairs` undisturbed pairs of rounds of about `round_seconds` each (or of one step, where a
    step takes longer), and more, up to `max_pairs`, until `budget` seconds have passed. After
    `limit` seconds it ends with the pairs that there are, three at least. Each round follows an
    untimed step, which brings back the caches, but a round of a single step only if `warm`.
    """

    round_seconds: float
    min_pairs: int
    max_pairs: int
    budget: float
    limit: float = 600.0
    warm: bool = True


FEWEST_PAIRS = 3
STEPS = Effort(round_seconds=0.05, min_pairs=30, max_pairs=60, budget=10.0)
# The pairs must fit into a share of a minute, also those of steps of 60 ms with four contenders.
QUICK_STEPS = Effort(
    round_seconds=0.005, min_pairs=30, max_pairs=30, budget=1.5, limit=20.0, warm=False
)
# Calls come by the hundred: short rounds.
CALLS = Effort(round_seconds=0.004, min_pairs=30, max_pairs=40, budget=0.5)
# For a picture of all kernels, of ours alone.
ALONE = Effort(round_seconds=0.004, min_pairs=7, max_pairs=7, budget=0.05, limit=1.0)
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


# A round of one thread that was on its core for less than this share met another process there.
UNDISTURBED = 0.9


@dataclass(frozen=True)
class Round:
    """Seconds per step, and whether the process had its core to itself."""

    seconds: float
    undisturbed: bool


@dataclass
class Rounds:
    """Every round of a peer (`theirs`), each beside one of ours (`ours`)."""

    ours: list[Round] = field(default_factory=list)
    theirs: list[Round] = field(default_factory=list)

    def undisturbed(self) -> int:
        """How many pairs had the core to themselves in both rounds."""
        return sum(a.undisturbed and b.undisturbed for a, b in self._pairs())

    def settle(self, enough: int) -> float:
        """Leave out the disturbed pairs if `enough` others are there, else keep them all.

        Which contender another process interrupts is chance, so leaving those pairs out favours
        nobody. Returns the share of the remaining pairs that are disturbed.
        """
        if self.undisturbed() >= enough:
            kept = [(a, b) for a, b in self._pairs() if a.undisturbed and b.undisturbed]
            self.ours, self.theirs = [a for a, _ in kept], [b for _, b in kept]
        return 1 - self.undisturbed() / len(self.ours)

    def speedup(self) -> Ratio:
        """How many times faster ours is."""
        return paired_ratio([r.seconds for r in self.theirs], [r.seconds for r in self.ours])

    def their_seconds(self) -> float:
        """Median seconds per step of the peer."""
        return median(r.seconds for r in self.theirs)

    def _pairs(self) -> list[tuple[Round, Round]]:
        return list(zip(self.ours, self.theirs, strict=True))


@dataclass
class Measured:
    """Everything one alternation gave.

    `peaks` holds what the machine could do (flop/s, or bytes/s), each measured right before a round
    of ours in `beside_peak`, so that the fraction of the peak is paired too.
    """

    peers: dict[str, Rounds]
    peaks: list[float] = field(default_factory=list)
    beside_peak: list[Round] = field(default_factory=list)
    disturbed: float = 0.0

    def settle(self, enough: int) -> None:
        """Leave out what was disturbed, where enough is left (`Rounds.settle`)."""
        shares = [rounds.settle(enough) for rounds in self.peers.values()]
        clean = [i for i, r in enumerate(self.beside_peak) if r.undisturbed]
        if len(clean) >= enough:
            self.beside_peak = [self.beside_peak[i] for i in clean]
            self.peaks = [self.peaks[i] for i in clean] if self.peaks else []
        shares.append(sum(not r.undisturbed for r in self.beside_peak) / len(self.beside_peak))
        self.disturbed = max(shares)

    def our_seconds(self) -> float:
        """Median seconds per step over all rounds of ours."""
        rounds = [*self.beside_peak, *(r for peer in self.peers.values() for r in peer.ours)]
        return median(r.seconds for r in rounds)

    def peak_fraction(self, work: int) -> Ratio | None:
        """Share of the peak that ours reaches with `work` (flops, or bytes) per step."""
        if not self.peaks:
            return None
        floors = [work / peak for peak in self.peaks]
        return paired_ratio(floors, [r.seconds for r in self.beside_peak])


def alternate(
    ours: WorkerProcess,
    peers: Sequence[WorkerProcess],
    effort: Effort,
    peak: Callable[[], float] | None = None,
) -> Measured:
    """Time what the workers have built, in turns.

    One cycle is: peak, ours; then for each peer a pair, ours first in even cycles and theirs
    first in odd ones, so that a drift favours nobody. A worker that is not asked sleeps. Cycles
    go on until `effort` is satisfied with undisturbed pairs, or, on a busy machine, until three
    budgets are spent, and in no case beyond its limit.
    """
    steps = {
        worker.name: int(worker.ask("calibrate", seconds=effort.round_seconds)["steps"])
        for worker in (ours, *peers)
    }
    # With more than one thread, give the pool of the last round the time to fall asleep.
    pause = 0.005 if ours.threads > 1 else 0.0

    def run(worker: WorkerProcess) -> Round:
        if pause:
            time.sleep(pause)
        answer = worker.ask("time", steps=steps[worker.name], warm=effort.warm)
        # Threads that wait for one another are not on a core either: the share tells nothing.
        undisturbed = worker.threads > 1 or answer["share"] >= UNDISTURBED
        return Round(answer["seconds"] / answer["steps"], undisturbed)

    measured = Measured({peer.name: Rounds() for peer in peers})
    start = time.monotonic()
    while True:
        cycles = len(measured.beside_peak)
        good = min((r.undisturbed() for r in measured.peers.values()), default=cycles)
        elapsed = time.monotonic() - start
        if good >= effort.max_pairs or (good >= effort.min_pairs and elapsed > effort.budget):
            break
        if cycles >= effort.min_pairs and elapsed > 3 * effort.budget:
            break
        if cycles >= FEWEST_PAIRS and elapsed > effort.limit:
            break
        if peak is not None:
            measured.peaks.append(peak())
        measured.beside_peak.append(run(ours))
        for peer in peers:
            rounds = measured.peers[peer.name]
            if cycles % 2:
                rounds.theirs.append(run(peer))
                rounds.ours.append(run(ours))
            else:
                rounds.ours.append(run(ours))
                rounds.theirs.append(run(peer))
    measured.settle(effort.min_pairs)
    return measured
