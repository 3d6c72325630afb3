# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Batch normalisation of x (rows, cols, inner), a channel for each of `cols`: cuts for caches and threads.

Design
------
Whatever the rank and the channel axis, x is (rows, cols, inner): all axes before the channels, the channels,
all axes after them.  With inner = 1 the vectors lie across channels (vec/batchnorm.h), else along the run of
`inner` elements that a channel has in a row (vec/batchnorm_runs.h).  Two routes, chosen by shape alone:
- channels: blocks of channels; statistics, coefficients and result of a block in one operation.  For matrices
  that fit into L2 as a whole, and for images, whose blocks fit.
- rows: everything else.  Operation 1 takes statistics of blocks of rows, operation 2
  (one block) merges them in row order, operation 3 applies them, the last rows first: they are still in cache.
With frozen statistics nothing has to be known of all rows before the first result: one pass, in small blocks.

What rounding the mean loses (vec/batchnorm.h) is found by the sums of the backward pass, too late for an
activation that is made again before them: `find_shift` takes a pass over x for it.  A compiled step keeps the shift
of its forward pass instead.

The forward pass of matrices far larger than the caches writes past them where that is faster (fnn_stores_past): 1.1 to
1.25 times as fast there.  The backward pass does not: it reads two matrices beside what it writes, and took 14 to 40%
longer.
"""
from libc.stddef cimport size_t
from libc.string cimport memcpy, memset

from fastnn._kernels.activations cimport parse, understand
from fastnn._kernels.arguments cimport Fit, Taken, fraction, is_axis, is_whole, not_negative
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport (
    Scratch, allocate, borrow, give_back, goes_past, kernels_for, needs_input, release, run_now, threads_for,
)
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

from fastnn import contracts

cdef Py_ssize_t L2_BYTES = 524288       # what a block may take of the second-level cache
cdef Py_ssize_t STRIP_BYTES = 1024      # of a row, at least, where a matrix is cut between columns
cdef Py_ssize_t MOST_ROW_BLOCKS = 128   # each has statistics of its own
cdef Py_ssize_t SMALL = 8192            # elements that are not cut
cdef double FLOPS = 24.0                # what an element is counted as, for the choice of threads
# A matrix of more bytes is far: its next rows are asked for ahead (vec/batchnorm.h). With an L2 of 1 MB, calls in a
# loop over float32 lost 6 to 11% by that for 1000 x 500, up to 8% for 1000 x 1000, and were 1.2 to 1.4 times as fast
# for 2000 x 1000. By the time a step comes round, what it left has gone cold: steps with 500 x 500 gained 1 to 2%,
# the benchmark `wide` 2 to 3%, 250 x 500 nothing.
cdef Py_ssize_t FAR_BYTES = 1 << 22
cdef Py_ssize_t FAR_BYTES_IN_STEP = 1 << 19

ctypedef struct Norm:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, inner
    bint training
    bint needs_input      # the activation is differentiated from its input, computed again
    bint finds_shift      # what it is computed with is not known beforehand
    int far               # the matrices are in no cache of the core's own; 2: and y goes past all of them
    int activation
    double params[2]
    double momentum, eps
    const char *x
    Py_ssize_t ldx
    const char *gamma
    const char *beta
    char *mean
    char *rstd
    # forward
    char *y
    Py_ssize_t ldy
    char *running_mean
    char *running_var
    # backward
    const char *dy
    Py_ssize_t lddy
    const char *saved     # y; or x, unread, where the activation is differentiated from its input
    Py_ssize_t lds
    char *dx
    Py_ssize_t lddx
    char *dgamma
    char *dbeta
    # the plan
    Py_ssize_t col_block, col_blocks, row_block, row_blocks
    # workspace: per row block, the sums of all channels; then `real` coefficients of all channels
    double *sums          # (row_blocks, 2, cols): mean and M2; or (row_blocks, 3, cols): g, g (x - mean), x - mean
    char *scale
    char *shift           # beta, but for what rounding the mean has lost
    char *c_g
    char *c_x
    char *c_1


cdef inline bint is_far(const Norm *b, Py_ssize_t limit) noexcept nogil:
    return b.rows * b.cols * b.real > limit


cdef inline int far_forward(const Norm *b) noexcept nogil:
    """2 where y is to go past the caches; not in place, where they hold it."""
    if goes_past(2 * b.rows * b.cols * b.real) and b.y != b.x:
        return 2
    return is_far(b, FAR_BYTES)


cdef inline Py_ssize_t cuts(Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    return (n + block - 1) // block


cdef size_t plan(Norm *b, Py_ssize_t operands) noexcept nogil:
    """Choose the route for `operands` arrays that are read twice; returns the bytes of workspace."""
    cdef Py_ssize_t rows = max(1, b.rows), cols = max(1, b.cols)
    cdef Py_ssize_t channel = operands * b.real * b.inner * rows  # bytes of one
    cdef Py_ssize_t strip = 1  # the fewest channels in a block
    cdef bint by_channels
    if b.inner == 1:
        # Strips of a matrix that does not fit as a whole were tried: to walk down narrow columns of long rows
        # costs six times what a second pass over memory does (most of it address translation).
        strip = min(STRIP_BYTES // b.real, cols)
        by_channels = channel * cols <= L2_BYTES
    else:
        by_channels = channel <= L2_BYTES or rows == 1 or cols >= 16
    if rows * b.inner * cols <= SMALL:  # what the divisions below come to as well
        b.row_block, b.row_blocks, b.col_block, b.col_blocks = rows, 1, cols, 1
    elif not b.training:
        plan_elementwise(b)
    elif by_channels:
        b.row_block, b.row_blocks = rows, 1
        b.col_block = max(strip, L2_BYTES // channel)
        # a few blocks, for threads to share, even where the whole fits
        while b.col_block >= 2 * strip and b.col_block * 4 > cols and rows * b.inner * b.col_block > SMALL:
            b.col_block //= 2
        b.col_block = min(cuts(b.col_block, strip) * strip, cols)
        b.col_blocks = cuts(cols, b.col_block)
    else:
        b.row_block = max(cuts(rows, MOST_ROW_BLOCKS), L2_BYTES // 4 // (b.real * b.inner * cols))
        if b.inner == 1:  # whole chunks of statistics
            b.row_block = cuts(b.row_block, 128) * 128
        b.row_block = min(b.row_block, rows)
        b.row_blocks = cuts(rows, b.row_block)
        b.col_block, b.col_blocks = cols, 1
    return <size_t>((3 * b.row_blocks * sizeof(double) + 5 * b.real) * cols + 6 * 64)


cdef void plan_elementwise(Norm *b) noexcept nogil:
    """Blocks for what needs nothing but its own elements; where rows are wide they are cut between channels."""
    cdef Py_ssize_t cols = max(1, b.cols), channel = b.real * b.inner, block = L2_BYTES // 4
    b.row_block = max(1, block // (channel * cols))
    if b.inner == 1:
        b.row_block = cuts(b.row_block, 64) * 64  # their sums in double are then a small part of them
    b.row_block = min(b.row_block, max(1, b.rows))
    b.col_block = cols
    if b.row_block * channel * cols > 2 * block:
        b.col_block = min(cols, max(1 if b.inner > 1 else 4 * b.kernels.lanes, block // (channel * b.row_block)))
    b.row_blocks, b.col_blocks = cuts(max(1, b.rows), b.row_block), cuts(cols, b.col_block)


cdef inline char *carve(char **memory, size_t bytes) noexcept nogil:
    """The next piece, up to a cache line."""
    cdef char *piece = memory[0]
    memory[0] += (bytes + 63) // 64 * 64
    return piece


cdef void place(Norm *b, char *memory) noexcept nogil:
    """Lay the workspace out."""
    cdef size_t each = b.cols * b.real
    b.sums = <double *>carve(&memory, 3 * b.row_blocks * b.cols * sizeof(double))
    b.scale, b.shift = carve(&memory, each), carve(&memory, each)
    b.c_g, b.c_x, b.c_1 = carve(&memory, each), carve(&memory, each), carve(&memory, each)


cdef inline const char *at(const Norm *b, const char *x, Py_ssize_t ld, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """Row i, channel j of x."""
    return x + (i * ld + j * b.inner) * b.real


cdef int check_channels(const Norm *b, Arrays arrays) except -1:
    if arrays.size() != b.cols:
        raise ValueError(f"expected an entry for each of {b.cols} channels, got {arrays.size()}")
    return 0


cdef char *vector(const Norm *b, Arrays arrays, object x, bint writable=False) except? NULL:
    """An array with one entry a channel."""
    if x is None:
        raise TypeError("expected an array with an entry for each channel, got None")
    cdef char *data = arrays.real(x, writable)
    check_channels(b, arrays)
    return data


cdef int shape(Norm *b, Arrays arrays, object gamma) except -1:
    """Rows, channels and inner from the matrix taken last and gamma."""
    cdef Py_ssize_t width = arrays.cols()
    b.rows, b.real = arrays.rows(), arrays.itemsize
    b.gamma = arrays.real(gamma)
    if gamma is None:
        raise TypeError("gamma must be an array")
    b.cols = arrays.size()
    b.inner = max(1, width // max(1, b.cols))
    if b.cols * b.inner != width and b.rows:
        raise ValueError(f"{width} columns are no multiple of {b.cols} channels")
    return 0


cdef int check_shape(const Norm *b, Arrays arrays, str name) except -1:
    if arrays.rows() != b.rows or arrays.cols() != b.cols * b.inner and b.rows:
        raise ValueError(f"{name} does not fit x")
    return 0


# --- forward -------------------------------------------------------------------------------------


cdef inline void statistics(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef double *sums = b.sums + i * 2 * b.cols
    cdef Py_ssize_t i0 = i * b.row_block, rows = min(b.row_block, b.rows - i * b.row_block)
    if b.inner == 1:
        b.kernels.batchnorm_statistics(sums + j, sums + b.cols + j, at(b, b.x, b.ldx, i0, j), b.ldx, rows, cols,
                                       b.far)
    else:
        b.kernels.batchnorm_run_statistics(sums + j, sums + b.cols + j, at(b, b.x, b.ldx, i0, j), b.ldx, rows,
                                           cols, b.inner)


cdef inline void finalize(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real
    b.kernels.batchnorm_finalize(
        b.mean + at, b.rstd + at, b.scale + at, b.shift + at, b.sums + j, b.sums + b.cols + j, b.gamma + at,
        b.beta + at, b.running_mean + at if b.running_mean != NULL else NULL,
        b.running_var + at if b.running_mean != NULL else NULL, <double>(b.rows * b.inner), b.momentum, b.eps, cols)


cdef inline void apply(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    """The result of block i of the rows, for channels from j."""
    cdef Py_ssize_t c = j * b.real, i0 = i * b.row_block, rows = min(b.row_block, b.rows - i * b.row_block)
    cdef char *y = <char *>at(b, b.y, b.ldy, i0, j)
    cdef const char *x = at(b, b.x, b.ldx, i0, j)
    if b.inner == 1:
        b.kernels.batchnorm_apply[b.activation](y, b.ldy, x, b.ldx, b.mean + c, b.scale + c, b.shift + c, rows,
                                                cols, b.far, b.params)
    else:
        b.kernels.batchnorm_run_apply[b.activation](y, b.ldy, x, b.ldx, b.mean + c, b.scale + c, b.shift + c,
                                                    rows, cols, b.inner, b.params)


cdef void forward_channels(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block * b.col_block, cols = min(b.col_block, b.cols - block * b.col_block)
    statistics(b, 0, j, cols)
    finalize(b, j, cols)
    apply(b, 0, j, cols)


cdef void forward_statistics(const fnn_op *op, Py_ssize_t block, void *workspace,
                             fnn_run *run) noexcept nogil:
    """Of a block, whichever way x is cut."""
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block % b.col_blocks * b.col_block
    statistics(b, block // b.col_blocks, j, min(b.col_block, b.cols - j))


cdef void merge_moments(double *sums, Py_ssize_t rows, Py_ssize_t row_block, Py_ssize_t cols) noexcept nogil:
    """Means and M2 of blocks of rows, (blocks, 2, cols), into those of block 0 in row order (Chan et al. 1979)."""
    cdef Py_ssize_t i0, j
    cdef double n, delta, share
    cdef const double *block = sums
    i0 = row_block
    while i0 < rows:
        block += 2 * cols
        n = <double>min(row_block, rows - i0)
        share = n / (i0 + n)
        for j in range(cols):
            delta = block[j] - sums[j]
            sums[j] += delta * share
            sums[cols + j] += block[cols + j] + delta * delta * i0 * share
        i0 += row_block


cdef void merge_sums(double *sums, Py_ssize_t rows, Py_ssize_t row_block, Py_ssize_t cols) noexcept nogil:
    """The same for the three sums of the backward pass."""
    cdef Py_ssize_t i0 = row_block, j
    cdef const double *block = sums
    while i0 < rows:
        block += 3 * cols
        for j in range(3 * cols):
            sums[j] += block[j]
        i0 += row_block


cdef void forward_merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    merge_moments(b.sums, b.rows * b.inner, b.row_block * b.inner, b.cols)
    finalize(b, 0, b.cols)


cdef void forward_apply(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    apply(b, b.row_blocks - 1 - block, 0, b.cols)


cdef void forward_frozen(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """From statistics that are given."""
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block % b.col_blocks * b.col_block
    apply(b, block // b.col_blocks, j, min(b.col_block, b.cols - j))


cdef int forward_ops(Norm *b, fnn_op *ops) noexcept:
    """The operations of the chosen route, at most three; returns how many."""
    cdef int i
    for i in range(3):
        ops[i].args = b
        ops[i].blocks = max(1, b.row_blocks * b.col_blocks)
    if not b.training:
        ops[0].block = forward_frozen
        return 1
    if b.row_blocks == 1:
        ops[0].block = forward_channels
        return 1
    ops[0].block, ops[1].block, ops[2].block = forward_statistics, forward_merge, forward_apply
    ops[1].blocks = 1
    return 3


cdef int run_forward(Norm *b) except -1:
    """Run what is set up in b, with scratch memory of this call."""
    cdef fnn_op ops[3]
    cdef Scratch scratch
    b.kernels = kernels_for(b.real)
    b.far = far_forward(b)
    borrow(&scratch, plan(b, 1))
    try:
        place(b, scratch.memory)
        if not b.training:
            frozen_scale(b)
            b.shift = <char *>b.beta
        if b.rows and b.cols:
            run_now(ops, forward_ops(b, ops), threads_for(FLOPS * b.rows * b.cols * b.inner), NULL, 0)
    finally:
        give_back(&scratch)
    return 0


cdef void frozen_scale(Norm *b) noexcept nogil:
    """scale of given statistics: running ones, or mean and rstd that a forward has returned."""
    if b.running_mean != NULL:
        b.kernels.batchnorm_frozen(b.mean, b.rstd, b.scale, b.running_mean, b.running_var, b.gamma, b.eps, b.cols)
    else:
        scale_from_rstd(b, 0, b.cols)


cdef int forward_arrays(Norm *b, Arrays arrays, x, gamma, beta, running_mean, running_var, y, mean,
                        rstd) except -1:
    b.x = arrays.matrix(x, &b.ldx)
    shape(b, arrays, gamma)
    b.y = arrays.matrix(y, &b.ldy, True)
    check_shape(b, arrays, "y")
    b.beta = vector(b, arrays, beta)
    if running_mean is not None or running_var is not None or not b.training:
        b.running_mean = vector(b, arrays, running_mean, b.training)
        b.running_var = vector(b, arrays, running_var, b.training)
    b.mean, b.rstd = vector(b, arrays, mean, True), vector(b, arrays, rstd, True)
    return 0


cdef Fit TRAINING = Fit("*c c c c!? c!? -> *= c c")
cdef Fit INFERENCE = Fit("*c c c c c -> *= c c")


cdef bint fill(Norm *b, Taken a, Py_ssize_t axis, bint training) noexcept:
    """The shape of contiguous arrays; False where the contract has something to say."""
    cdef Py_ssize_t *shape = a.views[0].shape
    cdef int i
    memset(b, 0, sizeof(Norm))
    if a.views[0].ndim < 2:
        return False
    b.real, b.training, b.cols, b.rows, b.inner = a.real, training, a.lengths[0], 1, 1
    for i in range(a.views[0].ndim):
        if i < axis:
            b.rows *= shape[i]
        elif i > axis:
            b.inner *= shape[i]
    if b.inner == 0:  # nothing to do, but for the channels
        b.rows, b.inner = 0, 1
    b.ldx = b.ldy = b.lddy = b.lds = b.lddx = b.cols * b.inner
    return not training or b.rows * b.inner >= 2


cdef bint fill_forward(Norm *b, Taken a, axis, bint training) noexcept:
    cdef Py_ssize_t number
    if not is_axis(axis, a, &number) or not fill(b, a, number, training):
        return False
    b.x, b.gamma, b.beta, b.running_mean, b.running_var = a.data(0), a.data(1), a.data(2), a.data(3), a.data(4)
    b.y, b.mean, b.rstd = a.data(5), a.data(6), a.data(7)
    return (b.running_mean == NULL) == (b.running_var == NULL)


def batchnorm_forward(x, gamma, beta, running_mean=None, running_var=None, *, training=True, momentum=0.1,
                      eps=1e-5, activation=None, axis=1, y_out=None, mean_out=None, rstd_out=None):
    cdef Norm b
    cdef Py_ssize_t number
    cdef bint trains = training
    cdef Fit fit = TRAINING if trains else INFERENCE
    cdef Taken a = None
    if is_whole(axis, &number):
        a = fit.take((x, gamma, beta, running_mean, running_var, y_out, mean_out, rstd_out), number)
    if a is None or not fill_forward(&b, a, axis, trains):
        axis, _, y_out, mean_out, rstd_out = contracts.batchnorm_forward(
            x, gamma, beta, running_mean, running_var, trains, momentum, eps, activation, axis, y_out, mean_out,
            rstd_out)
        a = fit.insist((x, gamma, beta, running_mean, running_var, y_out, mean_out, rstd_out), axis)
        if not fill_forward(&b, a, axis, trains):
            raise TypeError("the arrays do not fit the kernel")
    b.momentum, b.eps = fraction(momentum, "momentum", True), not_negative(eps, "eps")
    understand(activation, &b.activation, b.params)
    run_forward(&b)
    return a.outputs


def reapply(x, gamma, beta, mean, rstd, activation, y):
    """y = act(batch norm of x) from statistics that are given, for x (rows, channels * inner); y may be x."""
    cdef Norm b
    cdef Arrays arrays = Arrays()
    memset(&b, 0, sizeof(Norm))
    parse(activation, &b.activation, b.params)
    b.x = arrays.matrix(x, &b.ldx)
    shape(&b, arrays, gamma)
    b.y = arrays.matrix(y, &b.ldy, True)
    check_shape(&b, arrays, "y")
    b.beta, b.mean, b.rstd = vector(&b, arrays, beta), vector(&b, arrays, mean), vector(&b, arrays, rstd)
    run_forward(&b)
    return y


def moments(x, mean, m2):
    """mean and M2 = sum((x - mean)^2) of each column of x (rows, cols), into float64 arrays."""
    cdef Norm b
    cdef fnn_op op
    cdef Scratch scratch
    cdef Arrays arrays = Arrays(), results = Arrays()
    cdef char *mean_to
    cdef char *m2_to
    memset(&b, 0, sizeof(Norm))
    b.training, b.inner = True, 1
    b.x = arrays.matrix(x, &b.ldx)
    b.rows, b.cols, b.real = arrays.rows(), arrays.cols(), arrays.itemsize
    mean_to, m2_to = vector(&b, results, mean, True), vector(&b, results, m2, True)
    if results.itemsize != sizeof(double):
        raise ValueError("mean and m2 must be float64")
    if b.rows == 0 or b.cols == 0:
        raise ValueError("expected at least one row and one column")
    b.kernels = kernels_for(b.real)
    b.far = is_far(&b, FAR_BYTES)
    borrow(&scratch, plan(&b, 1))
    try:
        place(&b, scratch.memory)
        op.block, op.blocks, op.args = forward_statistics, b.row_blocks * b.col_blocks, &b
        run_now(&op, 1, threads_for(FLOPS * b.rows * b.cols), NULL, 0)
        merge_moments(b.sums, b.rows, b.row_block, b.cols)
        memcpy(mean_to, b.sums, b.cols * sizeof(double))
        memcpy(m2_to, b.sums + b.cols, b.cols * sizeof(double))
    finally:
        give_back(&scratch)


# --- backward ------------------------------------------------------------------------------------


cdef inline void backward_sum(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef double *sum_g = b.sums + i * 3 * b.cols + j
    cdef Py_ssize_t c = j * b.real, i0 = i * b.row_block, rows = min(b.row_block, b.rows - i * b.row_block)
    if b.inner == 1:
        b.kernels.batchnorm_backward_sums[b.activation](
            sum_g, sum_g + b.cols, sum_g + 2 * b.cols, at(b, b.dy, b.lddy, i0, j), b.lddy,
            at(b, b.x, b.ldx, i0, j), b.ldx, at(b, b.saved, b.lds, i0, j), b.lds, b.mean + c, b.scale + c,
            b.shift + c, rows, cols, b.far, b.params)
    else:
        b.kernels.batchnorm_run_backward_sums[b.activation](
            sum_g, sum_g + b.cols, sum_g + 2 * b.cols, at(b, b.dy, b.lddy, i0, j), b.lddy,
            at(b, b.x, b.ldx, i0, j), b.ldx, at(b, b.saved, b.lds, i0, j), b.lds, b.mean + c, b.scale + c,
            b.shift + c, rows, cols, b.inner, b.params)


cdef inline void backward_coefficients(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real
    b.kernels.batchnorm_coefficients(
        b.dgamma + at, b.dbeta + at, b.c_g + at, b.c_x + at, b.c_1 + at, b.sums + j, b.sums + b.cols + j,
        b.sums + 2 * b.cols + j, b.gamma + at, b.rstd + at, <double>(b.rows * b.inner), b.training, cols)


cdef inline void backward_apply(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    """As `apply`."""
    cdef Py_ssize_t c = j * b.real, i0 = i * b.row_block, rows = min(b.row_block, b.rows - i * b.row_block)
    cdef char *dx = <char *>at(b, b.dx, b.lddx, i0, j)
    if b.inner == 1:
        b.kernels.batchnorm_backward_apply[b.activation](
            dx, b.lddx, at(b, b.dy, b.lddy, i0, j), b.lddy, at(b, b.x, b.ldx, i0, j), b.ldx,
            at(b, b.saved, b.lds, i0, j), b.lds, b.mean + c, b.scale + c, b.shift + c, b.c_g + c, b.c_x + c,
            b.c_1 + c, rows, cols, b.far, b.params)
    else:
        b.kernels.batchnorm_run_backward_apply[b.activation](
            dx, b.lddx, at(b, b.dy, b.lddy, i0, j), b.lddy, at(b, b.x, b.ldx, i0, j), b.ldx,
            at(b, b.saved, b.lds, i0, j), b.lds, b.mean + c, b.scale + c, b.shift + c, b.c_g + c, b.c_x + c,
            b.c_1 + c, rows, cols, b.inner, b.params)


cdef inline void scale_from_rstd(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    """scale = gamma rstd, again from what is saved."""
    cdef Py_ssize_t q
    for q in range(j, j + cols):
        if b.real == 4:
            (<float *>b.scale)[q] = (<const float *>b.gamma)[q] * (<const float *>b.rstd)[q]
        else:
            (<double *>b.scale)[q] = (<const double *>b.gamma)[q] * (<const double *>b.rstd)[q]


cdef void backward_channels(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block * b.col_block, cols = min(b.col_block, b.cols - block * b.col_block)
    if b.finds_shift:
        statistics(b, 0, j, cols)
        shift_from_mean(b, j, cols)
    elif b.needs_input:
        scale_from_rstd(b, j, cols)
    backward_sum(b, 0, j, cols)
    backward_coefficients(b, j, cols)
    backward_apply(b, 0, j, cols)


cdef void backward_prepare(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """What is known before the sums are."""
    cdef const Norm *b = <const Norm *>op.args
    if b.needs_input:
        scale_from_rstd(b, 0, b.cols)
    if not b.training:  # dx = c_g g; what else this writes, the merge writes again
        memset(b.sums, 0, 3 * b.cols * sizeof(double))
        backward_coefficients(b, 0, b.cols)


cdef void backward_sums(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    backward_sum(b, block, 0, b.cols)


cdef void backward_merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    merge_sums(b.sums, b.rows, b.row_block, b.cols)
    backward_coefficients(b, 0, b.cols)


cdef void backward_rows(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    backward_apply(b, b.row_blocks - 1 - block, 0, b.cols)


cdef void backward_frozen(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Sums and result of a block while it is in cache."""
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t i = block // b.col_blocks, j = block % b.col_blocks * b.col_block
    cdef Py_ssize_t cols = min(b.col_block, b.cols - j)
    backward_sum(b, i, j, cols)
    backward_apply(b, i, j, cols)


