"""What the cores could do: FMA peak and copy bandwidth, measured beside the comparison."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Bytes read and written together: inside L1, inside L2, inside L3 of most machines, outside.
BANDWIDTH_SIZES = {"L1": 16 << 10, "L2": 512 << 10, "L3": 8 << 20, "memory": 256 << 20}


def fma_peak(dtype: str, seconds: float = 0.02, threads: int = 1) -> float:
    """Multiply-adds that `threads` cores finish, in flop/s, with independent chains of FMAs.

    All threads run at the same time, because the clock of one core may depend on the others.
    Uses the instruction set that fastnn uses (`FASTNN_ISA`). The best of rounds of about half a
    millisecond: what disturbs a round only makes it slower.

    Raises
    ------
    RuntimeError
        fastnn was built without the kernel that measures it.
    """
    try:
        from fastnn._kernels import machine

        kernel = machine.fma_peak
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"the FMA peak cannot be measured: {error}") from None

    def best(_: int) -> float:
        return max(float(kernel(dtype, 0.01)) for _ in range(max(1, round(seconds / 0.01))))

    if threads == 1:
        return best(0)
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(best, range(threads)))


def copy_bandwidth(size: int, seconds: float = 0.05, threads: int = 1) -> float:
    """Bytes read plus bytes written per second where one array is made from another, both together
    of `size` bytes: the better of the C library's copy (which goes past the caches where the arrays
    are large) and y = a·x in vectors (which is faster inside them). Of `threads` cores each copies a
    part, all at the same time, for they share L3 and the memory.

    The best of many rounds of a millisecond: what disturbs a copy only makes it slower.
    """
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            each = pool.map(copy_bandwidth, [size // threads] * threads, [seconds] * threads)
            return sum(each)
    source = np.ones(max(1, size // 8), np.float32)
    target = np.zeros_like(source)
    copies = 1
    best, spent = 0.0, 0.0
    while spent < seconds / 2 or not best:
        start = time.perf_counter()
        for _ in range(copies):
            np.copyto(target, source)
        elapsed = time.perf_counter() - start
        spent += elapsed
        if elapsed < 1e-3:
            copies *= 2
        else:
            best = max(best, 2 * source.nbytes * copies / elapsed)
    try:
        from fastnn._kernels import machine

        return max(best, machine.scale_bandwidth(size, seconds / 2))
    except ImportError:
        return best


def bandwidths(seconds: float = 0.05, threads: int = 1) -> dict[str, float]:
    """Copy bandwidth for each of `BANDWIDTH_SIZES`, in bytes per second; each core has its L1 and L2."""
    return {
        place: copy_bandwidth(size * (threads if place in ("L1", "L2") else 1), seconds, threads)
        for place, size in BANDWIDTH_SIZES.items()
    }
