# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The machine: which vector code runs, on how many threads, and how a list of operations is run.

Design
------
1. The table of kernels is chosen once, at import: the best variant that this CPU and operating system
   support, or the one that the environment variable FASTNN_ISA names.
2. All work goes through `run_list`: a list of operations, each cut into blocks, run by the calling
   thread alone or by a team (team.h).  How an operation is cut depends on its shapes alone.
3. The number of threads: `set_num_threads`, else FASTNN_NUM_THREADS, else OMP_NUM_THREADS, else what
   affinity and quota allow (cpus.py).  A forked child always runs on one.
"""
import os
import sys

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport parallel, threadid
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn._kernels.vec cimport (
    FNN_ACTIVATIONS, FNN_ELEMENT_LOSSES, FNN_SAVES_INPUT, FNN_STOP_CANCEL, FNN_UPDATES, fnn_activation_name,
    fnn_activation_saves, fnn_compiler, fnn_stores_past,
    fnn_element_loss_name, fnn_kernels, fnn_op, fnn_run, fnn_run_member, fnn_run_serial, fnn_table, fnn_table_at,
    fnn_table_count, fnn_table_supported, fnn_update_name, fnn_update_states,
)

from fastnn._kernels import cpus

cdef extern from "process.h" nogil:
    const volatile int fnn_cancelled
    int fnn_forked
    void fnn_catch_interrupt()
    void fnn_release_interrupt()
    void fnn_watch_forks()
    void *fnn_alloc(size_t bytes)
    void fnn_free(void *memory)

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FNN_OPENMP _OPENMP
    #else
    #define FNN_OPENMP 0
    #endif
    """
    enum: FNN_OPENMP

# --- the instruction set -----------------------------------------------------------------------

cdef const fnn_table *table = NULL


def available_isas():
    """The instruction sets that fastnn has kernels for and this machine can run, best first."""
    return [fnn_table_at(i).name.decode() for i in range(fnn_table_count()) if fnn_table_supported(i)]


def isa():
    """The instruction set in use."""
    return table.name.decode()


def use_isa(name):
    """Switch to another instruction set: for tests, which run every variant in one process.

    Programs compiled before keep the variant they were compiled for.
    """
    global table
    cdef int i
    for i in range(fnn_table_count()):
        if fnn_table_at(i).name.decode() == name and fnn_table_supported(i):
            table = fnn_table_at(i)
            return
    raise ValueError(f"unknown or unsupported instruction set {name!r}: this machine can run "
                     f"{', '.join(available_isas())}")


cdef const fnn_kernels *kernels_for(Py_ssize_t real_bytes) noexcept nogil:
    return &table.f32 if real_bytes == 4 else &table.f64


def _choose_table():
    wanted = os.environ.get("FASTNN_ISA", "").strip()
    try:
        use_isa(wanted or available_isas()[0])
    except ValueError as error:
        raise ImportError(f"the environment variable FASTNN_ISA: {error}") from None


_choose_table()

# --- results past the caches ---------------------------------------------------------------------

# Of all arrays of a call together, from which its result goes past the caches, where that is faster: it is from 12 MiB
# on, but the third-level cache of another machine may hold those for who reads them next.
cdef Py_ssize_t past_bytes = (24 << 20) if fnn_stores_past() else PY_SSIZE_T_MAX


cdef bint goes_past(Py_ssize_t nbytes) noexcept nogil:
    """Whether the result of a call whose arrays have so many bytes goes past the caches."""
    return nbytes >= past_bytes


def set_past_bytes(nbytes):
    """Results of calls with so many bytes go past the caches: for tests. What it was before."""
    global past_bytes
    before, past_bytes = past_bytes, nbytes
    return before


# --- threads -----------------------------------------------------------------------------------

cdef int thread_count = 0  # 0: not asked for yet
MOST_THREADS = 1024


def get_num_threads():
    """The number of threads that large work is spread over."""
    global thread_count
    if fnn_forked or not FNN_OPENMP:
        return 1
    if thread_count == 0:
        thread_count = min(cpus.default_threads(), MOST_THREADS)
    return thread_count


def set_num_threads(n):
    """Spread large work over `n` threads; None: back to the default of the environment."""
    global thread_count
    if n is None:
        thread_count = 0
        return
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n must be a whole number of threads, got {n!r}")
    n = n.__index__()
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"n must be between 1 and {MOST_THREADS} threads, got {n}")
    thread_count = n


# Waking a team costs a few microseconds, so work below this runs on the calling thread.
# 2^21 flops are 15 to 60 us on one core.
cdef double SERIAL_FLOPS = 2097152.0
# To release the GIL and take it back costs 70 ns, so work below this (2 us at most) keeps it.
cdef double HELD_FLOPS = 65536.0


cdef int threads_for(double flops) except -1:
    """The number of threads for so much work; 0 for work that is not worth releasing the GIL."""
    if flops < SERIAL_FLOPS:
        return 1 if flops >= HELD_FLOPS else 0
    return get_num_threads()


cdef void run_list(fnn_run *run, const fnn_op *ops, int64_t count, int64_t rounds, int threads,
                   char *workspace, size_t stride) noexcept nogil:
    """Run `ops` `rounds` times; thread t has the workspace at workspace + t * stride."""
    memset(run, 0, sizeof(fnn_run))
    run.ops = ops
    run.count = count
    run.rounds = rounds
    run.stopped_at = -1
    run.cancelled = &fnn_cancelled
    if threads <= 1 or fnn_forked:
        fnn_run_serial(run, workspace)
        return
    with parallel(num_threads=threads):
        fnn_run_member(run, workspace + threadid() * stride)