cdef int backward_ops(Norm *b, fnn_op *ops) noexcept:
    """The operations of the chosen route, at most four; returns how many."""
    cdef int i
    for i in range(4):
        ops[i].args = b
        ops[i].blocks = max(1, b.row_blocks * b.col_blocks)
    if b.training and b.row_blocks == 1:
        ops[0].block = backward_channels
        return 1
    ops[0].block, ops[0].blocks = backward_prepare, 1
    ops[2].block, ops[2].blocks = backward_merge, 1
    if not b.training:
        ops[1].block = backward_frozen
        return 3
    ops[1].block, ops[3].block = backward_sums, backward_rows
    return 4


cdef int backward_arrays(Norm *b, Arrays arrays, dy, x, gamma, mean, rstd, shift, saved, dx, dgamma,
                         dbeta) except -1:
    b.dy = arrays.matrix(dy, &b.lddy)
    shape(b, arrays, gamma)
    b.x = arrays.matrix(x, &b.ldx)
    check_shape(b, arrays, "dy")
    b.saved, b.lds = b.x, b.ldx
    b.needs_input = saved is None and b.activation != 0
    if saved is not None:
        b.saved = arrays.matrix(saved, &b.lds)
        check_shape(b, arrays, "saved")
    elif b.needs_input and shift is None:
        raise ValueError("an activation needs saved or shift")
    b.dx = arrays.matrix(dx, &b.lddx, True)
    check_shape(b, arrays, "dx")
    b.mean, b.rstd = vector(b, arrays, mean), vector(b, arrays, rstd)
    b.dgamma, b.dbeta = vector(b, arrays, dgamma, True), vector(b, arrays, dbeta, True)
    return 0


