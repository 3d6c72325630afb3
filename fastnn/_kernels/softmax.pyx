# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Softmax and log-softmax along an axis, split over threads by blocks of rows.

Along the last axis that is a softmax of each row of a matrix; along another, one down each column of a stack of
matrices.
"""
from fastnn._kernels.arguments cimport Fit, Taken, is_axis
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

from fastnn import contracts

cdef double FLOPS = 40.0  # what an element is counted as, for the choice of threads

ctypedef struct Rows:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, row_block, blocks
    Py_ssize_t inner    # elements of a column that are one step of the axis apart: 1 along the last axis
    bint logarithm
    char *out
    Py_ssize_t ldo
    const char *x       # forward: x; backward: dy
    Py_ssize_t ldx
    const char *saved   # backward: y; NULL: forward
    Py_ssize_t lds


cdef void softmax_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Rows *r = <const Rows *>op.args
    cdef Py_ssize_t i = block * r.row_block, n = min(r.row_block, r.rows - i)
    if r.saved == NULL:
        r.kernels.softmax_forward(r.out + i * r.ldo * r.real, r.ldo, r.x + i * r.ldx * r.real, r.ldx, n, r.cols,
                                  r.logarithm)
    else:
        r.kernels.softmax_backward(r.out + i * r.ldo * r.real, r.ldo, r.x + i * r.ldx * r.real, r.ldx,
                                   r.saved + i * r.lds * r.real, r.lds, n, r.cols, r.logarithm)


cdef void across_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Columns of one row of blocks (cols, inner): a softmax down each."""
    cdef const Rows *r = <const Rows *>op.args
    cdef Py_ssize_t cuts = (r.inner + r.row_block - 1) // r.row_block, j = block % cuts * r.row_block
    cdef Py_ssize_t n = min(r.row_block, r.inner - j), at = (block // cuts * r.cols * r.inner + j) * r.real
    if r.saved == NULL:
        r.kernels.softmax_across_forward(r.out + at, r.x + at, r.inner, r.cols, n, r.logarithm)
    else:
        r.kernels.softmax_across_backward(r.out + at, r.x + at, r.saved + at, r.inner, r.cols, n, r.logarithm)


cdef void cut_rows(Rows *r) noexcept:
    r.row_block = max(16, 16384 // max(1, r.cols) // 16 * 16)  # about 16,384 elements
    r.blocks = (r.rows + r.row_block - 1) // r.row_block


cdef int softmax_arrays(Rows *r, Arrays arrays, x, saved, bint logarithm, out) except -1:
    r.x = arrays.matrix(x, &r.ldx)
    r.rows, r.cols, r.logarithm = arrays.rows(), arrays.cols(), logarithm
    r.saved = arrays.matrix(saved, &r.lds)
    if saved is not None and (arrays.rows() != r.rows or arrays.cols() != r.cols):
        raise ValueError("the saved output does not fit the gradient")
    r.out = arrays.matrix(out, &r.ldo, True)
    if arrays.rows() != r.rows or arrays.cols() != r.cols:
        raise ValueError("the output does not fit the input")
    r.real = arrays.itemsize
    cut_rows(r)
    return 0


cdef Fit FORWARD = Fit("* -> *="), BACKWARD = Fit("* * -> *=")


cdef object run_rows(Taken a, Py_ssize_t axis, bint logarithm, bint backward):
    """Softmax along an axis of contiguous arrays, forward or backward."""
    cdef Rows r
    cdef fnn_op op
    cdef int i, threads
    if not 0 <= axis < a.views[0].ndim:
        raise ValueError("the axis does not fit the kernel")
    r.real, r.kernels, r.logarithm = a.real, kernels_for(a.real), logarithm
    r.x, r.saved, r.out = a.data(0), a.data(1) if backward else NULL, a.data(2 if backward else 1)
    r.rows, r.cols, r.inner = 1, a.views[0].shape[axis], 1
    for i in range(a.views[0].ndim):
        if i < axis:
            r.rows *= a.views[0].shape[i]
        elif i > axis:
            r.inner *= a.views[0].shape[i]
    if a.views[0].len == 0:
        return a.output
    r.ldx = r.lds = r.ldo = r.cols
    threads = threads_for(FLOPS * r.rows * r.cols * r.inner)
    op.args = &r
    if r.inner == 1:
        cut_rows(&r)
        op.block, op.blocks = softmax_block, r.blocks
        run_now(&op, 1, threads, NULL, 0)
        return a.output
    r.row_block = min(r.inner, max(64, 32768 // r.cols // 64 * 64))
    op.block, op.blocks = across_block, r.rows * ((r.inner + r.row_block - 1) // r.row_block)
    run_now(&op, 1, threads, NULL, 0)
    return a.output


cdef object forward(x, axis, bint logarithm, out):
    cdef Py_ssize_t number
    cdef Taken a = FORWARD.take((x, out))
    if a is None or not is_axis(axis, a, &number):
        number, out = contracts.softmax(x, axis, out)
        a = FORWARD.insist((x, out))
    return run_rows(a, number, logarithm, False)


cdef object backward(dy, y, axis, bint logarithm, dx_out):
    cdef Py_ssize_t number
    cdef Taken a = BACKWARD.take((dy, y, dx_out))
    if a is None or not is_axis(axis, a, &number):
        number, dx_out = contracts.softmax_backward(dy, y, axis, dx_out)
        a = BACKWARD.insist((dy, y, dx_out))
    return run_rows(a, number, logarithm, True)


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------


def softmax(x, axis=-1, *, out=None):
    return forward(x, axis, False, out)


def softmax_backward(dy, y, axis=-1, *, dx_out=None):
    return backward(dy, y, axis, False, dx_out)


def log_softmax(x, axis=-1, *, out=None):
    return forward(x, axis, True, out)


def log_softmax_backward(dy, y, axis=-1, *, dx_out=None):
    return backward(dy, y, axis, True, dx_out)


# --- operations of a program ---------------------------------------------------------------------


cdef int add_rows(Program p, object name, x, saved, bint logarithm, out) except -1:
    cdef Rows *r = <Rows *>p.args(sizeof(Rows))
    softmax_arrays(r, p.arrays((x, saved, out)), x, saved, logarithm, out)
    r.kernels = p.kernels
    return p.add(name, softmax_block, r.blocks, r, FLOPS * r.rows * r.cols, 0)


def add_forward(Program p, name, x, bint logarithm, out):
    """out = softmax of the rows of x, or its logarithm."""
    add_rows(p, name, x, None, logarithm, out)


def add_backward(Program p, name, dy, y, bint logarithm, dx):
    """dx from dy and the saved output; dx may be dy."""
    add_rows(p, name, dy, y, logarithm, dx)