cdef int run_now(const fnn_op *ops, int64_t count, int threads, char *workspace, size_t stride) except -1:
    """One round of `ops`, with the GIL released unless `threads` is 0."""
    cdef fnn_run run
    if threads == 0:
        run_list(&run, ops, count, 1, 1, workspace, stride)
    else:
        with nogil:
            run_list(&run, ops, count, 1, threads, workspace, stride)
    if run.stop == FNN_STOP_CANCEL:
        PyErr_CheckSignals()
        raise KeyboardInterrupt
    return 0


fnn_watch_forks()


class interruptible:
    """While entered (in the main thread), Ctrl-C stops a running list at its next block.

    Only where Ctrl-C means KeyboardInterrupt: a handler of the user's own is left alone.
    """

    depth = 0

    def __enter__(self):
        import signal
        import threading

        self.active = (threading.current_thread() is threading.main_thread()
                       and (interruptible.depth or signal.getsignal(signal.SIGINT) is signal.default_int_handler))
        if self.active:
            if interruptible.depth == 0:
                fnn_catch_interrupt()
            interruptible.depth += 1
        return self

    def __exit__(self, *exc_info):
        if self.active:
            interruptible.depth -= 1
            if interruptible.depth == 0:
                fnn_release_interrupt()


# --- memory ------------------------------------------------------------------------------------

cdef char *pool = NULL
cdef size_t pool_bytes = 0
cdef bint pool_taken = False


cdef char *allocate(size_t bytes) except NULL:
    cdef char *memory = <char *>fnn_alloc(bytes)
    if memory == NULL:
        raise MemoryError(f"no memory for {bytes} bytes of workspace")
    return memory


cdef void release(char *memory) noexcept:
    fnn_free(memory)


cdef int borrow(Scratch *scratch, size_t bytes) except -1:
    """Scratch memory for one call.  One block is kept and handed out again: a fresh large block would
    cost a page fault every 4 KiB.  Called with the GIL held, which is the lock."""
    global pool, pool_bytes, pool_taken
    if pool_taken:
        scratch.memory = allocate(bytes)
        scratch.pooled = False
        return 0
    if bytes > pool_bytes:
        if pool != NULL:
            fnn_free(pool)
        pool, pool_bytes = NULL, 0
        pool = allocate(bytes)
        pool_bytes = bytes
    scratch.memory = pool
    scratch.pooled = True
    pool_taken = True
    return 0


cdef void give_back(Scratch *scratch) noexcept:
    global pool_taken
    if scratch.pooled:
        pool_taken = False
    elif scratch.memory != NULL:
        fnn_free(scratch.memory)
    scratch.memory = NULL


# --- what there is -----------------------------------------------------------------------------


def compiler():
    """The compiler that the vector code was built with."""
    return fnn_compiler().decode()


def openmp():
    """The OpenMP version (year and month of the standard) built in, or 0."""
    return FNN_OPENMP


def fma_work(dtype, int64_t rounds):
    """Do `rounds` rounds of multiply-adds in registers on the instruction set in use; returns the flops."""
    cdef const fnn_kernels *k = kernels_for({"float32": 4, "float64": 8}[str(dtype)])
    cdef double flops, sink
    with nogil:
        flops = k.fma_loop(&sink, rounds)
    return flops


def fma_peak(dtype="float32", double seconds=0.1):
    """Multiply-adds per second of one core on the instruction set in use, as flop/s: the ceiling.

    Parameters
    ----------
    dtype : "float32" or "float64"
    seconds : float
        How long to measure; the best of ten rounds counts.
    """
    from time import perf_counter

    cdef int64_t rounds = 1000
    best = 0.0
    while True:
        start = perf_counter()
        fma_work(dtype, rounds)
        if perf_counter() - start > seconds / 20:
            break
        rounds *= 2
    for _ in range(10):
        start = perf_counter()
        flops = fma_work(dtype, rounds)
        best = max(best, flops / (perf_counter() - start))
    return best


def scale_bandwidth(Py_ssize_t size, double seconds=0.02):
    """Bytes read plus bytes written per second by y = a x, whose two arrays take `size` bytes: one core,
    the instruction set in use, the best of rounds of about a twentieth of `seconds`."""
    from time import perf_counter

    cdef const fnn_kernels *k = kernels_for(4)
    cdef Py_ssize_t n = max(1, size // 2048) * 256  # elements of each, whole groups of vectors
    cdef char *memory = allocate(8 * n)
    cdef int64_t rounds = 1
    best = spent = 0.0
    memset(memory, 0, 8 * n)
    try:
        while spent < seconds or best == 0.0:
            start = perf_counter()
            with nogil:
                k.scale_loop(memory, memory + 4 * n, n, rounds)
            elapsed = perf_counter() - start
            spent += elapsed
            if elapsed < seconds / 20 and elapsed < 1e-3:
                rounds *= 2
            else:
                best = max(best, 8 * n * rounds / elapsed)
    finally:
        release(memory)
    return best


def activation_names():
    """The activations there are kernels for, in the order of the table; "identity" is none."""
    return [fnn_activation_name(i).decode() for i in range(FNN_ACTIVATIONS)]


cdef bint needs_input(int activation) noexcept nogil:
    """Whether an activation is differentiated from its input, not from its output."""
    return fnn_activation_saves(activation) == FNN_SAVES_INPUT


def element_loss_names():
    """The losses that compare element by element, in the order of the table."""
    return [fnn_element_loss_name(i).decode() for i in range(FNN_ELEMENT_LOSSES)]


def update_names():
    """The updates there are kernels for, in the order of the table, with how many arrays of state each keeps."""
    return {fnn_update_name(i).decode(): fnn_update_states(i) for i in range(FNN_UPDATES)}