cdef size_t plan_backward(Norm *b) noexcept nogil:
    return plan(b, 2 if b.saved == b.x else 3)


cdef Fit BACKWARD = Fit("*c * c c c c? *? -> *= c c")


cdef bint fill_backward(Norm *b, Taken a, axis, bint training, object activation) except -1:
    cdef Py_ssize_t number
    if not is_axis(axis, a, &number) or not fill(b, a, number, training):
        return False
    understand(activation, &b.activation, b.params)
    b.needs_input = b.activation and needs_input(b.activation)
    b.dy, b.x, b.gamma, b.mean, b.rstd, b.beta = a.data(0), a.data(1), a.data(2), a.data(3), a.data(4), a.data(5)
    b.dx, b.dgamma, b.dbeta = a.data(7), a.data(8), a.data(9)
    if b.activation and not b.needs_input:
        b.saved = a.data(6)  # NULL: the output is computed again
    else:
        b.saved = b.x
    return b.beta != NULL or not (b.needs_input or b.saved == NULL)


def batchnorm_backward(dy, x, gamma, mean, rstd, *, beta=None, y=None, training=True, activation=None, axis=1,
                       dx_out=None, dgamma_out=None, dbeta_out=None):
    cdef Norm b
    cdef Py_ssize_t number
    cdef bint trains = training
    cdef Taken a = None
    if activation is None:  # they are then ignored
        beta = y = None
    if is_whole(axis, &number):
        a = BACKWARD.take((dy, x, gamma, mean, rstd, beta, y, dx_out, dgamma_out, dbeta_out), number)
    if a is None or not fill_backward(&b, a, axis, trains, activation):
        axis, _, dx_out, dgamma_out, dbeta_out = contracts.batchnorm_backward(
            dy, x, gamma, mean, rstd, beta, y, trains, activation, axis, dx_out, dgamma_out, dbeta_out)
        a = BACKWARD.insist((dy, x, gamma, mean, rstd, beta, y, dx_out, dgamma_out, dbeta_out), axis)
        if not fill_backward(&b, a, axis, trains, activation):
            raise TypeError("the arrays do not fit the kernel")
    run_backward(&b)
    return a.outputs


