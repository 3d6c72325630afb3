# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A program: the flat list of kernel calls that is one training step, run many times in one call.

Each kernel family adds its own operations (`add_...` in its module); this file knows none of them
but the two that every step has: the gather of a mini-batch's rows, and the judgement of its loss.
Arrays handed to a program must stay where they are for its life: it keeps a reference to each, and
reads and writes them without the GIL.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isfinite
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport allocate, kernels_for, release, run_list, threads_for
from fastnn._kernels.vec cimport (
    FNN_STOP_CANCEL, FNN_STOP_FAILURE, fnn_block, fnn_fail, fnn_kernels, fnn_op, fnn_round_of, fnn_run,
)

cdef size_t LINE = 64  # bytes of a cache line: the workspaces of two threads never share one


cdef class Sink:
    """Where a gradient goes that nobody reads: straight into the update.  Made by an optimizer's module."""


cdef class Finish:
    """What is done with the blocks of a product while they are in the cache."""


cdef class Program:
    """An empty program for arrays of `itemsize` bytes, on mini-batches of `rows` rows."""

    def __cinit__(self, Py_ssize_t itemsize, Py_ssize_t rows):
        self.kept, self.op_names, self.op_flops = [], [], []
        self.op_kernel, self.kernel_names, self.kernel_bytes = [], [], []
        self.itemsize = itemsize
        self.kernels = kernels_for(itemsize)
        memset(&self.state, 0, sizeof(State))
        self.state.rows = rows
        self.state.clip_scale = 1

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.memory_count):
            release(<char *>self.memory[i])
        free(self.memory)
        free(self.packers)
        if self.packed != NULL:
            release(self.packed)
        free(self.ops)
        if self.workspace != NULL:
            release(self.workspace)

    cdef Arrays arrays(self, object owners):
        """A view of arrays that lives as long as the program does; the next operation moves each once."""
        cdef Arrays arrays = Arrays()
        arrays.itemsize = self.itemsize
        self.kept.append((arrays, owners))
        self.moved = sum(getattr(owner, "nbytes", 0) for owner in owners)
        return arrays

    cdef int moves(self, double bytes) except -1:
        """The next operation moves so much more than each of its arrays once."""
        self.moved += bytes
        return 0

    cdef char *own(self, size_t bytes) except NULL:
        """Aligned memory that lives as long as the program does."""
        cdef char *memory = allocate(bytes)
        cdef void **grown = <void **>realloc(self.memory, (self.memory_count + 1) * sizeof(void *))
        if grown == NULL:
            release(memory)
            raise MemoryError
        self.memory = grown
        self.memory[self.memory_count] = memory
        self.memory_count += 1
        self.owned_bytes += bytes
        memset(memory, 0, bytes)
        return memory

    cdef int share(self, char **where, size_t offset, size_t bytes) except -1:
        """Memory for packed operands, which live from their packing to the end of their product only: all
        products take it from one piece, as large as the largest needs.  `where` is told before the first run.
        """
        cdef Packed *grown = <Packed *>realloc(self.packers, (self.packer_count + 1) * sizeof(Packed))
        if grown == NULL:
            raise MemoryError
        self.packers = grown
        self.packers[self.packer_count].where, self.packers[self.packer_count].offset = where, offset
        self.packer_count += 1
        self.packed_bytes = max(self.packed_bytes, offset + bytes)
        return 0

    cdef void *args(self, size_t bytes) except NULL:
        return self.own(bytes)

    cdef int add(self, object name, fnn_block block, Py_ssize_t blocks, const void *args, double flops,
                 size_t workspace) except -1:
        cdef fnn_op *grown = <fnn_op *>realloc(self.ops, (self.count + 1) * sizeof(fnn_op))
        if grown == NULL:
            raise MemoryError
        self.ops = grown
        self.ops[self.count].block = block
        self.ops[self.count].blocks = max(1, blocks)
        self.ops[self.count].args = args
        self.count += 1
        self.op_names.append(name)
        self.op_flops.append(flops)
        self._count(name.partition(":")[0])
        self.flops += flops
        self.stride = max(self.stride, (workspace + 2 * LINE) // LINE * LINE)
        return 0

    cdef int _count(self, kernel) except -1:
        """Operations that follow each other and have one name, but for what is after a colon, are a kernel."""
        cdef Py_ssize_t last = len(self.kernel_names) - 1
        if last < 0 or self.kernel_names[last] != kernel:
            self.kernel_names.append(kernel)
            self.kernel_bytes.append(0.0)
            last += 1
        self.op_kernel.append(last)
        self.kernel_bytes[last] += self.moved
        self.moved = 0
        return 0

    def operations(self):
        """The list as (name, flops, blocks), in the order of execution."""
        return [(name, flops, self.ops[i].blocks)
                for i, (name, flops) in enumerate(zip(self.op_names, self.op_flops))]

    def run(self, x, targets, order, Py_ssize_t first, int64_t steps, rates, int64_t counted=0,
            losses=None, weights=None, shares=None):
        """Run `steps` mini-batches: rows order[first:first + rows], the next rows, and so on.

        `counted` updates were made before: an update may depend on its number.  `losses`: `steps` float64 that
        take the loss of each step.  `weights`: one for each row of x, where the program was made for them;
        `shares` then takes what those of each step add up to, and `correct` counts rows by their weights.

        Returns (steps done, the last loss, correct rows, stopped), stopped being
        None or the name of the operation that found its values not finite: that step did not update.
        """
        cdef State *s = &self.state
        cdef fnn_run run
        cdef int threads = max(1, threads_for(self.flops))
        self.done = 0
        cdef Arrays arrays = self._prepare(x, targets, order, first, steps, rates, threads, losses, weights, shares)
        s.counted = counted
        self.running = True
        with nogil:
            run_list(&run, self.ops, self.count, steps, threads, self.workspace, self.stride)
        self.running = False
        self.done = min(steps, fnn_round_of(&run)) if run.stop else steps
        if run.stop == FNN_STOP_CANCEL:
            PyErr_CheckSignals()
            raise KeyboardInterrupt
        stopped = self.op_names[run.stopped_at] if run.stop == FNN_STOP_FAILURE else None
        return self.done, s.last_loss, s.correct, stopped

    def profile(self, x, targets, order, rates, int repeats=20, weights=None):
        """Where the time of a step goes, on one thread: (name, flops, bytes, parts) of each kernel.

        `bytes` is what it must move: each of its arrays once, in and out.  `parts` are its operations as
        (name, seconds), the median of `repeats` steps.  The steps train, as those of `run` do.
        """
        from statistics import median
        from time import perf_counter

        cdef fnn_run run
        cdef int64_t i
        cdef Arrays arrays = self._prepare(x, targets, order, 0, 1, rates, 1, None, weights)
        times = [[] for _ in range(self.count + 1)]
        for _ in range(repeats):
            for i in range(self.count):
                start = perf_counter()
                run_list(&run, self.ops + i, 1, 1, 1, self.workspace, self.stride)
                times[i].append(perf_counter() - start)
            start = perf_counter()
            times[self.count].append(perf_counter() - start)
        nothing = median(times[self.count])  # what the clock itself takes
        flops, parts = [0.0] * len(self.kernel_names), [[] for _ in self.kernel_names]
        for name, work, kernel, seconds in zip(self.op_names, self.op_flops, self.op_kernel, times):
            flops[kernel] += work
            parts[kernel].append((name, max(0.0, median(seconds) - nothing)))
        return list(zip(self.kernel_names, flops, self.kernel_bytes, parts))

    cdef Arrays _prepare(self, x, targets, order, Py_ssize_t first, int64_t steps, rates, int threads,
                         losses=None, weights=None, shares=None):
        """Check and place what a run reads; the arrays returned must outlive it."""
        cdef Arrays arrays = Arrays()
        cdef State *s = &self.state
        cdef Py_ssize_t available, i
        if self.running:
            raise RuntimeError("this program is being run by another thread: give each thread a model of its own")
        arrays.itemsize = self.itemsize
        s.x = arrays.matrix(x, &s.ldx)
        available = arrays.rows()
        if s.gathers and arrays.cols() != s.cols:
            raise ValueError(f"x must have {s.cols} columns, got {arrays.cols()}")
        arrays.any(targets)
        if arrays.rows() != available:
            raise ValueError(f"x has {available} rows, targets {arrays.rows()}")
        if s.gathers and arrays.last().len != s.target_bytes * available:
            raise ValueError("targets do not fit those that the program was made for")
        s.targets = <const char *>arrays.last().buf
        if s.weighs != (weights is not None):
            raise ValueError("weights are for a program that was made for them, which needs them")
        if s.weighs:
            s.weights = arrays.real(weights)
            if arrays.size() != available:
                raise ValueError(f"x has {available} rows, weights {arrays.size()}")
        s.order = arrays.whole(order)
        if first < 0 or steps < 1 or s.rows < 1 or steps > (arrays.size() - first) // s.rows:
            raise ValueError(f"order has {arrays.size()} rows, asked for {s.rows * steps} from {first}")
        self._check_order(s.order + first, s.rows * steps, available)
        s.order += first
        s.rates = of_steps(arrays, "rates", rates, steps, False)
        s.losses = s.shares = NULL
        if losses is not None:
            s.losses = of_steps(arrays, "losses", losses, steps, True)
        if shares is not None:
            s.shares = of_steps(arrays, "shares", shares, steps, True)
        if self.packed == NULL and self.packed_bytes:
            self.packed = allocate(self.packed_bytes)
            for i in range(self.packer_count):
                self.packers[i].where[0] = self.packed + self.packers[i].offset
        s.last_loss = 0
        s.correct = 0
        if self.workspace_bytes < self.stride * threads:
            if self.workspace != NULL:
                release(self.workspace)
            self.workspace, self.workspace_bytes = NULL, 0
            self.workspace = allocate(self.stride * threads)
            self.workspace_bytes = self.stride * threads
        return arrays

    cdef int _check_order(self, const int64_t *order, Py_ssize_t n, Py_ssize_t available) except -1:
        cdef Py_ssize_t i
        cdef int64_t lowest = 0, highest = -1
        for i in range(n):
            lowest = min(lowest, order[i])
            highest = max(highest, order[i])
        if lowest < 0 or highest >= available:
            raise IndexError(f"order points outside the {available} rows of x")
        return 0


cdef double *of_steps(Arrays arrays, name, x, int64_t steps, bint writable) except NULL:
    """A float64 for each step."""
    cdef char *data = arrays.any(x, writable)
    if arrays.last().format == NULL or arrays.last().format[0] != b'd' or arrays.size() < steps:
        raise ValueError(f"{name} must be {steps} float64")
    return <double *>data


ctypedef struct Gather:
    const fnn_kernels *kernels
    const State *state
    char *x
    Py_ssize_t ldx, cols, real
    char *targets
    Py_ssize_t target_bytes
    char *weights  # NULL: none
    Py_ssize_t row_block


cdef inline void gather_items(char *out, const char *x, const int64_t *wanted, Py_ssize_t n,
                              Py_ssize_t bytes) noexcept nogil:
    """Items of the wanted rows; those of a number's size without a call for each."""
    cdef Py_ssize_t i
    if bytes == 4:
        for i in range(n):
            (<int32_t *>out)[i] = (<const int32_t *>x)[wanted[i]]
    elif bytes == 8:
        for i in range(n):
            (<int64_t *>out)[i] = (<const int64_t *>x)[wanted[i]]
    else:
        for i in range(n):
            memcpy(out + i * bytes, x + wanted[i] * bytes, bytes)


cdef void gather_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gather *g = <const Gather *>op.args
    cdef const State *s = g.state
    cdef Py_ssize_t i0 = block * g.row_block, n = min(g.row_block, s.rows - block * g.row_block)
    cdef const int64_t *wanted = s.order + fnn_round_of(run) * s.rows + i0
    g.kernels.gather_rows(g.x + i0 * g.ldx * g.real, g.ldx, s.x, s.ldx, wanted, n, g.cols)
    gather_items(g.targets + i0 * g.target_bytes, s.targets, wanted, n, g.target_bytes)
    if g.weights != NULL:
        gather_items(g.weights + i0 * g.real, s.weights, wanted, n, g.real)


def add_gather(Program p, x, targets, weights=None):
    """The rows of the mini-batch: x (rows, D), targets (rows, ...) and weights (rows,) are written from the data.

    A pass of its own: made as the products pack them, the rows would be read from the data twice, which
    was measured to cost the same (4.55 ms against 3.94 + 0.45 at 1000 x 500 x 500).
    """
    cdef Arrays arrays = p.arrays((x, targets, weights))
    cdef Gather *g = <Gather *>p.args(sizeof(Gather))
    g.kernels, g.state, g.real = p.kernels, &p.state, p.itemsize
    g.x = arrays.matrix(x, &g.ldx, True)
    g.cols = arrays.cols()
    g.targets = arrays.any(targets, True)
    g.target_bytes = arrays.last().len // max(1, p.state.rows)
    g.weights = arrays.real(weights, True)
    if weights is not None and arrays.size() != p.state.rows:
        raise ValueError(f"weights: expected {p.state.rows} values, got {arrays.size()}")
    p.state.gathers, p.state.cols, p.state.target_bytes = True, g.cols, g.target_bytes
    p.state.weighs = weights is not None
    g.row_block = 64
    p.moves(p.moved)  # the same rows of the data
    p.add("gather", gather_block, (p.state.rows + g.row_block - 1) // g.row_block, g, 0.0, 0)


ctypedef struct Judge:
    State *state
    const double *sums     # the loss of each block, unscaled
    const double *right    # its rows that are right, by their weights
    Py_ssize_t blocks
    const double *scale    # may change from step to step


cdef void judge_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Judge *j = <const Judge *>op.args
    cdef double loss = 0, correct = 0
    cdef Py_ssize_t i
    for i in range(j.blocks):  # in block order: the same bits for any number of threads
        loss += j.sums[i]
        correct += j.right[i]
    loss = loss * j.scale[0] + j.state.penalty
    j.state.last_loss = loss
    if not isfinite(loss):
        fnn_fail(run, op)
        return
    if j.state.losses != NULL:
        j.state.losses[fnn_round_of(run)] = loss
    j.state.correct += correct
    j.state.last_correct = correct


cdef int add_judge(Program p, const double *sums, const double *right, Py_ssize_t blocks,
                   const double *scale) except -1:
    """Add up the loss; stop before the update where it is not finite."""
    cdef Judge *j = <Judge *>p.args(sizeof(Judge))
    j.state, j.sums, j.right, j.blocks, j.scale = &p.state, sums, right, blocks, scale
    return p.add("loss", judge_block, 1, j, 0.0, 0)


ctypedef struct Copy:
    char *out
    const char *source
    size_t bytes


cdef void copy_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Copy *c = <const Copy *>op.args
    memcpy(c.out, c.source, c.bytes)


def add_copy(Program p, name, source, out):
    """out = source: what a step that fails puts back."""
    cdef Copy *c = <Copy *>p.args(sizeof(Copy))
    cdef Arrays arrays = p.arrays((source, out))
    c.source = arrays.real(source)
    c.bytes = arrays.last().len
    c.out = arrays.real(out, True)
    if <size_t>arrays.last().len != c.bytes:
        raise ValueError("out does not fit source")
    p.add(name, copy_block, 1, c, 0.0, 0)


cdef void zero_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Copy *c = <const Copy *>op.args
    memset(c.out, 0, c.bytes)


def add_zero(Program p, name, out):
    """out = 0: a gradient that is known to vanish."""
    cdef Copy *c = <Copy *>p.args(sizeof(Copy))
    cdef Arrays arrays = p.arrays((out,))
    c.out = arrays.real(out, True)
    c.bytes = arrays.last().len
    p.add(name, zero_block, 1, c, 0.0, 0)
