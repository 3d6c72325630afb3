"""Inverted dropout with a mask that is a function of (seed, offset, element) and is never stored.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". The
random words are those of Philox4x32-7: Salmon, Moraes, Dror and Shaw 2011, "Parallel random
numbers: as easy as 1, 2, 3", section 3.3 (seven rounds are the fewest that pass all its tests, table
2). They depend on the element's number alone, so the mask is the same however the work is cut.
"""

from __future__ import annotations

import numpy as np

from fastnn import contracts
from fastnn.checks import Array

_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key from round to round
_GROUP = 512  # elements that share 256 words


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


def dropout_words(count: int, seed: int, offset: int) -> Array:
    """The random 32-bit words of elements 0 to count - 1, in C order.

    Key: the low and the high half of the seed. Counter: its number (low, high), then the offset (low,
    high). Word w of a group of 512 elements is word w % 4 of counter 64 * group + w // 4; element e of
    the group has word e if e < 256, else word e - 256 with its halves exchanged.
    """
    groups, half = -(-count // _GROUP), _GROUP // 2
    number = np.arange(groups * half // 4, dtype=np.uint64)
    counter = np.empty((len(number), 4), np.uint32)
    counter[:, 0] = number & _LOW32
    counter[:, 1] = number >> _SHIFT32
    counter[:, 2] = offset % 2**32
    counter[:, 3] = offset >> 32
    words = philox4x32(counter, key=(seed % 2**32, seed >> 32)).reshape(groups, half)
    exchanged = words << np.uint32(16) | words >> np.uint32(16)
    return np.concatenate([words, exchanged], axis=1).reshape(-1)[:count]


def dropout(x: Array, p: float, seed: int, offset: int = 0, *, out: Array | None = None) -> Array:
    """Each element is 0 with probability p, else multiplied by 1 / (1 - p).

    Element i (in C order) is dropped where its random word is less than floor(p * 2^32). The scale is
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
    array([2., 0., 0., 0., 0., 2., 0., 2.])
    """
    return _masked(x, "x", p, seed, offset, out, "out")


def dropout_backward(
    dy: Array, p: float, seed: int, offset: int = 0, *, dx_out: Array | None = None
) -> Array:
    """dx: the same mask and scale as `dropout`, on dy.

    Examples
    --------
    >>> dropout_backward(np.ones(8), p=0.5, seed=1)
    array([2., 0., 0., 0., 0., 2., 0., 2.])
    """
    return _masked(dy, "dy", p, seed, offset, dx_out, "dx_out")


@np.errstate(all="ignore")
def _masked(
    x: Array, x_name: str, p: float, seed: int, offset: int, out: Array | None, out_name: str
) -> Array:
    p, seed, offset, out = contracts.dropout(x, x_name, p, seed, offset, out, out_name)
    dropped = dropout_words(x.size, seed, offset) < int(p * 2**32)
    out[...] = np.where(dropped.reshape(x.shape), 0, x * x.dtype.type(1 / (1 - p)))
    return out