cdef int run_backward(Norm *b) except -1:
    cdef fnn_op ops[4]
    cdef Scratch scratch
    cdef char *y = NULL
    b.kernels = kernels_for(b.real)
    b.far = is_far(b, FAR_BYTES)
    borrow(&scratch, plan_backward(b))
    try:
        place(b, scratch.memory)
        if not b.training:  # the mean is what it was
            b.shift = <char *>b.beta
        elif b.saved == NULL or b.needs_input and b.row_blocks > 1:
            find_shift(b)
        else:
            b.finds_shift = b.needs_input
        if b.saved == NULL:
            y = allocate(b.rows * b.cols * b.inner * b.real + 1)
            make_output(b, y)
            b.saved = y
        if b.cols:
            run_now(ops, backward_ops(b, ops), threads_for(FLOPS * b.rows * b.cols * b.inner), NULL, 0)
    finally:
        release(y)
        give_back(&scratch)
    return 0


cdef int find_shift(Norm *b) except -1:
    """What z is made with again, as it was in forward, which knew the exact mean."""
    cdef fnn_op ops[2]
    if b.cols:
        ops[0].block, ops[0].blocks, ops[0].args = forward_statistics, b.row_blocks * b.col_blocks, b
        ops[1].block, ops[1].blocks, ops[1].args = backward_shift, 1, b
        run_now(ops, 2, threads_for(FLOPS * b.rows * b.cols * b.inner / 4), NULL, 0)
    return 0


