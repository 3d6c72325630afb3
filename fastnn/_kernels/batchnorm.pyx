# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Batch normalisation of the columns of x (rows, cols): cuts for caches and threads.

Design
------
Two routes, chosen by shape alone:
- columns: blocks of columns narrow enough for all their rows to stay in L2; statistics, coefficients
  and result of a block in one operation.
- rows: for more rows than that.  Operation 1 takes statistics of blocks of rows, operation 2 (one
  block) merges them in row order, operation 3 applies them.
"""
from libc.stddef cimport size_t
from libc.string cimport memset

from fastnn._kernels.activations cimport parse
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport Scratch, borrow, give_back, kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run


cdef Py_ssize_t L2_BYTES = 524288   # what a block may take of the second-level cache
cdef double FLOPS = 24.0            # what an element is counted as, for the choice of threads

ctypedef struct Norm:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols
    bint training
    bint needs_input      # the activation is differentiated from its input, computed again
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
    # workspace: per row block, two doubles a column; then `real` coefficients of all columns
    double *sums          # (row_blocks, 2, cols): mean and M2, or sum g and sum g (x - mean)
    char *scale
    char *shift
    char *c_g
    char *c_x
    char *c_1


cdef size_t plan(Norm *b) noexcept nogil:
    """Choose the route; returns the bytes of workspace."""
    cdef Py_ssize_t strip = 4 * b.kernels.lanes
    b.row_blocks = 1
    b.row_block = max(1, b.rows)
    b.col_block = max(strip, L2_BYTES // (b.real * max(1, b.rows)) // strip * strip)
    # a few blocks, for threads to share, even where the whole fits
    while b.col_block > strip and b.col_block * 4 > b.cols and b.rows * b.col_block > 8192:
        b.col_block = (b.col_block // 2 + strip - 1) // strip * strip
    if b.rows * strip * b.real > L2_BYTES:  # too many rows for a strip of columns
        b.row_block = max(64, L2_BYTES // 2 // (b.real * max(1, b.cols)) // 32 * 32)
        b.row_blocks = (b.rows + b.row_block - 1) // b.row_block
        b.col_block = b.cols
    b.col_blocks = (b.cols + b.col_block - 1) // b.col_block if b.cols else 0
    return <size_t>(b.row_blocks * 2 * b.cols * sizeof(double) + 5 * (b.cols * b.real + 64))


cdef void place(Norm *b, char *memory) noexcept nogil:
    """Lay the workspace out."""
    cdef size_t each = (b.cols * b.real + 63) // 64 * 64
    b.sums = <double *>memory
    memory += b.row_blocks * 2 * b.cols * sizeof(double)
    b.scale, b.shift, b.c_g, b.c_x, b.c_1 = (memory, memory + each, memory + 2 * each, memory + 3 * each,
                                             memory + 4 * each)


# --- forward -------------------------------------------------------------------------------------


cdef inline void statistics(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef double *sums = b.sums + i * 2 * b.cols
    b.kernels.batchnorm_statistics(sums + j, sums + b.cols + j, b.x + (i * b.row_block * b.ldx + j) * b.real,
                                   b.ldx, min(b.row_block, b.rows - i * b.row_block), cols)


cdef inline void finalize(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real
    b.kernels.batchnorm_finalize(
        b.mean + at, b.rstd + at, b.scale + at, b.shift + at, b.sums + j, b.sums + b.cols + j, b.gamma + at,
        b.beta + at, b.running_mean + at if b.running_mean != NULL else NULL,
        b.running_var + at if b.running_mean != NULL else NULL, <double>b.rows, b.momentum, b.eps, cols)


cdef inline void apply(const Norm *b, const char *shift, Py_ssize_t i, Py_ssize_t j,
                       Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real, i0 = i * b.row_block
    b.kernels.batchnorm_apply[b.activation](
        b.y + (i0 * b.ldy + j) * b.real, b.ldy, b.x + (i0 * b.ldx + j) * b.real, b.ldx, b.mean + at,
        b.scale + at, shift + at, min(b.row_block, b.rows - i0), cols, b.params)


cdef void forward_columns(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block * b.col_block, cols = min(b.col_block, b.cols - block * b.col_block)
    statistics(b, 0, j, cols)
    finalize(b, j, cols)
    apply(b, b.shift, 0, j, cols)


cdef void forward_statistics(const fnn_op *op, Py_ssize_t block, void *workspace,
                             fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    statistics(b, block, 0, b.cols)


cdef void forward_merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Merge the blocks' means and M2 into those of block 0, in row order (Chan et al. 1979)."""
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t i, j
    cdef double before = 0, rows, delta, share
    cdef const double *sums
    for i in range(1, b.row_blocks):
        before = <double>(i * b.row_block)
        rows = <double>min(b.row_block, b.rows - i * b.row_block)
        share = rows / (before + rows)
        sums = b.sums + i * 2 * b.cols
        for j in range(b.cols):
            delta = sums[j] - b.sums[j]
            b.sums[j] += delta * share
            b.sums[b.cols + j] += sums[b.cols + j] + delta * delta * before * share
    finalize(b, 0, b.cols)


