"""What the steps read: data in memory as one window, a source as one window after the other.

A window is a matrix of rows with their targets, an order of them, and the mini-batches that it is cut
into. A source has two windows, whose arrays are allocated once and filled in turns, one by a thread of its
own while the steps run on the other. So the memory of an epoch does not depend on its rows, and reading
costs little: 100-64-10 with batch norm, on 1,000,000 rows in mini-batches of 1,000 from the disk cache, is
trained at 1.10 times the speed of data in memory on one core of two and at 0.93 where the steps wait for
each window (benchmarks/out_of_core.py, --no-read-ahead). On both cores it was not shown to help: 0.99
against 0.84 in one run, 0.86 against 0.93 in another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import NamedTuple, Protocol

import numpy as np

from .inputs import Shape, as_rows, check_finite, evenly
from .losses import Loss
from .sample_weights import prepare_weights
from .sources import WINDOW_BYTES, Block, Source

Rng = np.random.Generator

#: What an epoch that is left early gives its reader: many blocks, and too little for a person to notice.
SECONDS_TO_LEAVE = 0.1


class Stretch(NamedTuple):
    """Steps of one size that follow each other in an epoch."""

    rows: int
    first: int
    steps: int


def plan_epoch(n: int, batch_size: int, min_rows: int = 1) -> list[Stretch]:
    """Cut n rows into mini-batches.

    The last one takes what is left over. Where that is less than `min_rows` (two with batch norm),
    it joins the batch before it.

    Examples
    --------
    >>> plan_epoch(10, 4)
    [Stretch(rows=4, first=0, steps=2), Stretch(rows=2, first=8, steps=1)]
    >>> plan_epoch(9, 4, min_rows=2)
    [Stretch(rows=4, first=0, steps=1), Stretch(rows=5, first=4, steps=1)]
    """
    full, rest = divmod(n, batch_size)
    if 0 < rest < min_rows and full:
        full -= 1
        rest += batch_size
    plan = [Stretch(batch_size, 0, full), Stretch(rest, full * batch_size, 1)]
    return [stretch for stretch in plan if stretch.rows and stretch.steps]


class Window(NamedTuple):
    """Rows in memory, the order to train on them, and the mini-batches of that order."""

    X: np.ndarray
    targets: np.ndarray
    order: np.ndarray
    plan: list[Stretch]
    weights: np.ndarray | None = None


class Feed(Protocol):
    """What an epoch is read from.

    Attributes
    ----------
    samples, steps : int
        Of an epoch; 0 while they are not known.
    batch_size : int
    """

    samples: int
    steps: int
    batch_size: int

    def windows(self, rng: Rng | None) -> Generator[Window, None, None]:
        """The windows of one epoch, with `rng` in a new order; each is read before the next one."""
        ...

    def sample(self, count: int) -> tuple[np.ndarray, ...]:
        """At most `count` rows and their targets, evenly spaced; of a source, in its first blocks.

        Where rows have weights, as often as these say: so a mean over the sample needs none.
        """
        ...


class InMemory:
    """All rows as one window."""

    def __init__(
        self, X: np.ndarray, targets: np.ndarray, batch_size: int, min_rows: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.X, self.targets, self.weights = X, targets, weights
        self.plan = plan_epoch(len(X), batch_size, min_rows)
        self.samples, self.batch_size = len(X), self.plan[0].rows
        self.steps = _steps(self.plan)
        self._natural = np.arange(len(X))
        self._order = self._natural.copy()

    def windows(self, rng: Rng | None) -> Generator[Window, None, None]:
        if rng is not None:
            # From the natural order each time: two fits of one epoch are one fit of two.
            np.copyto(self._order, self._natural)
            rng.shuffle(self._order)
        yield Window(self.X, self.targets, self._order, self.plan, self.weights)

    def sample(self, count: int) -> tuple[np.ndarray, ...]:
        return _sample(count, self.X, self.targets, self.weights)


class Streamed:
    """The rows of a source, window by window.

    A window trains on whole mini-batches; as many rows as one of them has wait for the next window, so
    that the last one of the epoch is never shorter than that. Without shuffling the mini-batches are
    therefore those of the same rows in memory, and so they are with it where all rows fit into a window.
    """

    def __init__(
        self, source: Source, convert: Convert, row_shape: Shape, itemsize: int,
        batch_size: int, min_rows: int = 1,
    ) -> None:  # fmt: skip
        self.source, self.batch_size, self.min_rows = source, batch_size, min_rows
        rows = source.window_rows or WINDOW_BYTES // (itemsize * math.prod(row_shape))
        self.window_rows = max(1, rows // batch_size) * batch_size
        self.samples = self.steps = 0
        capacity = self.window_rows + batch_size
        self._at_once = source.rows is not None and source.rows < capacity
        if source.rows is not None:
            self._count(source.rows)
            capacity = min(capacity, source.rows + 1)
        self._convert = convert
        self._buffers = _Buffer(capacity), _Buffer(capacity)

    def _count(self, samples: int) -> None:
        self.samples = samples
        self.steps = _steps(plan_epoch(samples, self.batch_size, self.min_rows))

    def windows(self, rng: Rng | None) -> Generator[Window, None, None]:
        if self._at_once:
            yield from self._windows(self.source.counted_blocks(), rng)
            return
        # A stream of its own: how much is drawn from it depends on how far ahead was read.
        own = None if rng is None else np.random.default_rng(rng.integers(2**63))
        yield from _ahead(self.source.counted_blocks(own), partial(self._windows, rng=own))

    def sample(self, count: int) -> tuple[np.ndarray, ...]:
        parts = [self._convert(block) for block in self.source.first_blocks(count)]
        buffer = _Buffer(sum(len(arrays[0]) for arrays in parts))
        for arrays in parts:
            buffer.put(arrays)
        return _sample(count, *buffer.content())

    def _windows(self, blocks: Iterator[Block], rng: Rng | None) -> Iterator[Window]:
        buffer, other = self._buffers
        buffer.filled = done = 0
        for block in blocks:
            arrays, at = self._convert(block), 0
            while at < len(arrays[0]):
                at += buffer.put(arrays, at)
                if buffer.full:
                    window = self._window(buffer, self.window_rows, rng)
                    yield window
                    rest = window.order[self.window_rows :]
                    other.filled = 0
                    other.put(tuple(array[rest] for array in buffer.content()))
                    buffer, other = other, buffer
                    done += self.window_rows
        if buffer.filled:
            yield self._window(buffer, buffer.filled, rng)
        elif not done:
            raise ValueError(
                "the source has no rows; if it had some in an epoch before, it is a function that gives the "
                "same iterator again: let it begin a new pass each time"
            )
        self._count(done + buffer.filled)

    def _window(self, buffer: _Buffer, train: int, rng: Rng | None) -> Window:
        X, targets, *weights = buffer.content()
        order = np.arange(len(X))
        if rng is not None:
            rng.shuffle(order)
        plan = plan_epoch(train, self.batch_size, self.min_rows)
        return Window(X, targets, order, plan, *weights)


Make = Callable[[Iterator[Block]], Iterator[Window]]


def _ahead(blocks: Iterator[Block], make: Make) -> Iterator[Window]:
    """What `make` makes of the blocks, each window in another thread while the one before it is trained on.

    An epoch that is left early waits for the thread where that soon comes to the end of a block, but not
    where an iterator of the user's blocks it: then the thread ends by itself, having asked for nothing more.
    So it is a daemon, and no executor's, for which Python would wait when it exits.
    """
    reader = _Reader(blocks, make)
    reader.start()
    try:
        reader.wanted.put(True)
        while (window := reader.made()) is not None:
            reader.wanted.put(True)
            yield window
    finally:
        reader.leave()


class _Left(Exception):
    """Nobody waits for the rows any more."""


def _watched(blocks: Iterator[Block], left: Event) -> Iterator[Block]:
    # knows no more of the reader: windows and the user's iterator go with the reader, in no cycle
    for block in blocks:
        if left.is_set():
            raise _Left
        yield block


class _Reader(Thread):
    def __init__(self, blocks: Iterator[Block], make: Make) -> None:
        super().__init__(name="fastnn-reader", daemon=True)
        self.wanted: SimpleQueue[bool] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Window | None, BaseException | None]] = SimpleQueue()
        self._left = Event()
        self._windows = make(_watched(blocks, self._left))

    def run(self) -> None:
        while self.wanted.get():
            try:
                self._answers.put((next(self._windows, None), None))
            except BaseException as error:  # for the thread that waits for the window
                self._answers.put((None, error))

    def made(self) -> Window | None:
        window, error = self._answers.get()
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame
        return window

    def leave(self) -> None:
        self._left.set()
        self.wanted.put(False)
        self.join(SECONDS_TO_LEAVE)


#: What a block becomes: rows as a model takes them, and where there is a loss targets, and weights if any.
Convert = Callable[[Block], tuple[np.ndarray, ...]]


def converter(
    dtype: np.dtype,
    row_shape: Shape,
    loss: Loss | None = None,
    output_shape: Shape = (),
    name: str = "X",
    finite: bool = True,
) -> Convert:
    """From a block of a source to rows, and with a loss to targets and weights, as a model takes them.

    The function raises, block by block, what `as_rows`, `check_finite`, `Loss.prepare_targets` and
    `prepare_weights` do.
    """

    def convert(block: Block) -> tuple[np.ndarray, ...]:
        x = as_rows(block.x, dtype, row_shape, name)
        if finite:
            check_finite(x, block.x, name, block.first)
        if loss is None:
            return (x,)
        if block.y is None:
            raise ValueError(f"{name} has no targets: give batches as pairs (x, y)")
        rows = f"y[{block.first}:{block.first + len(x)}]"
        targets = loss.prepare_targets(block.y, len(x), output_shape, dtype, rows)
        weights = prepare_weights(
            loss, block.sample_weight, len(x), dtype, first=block.first, may_vanish=True
        )
        return (x, targets) if weights is None else (x, targets, weights)

    return convert


def chunks(source: Source, convert: Convert, rows: int) -> Iterator[tuple[np.ndarray, ...]]:
    """All that `convert` makes of a source, in order, so many rows at a time, in arrays that are reused."""
    buffer = _Buffer(rows)
    for block in source.counted_blocks():
        arrays, at = convert(block), 0
        while at < len(arrays[0]):
            at += buffer.put(arrays, at)
            if buffer.full:
                yield buffer.content()
                buffer.filled = 0
    if buffer.filled:
        yield buffer.content()


class _Buffer:
    """Arrays for so many rows, allocated when it is known what is in a row."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.filled = capacity, 0
        self._arrays: tuple[np.ndarray, ...] = ()

    @property
    def full(self) -> bool:
        return self.filled == self.capacity

    def put(self, arrays: tuple[np.ndarray, ...], at: int = 0) -> int:
        """Copy rows from `at` on, as many as there is room for, and return how many."""
        if not self._arrays:
            self._arrays = tuple(np.empty((self.capacity, *a.shape[1:]), a.dtype) for a in arrays)
        if len(arrays) != len(self._arrays):
            raise ValueError(
                "some batches have weights of their rows and some have none: give them to all, or to none"
            )
        n = min(len(arrays[0]) - at, self.capacity - self.filled)
        for held, array in zip(self._arrays, arrays, strict=True):
            if held.shape[1:] != array.shape[1:]:
                raise ValueError(
                    f"the targets of a row have the shape {array.shape[1:]}, those of the batches "
                    f"before {held.shape[1:]}: give all batches the same kind of targets"
                )
            held[self.filled : self.filled + n] = array[at : at + n]
        self.filled += n
        return n

    def content(self) -> tuple[np.ndarray, ...]:
        return tuple(array[: self.filled] for array in self._arrays)


def _sample(
    count: int, X: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    rows = evenly(len(X), count, weights)
    return X[rows], targets[rows]


def _steps(plan: list[Stretch]) -> int:
    return sum(stretch.steps for stretch in plan)
