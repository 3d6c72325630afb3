# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Softmax and log-softmax over the columns of a matrix, split over threads by blocks of rows."""

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

cdef double FLOPS = 40.0  # what an element is counted as, for the choice of threads

ctypedef struct Rows:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, row_block, blocks
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
    r.row_block = max(16, 16384 // max(1, r.cols) // 16 * 16)  # about 16,384 elements
    r.blocks = (r.rows + r.row_block - 1) // r.row_block
    return 0


cdef int run_rows(x, saved, bint logarithm, out) except -1:
    cdef Rows r
    cdef fnn_op op
    cdef Arrays arrays = Arrays()
    softmax_arrays(&r, arrays, x, saved, logarithm, out)
    r.kernels = kernels_for(r.real)
    if r.rows == 0 or r.cols == 0:
        return 0
    op.block, op.blocks, op.args = softmax_block, r.blocks, &r
    return run_now(&op, 1, threads_for(FLOPS * r.rows * r.cols), NULL, 0)


def forward(x, bint logarithm, out):
    """Softmax of each row of a matrix, or its logarithm; out may be x."""
    run_rows(x, None, logarithm, out)
    return out


def backward(dy, y, bint logarithm, dx):
    """The gradient from the saved output; dx may be dy or y."""
    run_rows(dy, y, logarithm, dx)
    return dx


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