cdef void forward_apply(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    apply(b, b.shift, block, 0, b.cols)


cdef void forward_frozen(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Inference: running statistics, one block of rows."""
    cdef const Norm *b = <const Norm *>op.args
    apply(b, b.beta, block, 0, b.cols)


cdef int forward_ops(Norm *b, fnn_op *ops) noexcept:
    """The operations of the chosen route, at most three; returns how many."""
    cdef int i
    for i in range(3):
        ops[i].args = b
        ops[i].blocks = max(1, b.row_blocks)
    if not b.training:
        ops[0].block = forward_frozen
        return 1
    if b.row_blocks == 1:
        ops[0].block, ops[0].blocks = forward_columns, max(1, b.col_blocks)
        return 1
    ops[0].block, ops[1].block, ops[2].block = forward_statistics, forward_merge, forward_apply
    ops[1].blocks = 1
    return 3


cdef char *vector(Norm *b, Arrays arrays, x, bint writable=False) except? NULL:
    """One number for each column."""
    cdef char *data = arrays.real(x, writable)
    if arrays.size() != b.cols:
        raise ValueError(f"expected a vector of {b.cols} columns, got "
                         + ("None" if x is None else f"{arrays.size()} elements"))
    return data


cdef int forward_arrays(Norm *b, Arrays arrays, x, gamma, beta, running_mean, running_var, y, mean,
                        rstd) except -1:
    b.x = arrays.matrix(x, &b.ldx)
    b.rows, b.cols = arrays.rows(), arrays.cols()
    b.real = arrays.itemsize
    b.y = arrays.matrix(y, &b.ldy, True)
    if arrays.rows() != b.rows or arrays.cols() != b.cols:
        raise ValueError("y does not fit x")
    b.gamma, b.beta = vector(b, arrays, gamma), vector(b, arrays, beta)
    if running_mean is not None or running_var is not None or not b.training:
        b.running_mean = vector(b, arrays, running_mean, b.training)
        b.running_var = vector(b, arrays, running_var, b.training)
    b.mean, b.rstd = vector(b, arrays, mean, True), vector(b, arrays, rstd, True)
    return 0


def forward(x, gamma, beta, running_mean, running_var, bint training, double momentum, double eps, activation,
            y, mean, rstd):
    """Batch norm of a matrix; `activation` as `checks.parse_activation` gives it; y may be x."""
    cdef Norm b
    cdef fnn_op ops[3]
    cdef Scratch scratch
    cdef Arrays arrays = Arrays()
    memset(&b, 0, sizeof(Norm))
    b.training, b.momentum, b.eps = training, momentum, eps
    parse(activation, &b.activation, b.params)
    forward_arrays(&b, arrays, x, gamma, beta, running_mean, running_var, y, mean, rstd)
    b.kernels = kernels_for(b.real)
    borrow(&scratch, plan(&b))
    try:
        place(&b, scratch.memory)
        if not training:
            plan_frozen(&b)
            b.kernels.batchnorm_frozen(b.mean, b.rstd, b.scale, b.running_mean, b.running_var, b.gamma, eps, b.cols)
        if b.rows and b.cols:
            run_now(ops, forward_ops(&b, ops), threads_for(FLOPS * b.rows * b.cols), NULL, 0)
    finally:
        give_back(&scratch)


def reapply(x, gamma, beta, mean, rstd, activation, y):
    """The output again from saved statistics: for a backward that was not given it."""
    cdef Norm b
    cdef fnn_op op
    cdef Scratch scratch
    cdef Arrays arrays = Arrays()
    memset(&b, 0, sizeof(Norm))
    parse(activation, &b.activation, b.params)
    b.x = arrays.matrix(x, &b.ldx)
    b.rows, b.cols, b.real = arrays.rows(), arrays.cols(), arrays.itemsize
    b.y = arrays.matrix(y, &b.ldy, True)
    if arrays.rows() != b.rows or arrays.cols() != b.cols:
        raise ValueError("y does not fit x")
    b.gamma, b.beta = vector(&b, arrays, gamma), vector(&b, arrays, beta)
    b.mean, b.rstd = vector(&b, arrays, mean), vector(&b, arrays, rstd)
    b.kernels = kernels_for(b.real)
    borrow(&scratch, plan(&b))
    try:
        place(&b, scratch.memory)
        plan_frozen(&b)
        scale_from_rstd(&b, 0, b.cols)
        op.block, op.blocks, op.args = forward_frozen, b.row_blocks, &b
        if b.rows and b.cols:
            run_now(&op, 1, threads_for(FLOPS * b.rows * b.cols), NULL, 0)
    finally:
        give_back(&scratch)


cdef void plan_frozen(Norm *b) noexcept nogil:
    """Elementwise work: blocks of rows of about half of L2.  (The workspace keeps its place.)"""
    b.row_block = max(1, L2_BYTES // 4 // (b.real * max(1, b.cols)))
    b.row_blocks = (b.rows + b.row_block - 1) // b.row_block


# --- backward ------------------------------------------------------------------------------------


cdef inline void backward_sum(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef double *sums = b.sums + i * 2 * b.cols
    cdef Py_ssize_t at = j * b.real, i0 = i * b.row_block
    b.kernels.batchnorm_backward_sums[b.activation](
        sums + j, sums + b.cols + j, b.dy + (i0 * b.lddy + j) * b.real, b.lddy,
        b.x + (i0 * b.ldx + j) * b.real, b.ldx,
        b.saved + (i0 * b.lds + j) * b.real, b.lds, b.mean + at, b.scale + at,
        b.beta + at if b.beta != NULL else b.mean + at, min(b.row_block, b.rows - i0), cols, b.params)


cdef inline void backward_coefficients(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real
    b.kernels.batchnorm_coefficients(
        b.dgamma + at, b.dbeta + at, b.c_g + at, b.c_x + at, b.c_1 + at, b.sums + j, b.sums + b.cols + j,
        b.gamma + at, b.rstd + at, <double>b.rows, b.training, cols)


cdef inline void backward_apply(const Norm *b, Py_ssize_t i, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t at = j * b.real, i0 = i * b.row_block
    b.kernels.batchnorm_backward_apply[b.activation](
        b.dx + (i0 * b.lddx + j) * b.real, b.lddx, b.dy + (i0 * b.lddy + j) * b.real, b.lddy,
        b.x + (i0 * b.ldx + j) * b.real, b.ldx,
        b.saved + (i0 * b.lds + j) * b.real, b.lds, b.mean + at, b.scale + at,
        b.beta + at if b.beta != NULL else b.mean + at, b.c_g + at, b.c_x + at, b.c_1 + at,
        min(b.row_block, b.rows - i0), cols, b.params)


cdef inline void scale_from_rstd(const Norm *b, Py_ssize_t j, Py_ssize_t cols) noexcept nogil:
    """scale = gamma rstd, again from what is saved."""
    cdef Py_ssize_t q
    for q in range(j, j + cols):
        if b.real == 4:
            (<float *>b.scale)[q] = (<const float *>b.gamma)[q] * (<const float *>b.rstd)[q]
        else:
            (<double *>b.scale)[q] = (<const double *>b.gamma)[q] * (<const double *>b.rstd)[q]


cdef void backward_columns(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t j = block * b.col_block, cols = min(b.col_block, b.cols - block * b.col_block)
    if b.needs_input:
        scale_from_rstd(b, j, cols)
    backward_sum(b, 0, j, cols)
    backward_coefficients(b, j, cols)
    backward_apply(b, 0, j, cols)


cdef void backward_scale(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    scale_from_rstd(b, 0, b.cols)


cdef void backward_sums(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    backward_sum(b, block, 0, b.cols)


cdef void backward_merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    cdef Py_ssize_t i, j
    for i in range(1, b.row_blocks):
        for j in range(2 * b.cols):
            b.sums[j] += b.sums[i * 2 * b.cols + j]
    backward_coefficients(b, 0, b.cols)


cdef void backward_rows(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *b = <const Norm *>op.args
    backward_apply(b, block, 0, b.cols)


cdef int backward_ops(Norm *b, fnn_op *ops) noexcept:
    """The operations of the chosen route, at most four; returns how many."""
    cdef int i, count = 0
    for i in range(4):
        ops[i].args = b
        ops[i].blocks = max(1, b.row_blocks)
    if b.row_blocks == 1:
        ops[0].block, ops[0].blocks = backward_columns, max(1, b.col_blocks)
        return 1
    if b.needs_input:
        ops[count].block, ops[count].blocks = backward_scale, 1
        count += 1
    ops[count].block, ops[count + 1].block, ops[count + 2].block = backward_sums, backward_merge, backward_rows
    ops[count + 1].blocks = 1
    return count + 3


cdef int backward_arrays(Norm *b, Arrays arrays, dy, x, gamma, mean, rstd, beta, saved, dx, dgamma,
                         dbeta) except -1:
    b.dy = arrays.matrix(dy, &b.lddy)
    b.rows, b.cols = arrays.rows(), arrays.cols()
    b.real = arrays.itemsize
    b.x = arrays.matrix(x, &b.ldx)
    if arrays.rows() != b.rows or arrays.cols() != b.cols:
        raise ValueError("x does not fit dy")
    b.saved, b.lds = b.x, b.ldx
    b.needs_input = saved is None and b.activation != 0
    if saved is not None:
        b.saved = arrays.matrix(saved, &b.lds)
        if arrays.rows() != b.rows or arrays.cols() != b.cols:
            raise ValueError("saved does not fit dy")
    elif b.needs_input and beta is None:
        raise ValueError("an activation needs saved or beta")
    b.dx = arrays.matrix(dx, &b.lddx, True)
    if arrays.rows() != b.rows or arrays.cols() != b.cols:
        raise ValueError("dx does not fit dy")
    b.gamma, b.beta = vector(b, arrays, gamma), NULL if beta is None else vector(b, arrays, beta)
    b.mean, b.rstd = vector(b, arrays, mean), vector(b, arrays, rstd)
    b.dgamma, b.dbeta = vector(b, arrays, dgamma, True), vector(b, arrays, dbeta, True)
    return 0


def backward(dy, x, gamma, mean, rstd, beta, saved, bint training, activation, dx, dgamma, dbeta):
    """Gradients of `forward`; saved: y, or None where `beta` lets the input be computed again."""
    cdef Norm b
    cdef fnn_op ops[4]
    cdef Scratch scratch
    cdef Arrays arrays = Arrays()
    memset(&b, 0, sizeof(Norm))
    b.training = training
    parse(activation, &b.activation, b.params)
    backward_arrays(&b, arrays, dy, x, gamma, mean, rstd, beta, saved, dx, dgamma, dbeta)
    b.kernels = kernels_for(b.real)
    borrow(&scratch, plan(&b))
    try:
        place(&b, scratch.memory)
        if b.cols:
            run_now(ops, backward_ops(&b, ops), threads_for(FLOPS * b.rows * b.cols), NULL, 0)
    finally:
        give_back(&scratch)


# --- operations of a program ---------------------------------------------------------------------


cdef int add(Program p, object name, Norm *b, fnn_op *ops, int count) except -1:
    cdef int i
    for i in range(count):
        p.add(name if i == count - 1 else f"{name}: part {i + 1}", ops[i].block, ops[i].blocks, b,
              FLOPS * b.rows * b.cols / count, 0)
    return 0


def add_forward(Program p, name, x, gamma, beta, running_mean, running_var, double momentum, double eps,
                activation, y, mean, rstd):
    """y = act(batch norm of x), training."""
    cdef Norm *b = <Norm *>p.args(sizeof(Norm))
    cdef fnn_op ops[4]
    b.training, b.momentum, b.eps = True, momentum, eps
    parse(activation, &b.activation, b.params)
    forward_arrays(b, p.arrays((x, gamma, beta, running_mean, running_var, y, mean, rstd)), x, gamma, beta,
                   running_mean, running_var, y, mean, rstd)
    b.kernels = p.kernels
    place(b, p.own(plan(b)))
    add(p, name, b, ops, forward_ops(b, ops))


def add_backward(Program p, name, dy, x, gamma, mean, rstd, beta, saved, activation, dx, dgamma, dbeta):
    """dx, dgamma, dbeta of the same, from the saved statistics and `saved` (y), or from x and beta."""
    cdef Norm *b = <Norm *>p.args(sizeof(Norm))
    cdef fnn_op ops[4]
    b.training = True
    parse(activation, &b.activation, b.params)
    backward_arrays(b, p.arrays((dy, x, gamma, mean, rstd, beta, saved, dx, dgamma, dbeta)), dy, x, gamma, mean,
                    rstd, beta, saved, dx, dgamma, dbeta)
    b.kernels = p.kernels
    place(b, p.own(plan(b)))
    add(p, name, b, ops, backward_ops(b, ops))