cdef void backward_shift(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    merge_moments(b.sums, b.rows * b.inner, b.row_block * b.inner, b.cols)
    shift_from_mean(b, 0, b.cols)


cdef inline void shift_from_mean(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    """scale and shift of some channels, whose exact mean stands in the sums."""
    cdef Py_ssize_t q
    scale_from_rstd(b, j, cols)
    for q in range(j, j + cols):
        if b.real == 4:
            (<float *>b.shift)[q] = <float>((<const float *>b.beta)[q] - (b.sums[q] - (<const float *>b.mean)[q])
                                            * (<const float *>b.scale)[q])
        else:
            (<double *>b.shift)[q] = ((<const double *>b.beta)[q] - (b.sums[q] - (<const double *>b.mean)[q])
                                      * (<const double *>b.scale)[q])


cdef int make_output(const Norm *b, char *y) except -1:
    """The output again, from the saved statistics."""
    cdef Norm again
    memcpy(&again, b, sizeof(Norm))
    again.training, again.beta, again.y = False, b.shift, y
    return run_forward(&again)


# --- operations of a program ---------------------------------------------------------------------


cdef int add(Program p, object name, Norm *b, fnn_op *ops, int count) except -1:
    cdef int i
    for i in range(count):
        p.add(name if i == count - 1 else f"{name}: part {i + 1}", ops[i].block, ops[i].blocks, b,
              FLOPS * b.rows * b.cols / count, 0)
    return 0


def add_forward(Program p, name, x, gamma, beta, running_mean, running_var, double momentum, double eps,
                activation, y, mean, rstd, shift=None):
    """y = act(batch norm of x), training; into `shift` what z was made with, for `add_backward`."""
    cdef Norm *b = <Norm *>p.args(sizeof(Norm))
    cdef Arrays arrays = p.arrays((x, gamma, beta, running_mean, running_var, y, mean, rstd, shift))
    cdef fnn_op ops[3]
    b.training, b.momentum, b.eps = True, momentum, eps
    parse(activation, &b.activation, b.params)
    forward_arrays(b, arrays, x, gamma, beta, running_mean, running_var, y, mean, rstd)
    b.kernels = p.kernels
    b.far = is_far(b, FAR_BYTES_IN_STEP)
    place(b, p.own(plan(b, 1)))
    if shift is not None:
        b.shift = vector(b, arrays, shift, True)
    add(p, name, b, ops, forward_ops(b, ops))


def add_backward(Program p, name, dy, x, gamma, mean, rstd, shift, saved, activation, dx, dgamma, dbeta):
    """dx, dgamma, dbeta of the same, from the saved statistics and `saved` (y), or from x and `shift`."""
    cdef Norm *b = <Norm *>p.args(sizeof(Norm))
    cdef Arrays arrays = p.arrays((dy, x, gamma, mean, rstd, shift, saved, dx, dgamma, dbeta))
    cdef fnn_op ops[4]
    b.training = True
    parse(activation, &b.activation, b.params)
    backward_arrays(b, arrays, dy, x, gamma, mean, rstd, shift, saved, dx, dgamma, dbeta)
    b.kernels = p.kernels
    b.far = is_far(b, FAR_BYTES_IN_STEP)
    place(b, p.own(plan_backward(b)))
    if shift is not None:
        b.shift = vector(b, arrays, shift)
    add(p, name, b, ops, backward_ops(b, ops))
