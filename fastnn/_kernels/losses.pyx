# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Softmax and the losses: split over threads by blocks of rows, sums added up in block order."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport Scratch, borrow, give_back, kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program, add_judge
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

cdef double FLOPS = 40.0  # what an element is counted as, for the choice of threads

ctypedef struct Rows:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, row_block
    bint logarithm
    char *out
    const char *x
    const char *y

cdef Py_ssize_t rows_per_block(Py_ssize_t cols) noexcept nogil:
    """About 16,384 elements, in whole vectors of rows."""
    return max(16, 16384 // max(1, cols) // 16 * 16)


cdef void softmax_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Rows *r = <const Rows *>op.args
    cdef Py_ssize_t i = block * r.row_block, at = i * r.cols * r.real
    r.kernels.softmax_forward(r.out + at, r.x + at, min(r.row_block, r.rows - i), r.cols, r.logarithm)


cdef void softmax_backward_block(const fnn_op *op, Py_ssize_t block, void *workspace,
                                 fnn_run *run) noexcept nogil:
    cdef const Rows *r = <const Rows *>op.args
    cdef Py_ssize_t i = block * r.row_block, at = i * r.cols * r.real
    r.kernels.softmax_backward(r.out + at, r.x + at, r.y + at, min(r.row_block, r.rows - i), r.cols,
                               r.logarithm)


cdef int run_rows(Rows *r, Arrays arrays, out, bint backward) except -1:
    cdef fnn_op op
    cdef Py_ssize_t size = arrays.size()
    r.out = arrays.real(out, True)
    if size < 0 or arrays.size() != size or size != r.rows * r.cols:
        raise ValueError("the output does not fit the input")
    r.real = arrays.itemsize
    r.kernels = kernels_for(r.real)
    r.row_block = rows_per_block(r.cols)
    op.block = softmax_backward_block if backward else softmax_block
    op.blocks = (r.rows + r.row_block - 1) // r.row_block
    op.args = r
    if size == 0:
        return 0
    return run_now(&op, 1, threads_for(FLOPS * size), NULL, 0)


def softmax_forward(x, Py_ssize_t cols, bint logarithm, out):
    """Softmax, or its logarithm, over runs of `cols` elements; out may be x."""
    cdef Rows r
    cdef Arrays arrays = Arrays()
    r.x, r.cols, r.logarithm = arrays.real(x), cols, logarithm
    r.rows = arrays.size() // max(1, cols)
    run_rows(&r, arrays, out, False)
    return out


def softmax_backward(dy, y, Py_ssize_t cols, bint logarithm, dx):
    """The gradient from the saved output; dx may be dy or y."""
    cdef Rows r
    cdef Arrays arrays = Arrays()
    r.x, r.cols, r.logarithm = arrays.real(dy), cols, logarithm
    r.rows = arrays.size() // max(1, cols)
    r.y = arrays.real(y)
    if arrays.size() != r.rows * r.cols:
        raise ValueError("y does not fit dy")
    run_rows(&r, arrays, dx, True)
    return dx


# --- losses --------------------------------------------------------------------------------------

ctypedef struct Loss:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, row_block, blocks
    char *gradient
    Py_ssize_t ldg
    const char *output
    Py_ssize_t ldo
    const int64_t *labels
    const char *weights
    const char *target
    double smoothing, scale
    double *sums
    int64_t *hits


cdef void cross_entropy_block(const fnn_op *op, Py_ssize_t block, void *workspace,
                              fnn_run *run) noexcept nogil:
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i = block * s.row_block
    s.sums[block] = s.kernels.softmax_cross_entropy(
        s.gradient + i * s.ldg * s.real, s.ldg, s.output + i * s.ldo * s.real, s.ldo, s.labels + i,
        s.weights + i * s.real if s.weights != NULL else NULL, s.smoothing, s.scale,
        min(s.row_block, s.rows - i), s.cols, &s.hits[block])


cdef void soft_cross_entropy_block(const fnn_op *op, Py_ssize_t block, void *workspace,
                                   fnn_run *run) noexcept nogil:
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i = block * s.row_block
    s.hits[block] = 0
    s.sums[block] = s.kernels.soft_cross_entropy(
        s.gradient + i * s.ldg * s.real, s.ldg, s.output + i * s.ldo * s.real, s.ldo,
        s.target + i * s.cols * s.real, s.scale, min(s.row_block, s.rows - i), s.cols)


cdef inline double weight_of(const Loss *s, Py_ssize_t i) noexcept nogil:
    if s.weights == NULL:
        return 1.0
    return (<const float *>s.weights)[i] if s.real == 4 else (<const double *>s.weights)[i]


cdef void squared_error_block(const fnn_op *op, Py_ssize_t block, void *workspace,
                              fnn_run *run) noexcept nogil:
    """At once where rows lie side by side and count the same, else row by row; targets are contiguous."""
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i, i0 = block * s.row_block
    cdef double total = 0, w
    s.hits[block] = 0
    if s.ldo == s.cols and s.ldg == s.cols and s.weights == NULL:
        s.sums[block] = s.kernels.mean_squared_error(
            s.gradient + i0 * s.cols * s.real, s.output + i0 * s.cols * s.real,
            s.target + i0 * s.cols * s.real, s.scale, min(s.row_block, s.rows - i0) * s.cols)
        return
    for i in range(i0, min(i0 + s.row_block, s.rows)):
        w = weight_of(s, i)
        total += w * s.kernels.mean_squared_error(
            s.gradient + i * s.ldg * s.real, s.output + i * s.ldo * s.real, s.target + i * s.cols * s.real,
            s.scale * w, s.cols)
    s.sums[block] = total


cdef int loss_arrays(Loss *s, Arrays arrays, output, gradient) except -1:
    s.output = arrays.matrix(output, &s.ldo)
    s.rows, s.cols = arrays.rows(), arrays.cols()
    s.gradient = arrays.matrix(gradient, &s.ldg, True)
    if arrays.rows() != s.rows or arrays.cols() != s.cols:
        raise ValueError("the gradient does not fit the output")
    s.real = arrays.itemsize
    s.row_block = rows_per_block(s.cols)
    s.blocks = (s.rows + s.row_block - 1) // s.row_block
    return 0


cdef int check_labels(Loss *s, Arrays arrays) except -1:
    cdef Py_ssize_t i
    if arrays.size() != s.rows:
        raise ValueError(f"labels must have one entry for each of {s.rows} rows, got {arrays.size()}")
    for i in range(s.rows):
        if not 0 <= s.labels[i] < s.cols:
            raise ValueError(f"labels must lie in [0, {s.cols}), got {s.labels[i]} at index {i}")
    return 0


cdef double run_loss(Loss *s, fnn_op *op) except? -1e300:
    """The sum over the blocks in their order."""
    cdef Scratch scratch
    cdef Py_ssize_t i
    cdef double total = 0
    s.kernels = kernels_for(s.real)
    if s.rows == 0 or s.cols == 0:
        return 0.0
    borrow(&scratch, s.blocks * 16)
    try:
        s.sums = <double *>scratch.memory
        s.hits = <int64_t *>scratch.memory + s.blocks
        op.args, op.blocks = s, s.blocks
        run_now(op, 1, threads_for(FLOPS * s.rows * s.cols), NULL, 0)
        for i in range(s.blocks):
            total += s.sums[i]
    finally:
        give_back(&scratch)
    return total


def softmax_cross_entropy(logits, labels, weights, double smoothing, double scale, gradient):
    """Sum of the rows' losses times `scale`; writes the gradient, which may be logits."""
    cdef Loss s
    cdef fnn_op op
    cdef Arrays arrays = Arrays()
    memset(&s, 0, sizeof(Loss))
    loss_arrays(&s, arrays, logits, gradient)
    s.labels = arrays.whole(labels)
    check_labels(&s, arrays)
    s.weights = arrays.real(weights)
    if weights is not None and arrays.size() != s.rows:
        raise ValueError("weights do not fit logits")
    s.smoothing, s.scale = smoothing, scale
    op.block = cross_entropy_block
    return scale * run_loss(&s, &op)


def soft_cross_entropy(logits, targets, double scale, gradient):
    """The same for targets (rows, classes), weights and smoothing already in them."""
    cdef Loss s
    cdef fnn_op op
    cdef Arrays arrays = Arrays()
    memset(&s, 0, sizeof(Loss))
    loss_arrays(&s, arrays, logits, gradient)
    s.target = arrays.real(targets)
    if arrays.size() != s.rows * s.cols:
        raise ValueError("targets do not fit logits")
    s.scale = scale
    op.block = soft_cross_entropy_block
    return scale * run_loss(&s, &op)


def mean_squared_error(pred, target, weights, double scale, gradient):
    """Sum of the rows' weighted squared errors times `scale`, of matrices; the gradient may be pred."""
    cdef Loss s
    cdef fnn_op op
    cdef Arrays arrays = Arrays()
    memset(&s, 0, sizeof(Loss))
    loss_arrays(&s, arrays, pred, gradient)
    s.target = arrays.real(target)
    if arrays.size() != s.rows * s.cols:
        raise ValueError("target does not fit pred")
    s.weights = arrays.real(weights)
    if weights is not None and arrays.size() != s.rows:
        raise ValueError("weights do not fit pred")
    s.scale = scale
    op.block = squared_error_block
    return scale * run_loss(&s, &op)


# --- operations of a program ---------------------------------------------------------------------


cdef int place(Program p, Loss *s) except -1:
    s.kernels = p.kernels
    s.sums = <double *>p.own(max(1, s.blocks) * sizeof(double))
    s.hits = <int64_t *>p.own(max(1, s.blocks) * sizeof(int64_t))
    return 0


def add_softmax_cross_entropy(Program p, name, logits, labels, double smoothing, gradient):
    """The mean loss of the batch, its gradient and the rows that are right."""
    cdef Loss *s = <Loss *>p.args(sizeof(Loss))
    cdef Arrays arrays = p.arrays((logits, labels, gradient))
    loss_arrays(s, arrays, logits, gradient)
    s.labels = arrays.whole(labels)
    if arrays.size() != s.rows:
        raise ValueError("labels do not fit logits")
    s.smoothing, s.scale = smoothing, 1.0 / s.rows
    place(p, s)
    p.add(name, cross_entropy_block, s.blocks, s, FLOPS * s.rows * s.cols, 0)
    add_judge(p, s.sums, s.hits, s.blocks, s.scale)


def add_mean_squared_error(Program p, name, pred, target, gradient):
    """The mean over all elements of the batch, and its gradient."""
    cdef Loss *s = <Loss *>p.args(sizeof(Loss))
    cdef Arrays arrays = p.arrays((pred, target, gradient))
    loss_arrays(s, arrays, pred, gradient)
    s.target = arrays.real(target)
    if arrays.size() != s.rows * s.cols:
        raise ValueError("target does not fit pred")
    s.scale = 1.0 / (s.rows * s.cols)
    place(p, s)
    p.add(name, squared_error_block, s.blocks, s, FLOPS * s.rows * s.cols, 0)
    add_judge(p, s.sums, s.hits, s.blocks, s.scale)
