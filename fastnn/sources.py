"""Where rows come from that are too many for memory: arrays on the disk, and batches of any origin.

A source gives its rows in blocks, in one pass after the other. `Sequential.fit`, `evaluate` and
`predict` and the preprocessors read from a source block by block, so that the memory they need does
not depend on how many rows there are:

- `ArraySource`: what has a shape and can be sliced; fastnn makes one by itself of memory-mapped arrays
  (`numpy.memmap`, ``numpy.load(path, mmap_mode="r")``);
- `BatchSource`: batches from an iterable (a list, a data loader, an object with ``__iter__``), or from
  a function that starts a new pass; fastnn makes one by itself of these.

Shuffling. Blocks of neighbouring rows are read in a random order into a *window* of many blocks, and the
rows of the window are shuffled. So reading stays sequential within a block, and a mini-batch mixes rows
of all blocks of its window. Batches of an iterable come in their own order; their rows are shuffled
within the window. Data that fit into one window are shuffled as a whole.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .checks import check_integer
from .inputs import as_weights, check_lengths, check_some_weight

#: A block is read at one go: long enough for a disk, short enough to be in a core's cache while it is
#: checked and copied.
BLOCK_BYTES = 1 << 20

#: A window, in the model's dtype. Training holds two: one is read while the other is trained on.
WINDOW_BYTES = 1 << 25


class Block(NamedTuple):
    """Neighbouring rows of a source: inputs, targets and weights (or None), the number of the first row."""

    x: Any
    y: Any
    first: int
    sample_weight: Any = None


class Source(ABC):
    """Rows in blocks; the base of all sources, and of a user's own.

    Attributes
    ----------
    rows : int or None
        How many a pass has; None while that is not known.
    window_rows : int or None
        How many rows training shuffles with each other (it holds twice as many in memory); None for
        about 32 MB of them.
    """

    rows: int | None = None
    window_rows: int | None = None

    @abstractmethod
    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        """One pass over all rows; with `rng` in an order of blocks that it draws, where possible."""

    def counted_blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        """`blocks`, which are counted: how fastnn reads all sources.

        Raises
        ------
        ValueError
            There are more rows than `rows` says, or fewer (but some).
        """
        seen = 0
        for block in self.blocks(rng):
            seen += len(block.x)
            if self.rows is not None and seen > self.rows:
                raise ValueError(_MISCOUNTED.format(said=self.rows, gives="more"))
            yield block
        if self.rows is not None and 0 < seen < self.rows:
            raise ValueError(_MISCOUNTED.format(said=self.rows, gives=f"only {seen}"))

    def first_blocks(self, rows: int) -> list[Block]:
        """The first blocks, with so many rows together or, where there are fewer, all.

        Raises
        ------
        ValueError
            There are no rows.
        """
        return _first(self.blocks(), rows)

    def first_block(self) -> Block:
        """A block to learn the shape of the rows from; raises as `first_blocks` does."""
        return self.first_blocks(1)[0]

    def check_passes(self, passes: int) -> None:  # noqa: B027 (most sources can be read for ever)
        """Raise ValueError where the rows cannot be read so many times."""

    def transformed(self, preprocessor: Any) -> Source:
        """This source with a fitted preprocessor applied to the inputs of each block.

        Parameters
        ----------
        preprocessor : object with ``transform``
            One of `fastnn.preprocessing`, for example.

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn.preprocessing import Standardize
        >>> source = ArraySource(np.array([[1.0], [3.0]]))
        >>> scaler = Standardize().fit(source)
        >>> [block.x.tolist() for block in source.transformed(scaler).blocks()]
        [[[-1.0], [1.0]]]
        """
        return _Transformed(self, preprocessor)


class ArraySource(Source):
    """The rows of anything that has a shape and can be sliced.

    Parameters
    ----------
    X : array-like (N, …)
        A `numpy.memmap`, an HDF5 or Zarr dataset, or an array in memory of another dtype than the
        model's, which is then converted block by block rather than as a whole.
    y : array-like (N, …), optional
        The targets, in memory or not.
    block_rows : int, optional
        Rows read at one go; by default about 1 MB.
    window_rows : int, optional
        Rows that training shuffles with each other; by default about 32 MB. The larger, the more a
        mini-batch mixes; rows that are sorted (by class, by time) want a window of many blocks.
    sample_weight : array-like (N,), optional
        What each row counts, as in `Sequential.fit`; checked and held in memory, 8 bytes a row.

    Raises
    ------
    TypeError, ValueError
        Not an array, without rows or columns, targets of another length, or wrong weights.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.arange(20, dtype=np.uint8).reshape(10, 2)
    >>> source = ArraySource(X, np.arange(10) % 2, block_rows=4)
    >>> [len(block.x) for block in source.blocks()]
    [4, 4, 2]
    >>> model = fnn.Sequential([fnn.Dense(2)], seed=0)
    >>> history = model.fit(source, batch_size=5, epochs=1)
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        block_rows: int | None = None,
        window_rows: int | None = None,
        sample_weight: Any = None,
    ) -> None:
        shape = getattr(X, "shape", None)
        if shape is None or not hasattr(X, "dtype") or not hasattr(X, "__getitem__"):
            raise TypeError(
                f"X is a {type(X).__name__}, expected an array that can be sliced (numpy.memmap, an "
                "HDF5 or Zarr dataset); batches go into fastnn.sources.BatchSource"
            )
        if len(shape) < 2 or 0 in shape:
            raise ValueError(
                f"X has the shape {tuple(shape)}, expected one row per sample (N, D), not empty"
            )
        if y is not None:
            if not hasattr(y, "__getitem__") or not hasattr(y, "shape"):
                y = np.asarray(y)
            check_lengths(X, y)
        self.X, self.y = X, y
        self.rows = int(shape[0])
        row_bytes = X.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self.block_rows = _rows(block_rows, "block_rows") or max(1, BLOCK_BYTES // row_bytes)
        self.window_rows = _rows(window_rows, "window_rows")
        self.sample_weight = None
        if sample_weight is not None:
            self.sample_weight = as_weights(sample_weight, self.rows, np.dtype(np.float64))
            check_some_weight(self.sample_weight)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        assert self.rows is not None
        count = -(-self.rows // self.block_rows)
        for number in range(count) if rng is None else rng.permutation(count).tolist():
            first = number * self.block_rows
            part = slice(first, first + self.block_rows)
            y, weights = (None if a is None else a[part] for a in (self.y, self.sample_weight))
            yield Block(self.X[part], y, first, weights)


class BatchSource(Source):
    """Batches from an iterable, or from a function that returns an iterator.

    They may be of any number of rows: `fit` cuts them into mini-batches of its own `batch_size`.

    Parameters
    ----------
    batches : iterable, or callable without arguments that returns one
        Each item is a pair (x, y), or x alone, an array (n, …), or (x, y, sample_weight) with what each
        row counts. An object whose ``__iter__`` starts from the beginning, and a callable, can be read
        for many epochs; an iterator (a generator) for one.
    rows : int, optional
        How many rows a pass has, where that is known: for the progress bar and for
        ``training.steps_per_epoch``, which is 0 in the first epoch otherwise.
    window_rows : int, optional
        As in `ArraySource`.

    Raises
    ------
    TypeError
        Neither an iterable nor a callable.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> def batches():
    ...     rng = np.random.default_rng(0)
    ...     for _ in range(5):
    ...         x = rng.standard_normal((20, 3))
    ...         yield x, (x[:, 0] > 0).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(2)], seed=0)
    >>> history = model.fit(BatchSource(batches), batch_size=10, epochs=3)
    >>> sorted(model.evaluate(batches))
    ['accuracy', 'loss']
    """

    def __init__(
        self, batches: Any, rows: int | None = None, window_rows: int | None = None
    ) -> None:
        if not callable(batches) and not isinstance(batches, Iterable):
            raise TypeError(
                f"batches is a {type(batches).__name__}, expected an iterable of batches, or a "
                "function that returns one"
            )
        self.rows = _rows(rows, "rows")
        self.window_rows = _rows(window_rows, "window_rows")
        self._start: Callable[[], Iterable[Any]] | None = None
        self._once: Iterator[Any] | None = None
        if callable(batches) and not isinstance(batches, Iterator):
            self._start = batches
        elif isinstance(batches, Iterator):
            self._once = batches
        else:
            self._start = batches.__iter__

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        first = 0
        for item in self._items():
            weights = None
            if isinstance(item, tuple) and len(item) == 3:
                *item, weights = item
            pair = isinstance(item, (tuple, list)) and len(item) == 2
            if isinstance(item, tuple) and not pair:
                raise TypeError(
                    f"the batch from row {first} is a tuple of {len(item)}, expected x alone, a pair (x, y), "
                    "or (x, y, sample_weight)"
                )
            x, y = item if pair else (item, None)
            x = np.asarray(x)
            if x.ndim < 2:
                raise ValueError(
                    f"the batch from row {first} has the shape {x.shape}, expected (n, D), alone or "
                    "as a pair (x, y)"
                )
            if y is not None:
                check_lengths(x, y, (f"the batch from row {first}", "its y"))
            if len(x):
                yield Block(x, y, first, weights)
            first += len(x)

    def _items(self) -> Iterator[Any]:
        if self._start is not None:
            batches = self._start()
            if not isinstance(batches, Iterable):
                raise TypeError(
                    f"the function returned a {type(batches).__name__}, expected an iterable of batches"
                )
            return iter(batches)
        if self._once is None:
            raise ValueError(f"the batches have been read already: {_ONCE}")
        items, self._once = self._once, None
        return items

    def first_blocks(self, rows: int) -> list[Block]:
        if self._once is None:
            return super().first_blocks(rows)
        seen: list[Any] = []
        items = self._once

        def noted() -> Iterator[Any]:
            for item in items:
                seen.append(item)
                yield item

        blocks = _first(BatchSource(noted()).blocks(), rows)
        self._once = chain(seen, items)  # to be read again
        return blocks

    def check_passes(self, passes: int) -> None:
        if self._start is None and passes > 1:
            raise ValueError(f"the batches are needed {passes} times: {_ONCE}")


class _Transformed(Source):
    """Another source through a preprocessor."""

    def __init__(self, source: Source, preprocessor: Any) -> None:
        self.source, self.preprocessor = source, preprocessor
        self.rows, self.window_rows = source.rows, source.window_rows

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        return map(self._apply, self.source.blocks(rng))

    def first_blocks(self, rows: int) -> list[Block]:
        return [self._apply(block) for block in self.source.first_blocks(rows)]

    def check_passes(self, passes: int) -> None:
        self.source.check_passes(passes)

    def _apply(self, block: Block) -> Block:
        return block._replace(x=self.preprocessor.transform(block.x))


_ONCE = (
    "an iterator gives them once; pass a function that makes a new one, or an object whose __iter__ "
    "starts from the beginning"
)


_MISCOUNTED = (
    "the source is said to have {said} rows and gives {gives}: correct its rows=, or leave it out"
)


def _first(blocks: Iterator[Block], rows: int) -> list[Block]:
    taken: list[Block] = []
    while sum(len(block.x) for block in taken) < rows:
        if (block := next(blocks, None)) is None:
            break
        taken.append(block)
    if not taken:
        raise ValueError("the source has no rows")
    return taken


def _rows(value: Any, name: str) -> int | None:
    return None if value is None else check_integer(value, name, 1, 2**62)


def is_batches(data: Any) -> bool:
    """Whether `data` are to be read batch by batch: a source, a callable, or an iterable that is no array.

    Lists and tuples are arrays here, as everywhere in fastnn.
    """
    if isinstance(data, Source) or callable(data):
        return True
    arrays = ("__array__", "__getitem__", "shape")
    return isinstance(data, Iterable) and not any(hasattr(data, name) for name in arrays)


def is_mapped(data: Any) -> bool:
    """Whether an array, or what it is a view of, lies in a file that is mapped into memory."""
    while isinstance(data, np.ndarray):
        if isinstance(data, np.memmap):
            return True
        data = data.base
    return isinstance(data, mmap.mmap)


def as_source(X: Any, y: Any = None, name: str = "X", sample_weight: Any = None) -> Source | None:
    """The source that data stand for, or None where they are an array in memory.

    Raises
    ------
    TypeError
        Targets or weights are given beside batches, which bring their own.
    ValueError
        As `ArraySource`.
    """
    if is_batches(X):
        if y is not None:
            raise TypeError(
                f"{name} are batches, which bring their targets as pairs (x, y): leave y out"
            )
        if sample_weight is not None:
            raise TypeError(
                f"{name} are batches, which bring their weights as (x, y, sample_weight), or an ArraySource, "
                "which takes sample_weight itself: leave it out here"
            )
        return X if isinstance(X, Source) else BatchSource(X)
    return ArraySource(X, y, sample_weight=sample_weight) if is_mapped(X) else None
