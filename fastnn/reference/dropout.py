"""Inverted dropout with a mask that is a function of (seed, offset, element) and is never stored.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". The
random words are those of Philox4x32-7: Salmon, Moraes, Dror and Shaw 2011, "Parallel random
numbers: as easy as 1, 2, 3", section 3.3 (seven rounds are the fewest that pass all its tests, table
2). They depend on the element's number alone, so the mask is the same however the work is cut.

An element is dropped where a random number of 32 bits is less than a threshold. Its highest eight bits
are drawn one at a time, for many elements side by side: a bit that differs from the threshold's
decides, and with p = 0.5 the first one decides all. The other 24 bits, which one element in 256 needs,
are a word of its own.
"""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Array

_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key from round to round
_GROUP = 4096  # elements whose bits lie together


def philox4x32(counter: Array, key: tuple[int, int], rounds: int = 7) -> Array:
    """Philox on counters (..., 4) of uint32 with a key of two 32-bit words.

    Examples
    --------
    >>> [hex(word) for word in philox4x32(np.zeros(4, np.uint32), key=(0, 0))]
    ['0x5f6fb709', '0xd893f64', '0x4f121f81', '0x4f730a48']
    """
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    for turn in range(rounds):
        k0, k1 = (np.uint64((k + turn * w) % 2**32) for k, w in zip(key, _WEYL, strict=True))
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1 = (product1 >> _SHIFT32) ^ c1 ^ k0, product1 & _LOW32
        c2, c3 = (product0 >> _SHIFT32) ^ c3 ^ k1, product0 & _LOW32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def random_words(number: Array, seed: int, offset: int) -> Array:
    """Four random words for each number of a counter.

    Key: the low and the high half of the seed. Counter: its number (low, high), then the offset (low,
    high).
    """
    counter = np.empty((*number.shape, 4), np.uint32)
    counter[..., 0] = number & _LOW32
    counter[..., 1] = number >> _SHIFT32
    counter[..., 2] = offset % 2**32
    counter[..., 3] = offset >> 32
    return philox4x32(counter, key=(seed % 2**32, seed >> 32))


def random_numbers(count: int, seed: int, offset: int) -> Array:
    """The random numbers of elements 0 to count - 1, in C order.

    Group g of 4096 elements has the counters from 2048 g on. Element e of it has as its bit number p
    from the top, p < 8, bit e % 32 of word e // 32 % 4 of counter 32 p + e // 128, and as its lower 24 bits
    the upper ones of word e % 4 of counter 1024 + e // 4.
    """
    groups = -(-count // _GROUP)
    first = np.arange(groups, dtype=np.uint64)[:, None] * np.uint64(2048)
    rest = random_words(first + np.uint64(1024) + np.arange(1024, dtype=np.uint64), seed, offset)
    numbers = rest.reshape(groups, _GROUP) >> np.uint32(8)
    for place in range(8):
        counters = first + np.arange(32 * place, 32 * place + 32, dtype=np.uint64)
        words = random_words(counters, seed, offset).astype("<u4").reshape(groups, 128)
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        numbers |= bits.astype(np.uint32) << np.uint32(31 - place)
    return numbers.reshape(-1)[:count]


def dropout(x: Array, p: float, seed: int, offset: int = 0, *, out: Array | None = None) -> Array:
    """Each element is 0 with probability p, else multiplied by 1 / (1 - p).

    Element i (in C order) is dropped where its random number is less than floor(p * 2^32). The scale is
    rounded to the dtype of x first. A dropped element is 0 whatever it was, NaN included.

    Parameters
    ----------
    x
        Any shape.
    p : float
        In [0, 1).
    seed, offset : int
        In [0, 2^64). A training run keeps its seed and counts the offset up (a step, a layer).

    Examples
    --------
    >>> dropout(np.ones(8), p=0.5, seed=1)
    array([2., 2., 0., 2., 2., 2., 2., 0.])
    """
    return _masked(x, "x", p, seed, offset, out, "out")


def dropout_backward(
    dy: Array, p: float, seed: int, offset: int = 0, *, dx_out: Array | None = None
) -> Array:
    """dx: the same mask and scale as `dropout`, on dy.

    Examples
    --------
    >>> dropout_backward(np.ones(8), p=0.5, seed=1)
    array([2., 2., 0., 2., 2., 2., 2., 0.])
    """
    return _masked(dy, "dy", p, seed, offset, dx_out, "dx_out")


@np.errstate(all="ignore")
def _masked(
    x: Array, x_name: str, p: float, seed: int, offset: int, out: Array | None, out_name: str
) -> Array:
    p, seed, offset, out = contracts.dropout(x, x_name, p, seed, offset, out, out_name)
    dropped = random_numbers(x.size, seed, offset) < int(p * 2**32)
    out[...] = np.where(dropped.reshape(x.shape), 0, x * x.dtype.type(1 / (1 - p)))
    return out
