# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Maxout of matrices, split over threads by blocks of rows: forward beside backward."""
from libc.stdint cimport uint8_t

from fastnn._kernels.arguments cimport Fit, Taken, is_whole
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

from fastnn import contracts

cdef double FLOPS = 4.0  # what an element is counted as, for the choice of threads

ctypedef struct Maxout:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, units, pieces, row_block, blocks
    char *wide           # (rows, units * pieces): x, or dx
    Py_ssize_t ldw
    char *narrow         # (rows, units): y, or dy
    Py_ssize_t ldn
    uint8_t *which
    bint backward


cdef void maxout_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Maxout *m = <const Maxout *>op.args
    cdef Py_ssize_t i = block * m.row_block, n = min(m.row_block, m.rows - i)
    cdef char *wide = m.wide + i * m.ldw * m.real
    cdef char *narrow = m.narrow + i * m.ldn * m.real
    if m.backward:
        m.kernels.maxout_backward(wide, m.ldw, narrow, m.ldn, m.which + i * m.units, m.pieces, n, m.units)
    else:
        m.kernels.maxout_forward(narrow, m.ldn, m.which + i * m.units, wide, m.ldw, m.pieces, n, m.units)


cdef void cut_rows(Maxout *m) noexcept:
    m.row_block = max(1, 32768 // max(1, m.units * m.pieces))
    m.blocks = (m.rows + m.row_block - 1) // m.row_block


cdef int maxout_arrays(Maxout *m, Arrays arrays, wide, Py_ssize_t pieces, narrow, which, bint backward) except -1:
    m.narrow = arrays.matrix(narrow, &m.ldn, not backward)
    m.rows, m.units, m.pieces, m.backward = arrays.rows(), arrays.cols(), pieces, backward
    m.wide = arrays.matrix(wide, &m.ldw, backward)
    if pieces < 1 or arrays.rows() != m.rows or arrays.cols() != m.units * pieces:
        raise ValueError(f"a matrix ({m.rows}, {m.units} * {pieces}) is expected beside ({m.rows}, {m.units})")
    m.which = <uint8_t *>arrays.any(which, not backward)
    if arrays.last().itemsize != 1 or arrays.size() != m.rows * m.units:
        raise ValueError(f"which must be {m.rows * m.units} bytes")
    m.real = arrays.itemsize
    cut_rows(m)
    return 0


cdef int run_maxout(Taken a, Py_ssize_t pieces, int wide, int narrow, int which, bint backward) except -1:
    """Maxout of the arrays with these numbers."""
    cdef Maxout m
    cdef fnn_op op
    m.real, m.kernels, m.pieces, m.backward = a.real, kernels_for(a.real), pieces, backward
    m.rows, m.units = a.lengths[0], a.lengths[1]
    m.wide, m.narrow, m.which = a.data(wide), a.data(narrow), <uint8_t *>a.data(which)
    m.ldw, m.ldn = m.units * pieces, m.units
    if m.rows == 0 or m.units == 0:
        return 0
    cut_rows(&m)
    op.block, op.blocks, op.args = maxout_block, m.blocks, &m
    return run_now(&op, 1, threads_for(FLOPS * m.rows * m.units * pieces), NULL, 0)


cdef inline bint is_few(object pieces, Py_ssize_t *number) noexcept:
    """Whether this is plainly a number of pieces."""
    return is_whole(pieces, number) and 1 <= number[0] <= 256


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------

cdef Fit FORWARD = Fit("nh# -> nh nh:uint8"), BACKWARD = Fit("nh nh:uint8 -> nh#")


def maxout(x, pieces, *, y_out=None, which_out=None):
    cdef Py_ssize_t number
    cdef Taken a = FORWARD.take((x, y_out, which_out), number) if is_few(pieces, &number) else None
    if a is None:
        number, y_out, which_out = contracts.maxout(x, pieces, y_out, which_out)
        a = FORWARD.insist((x, y_out, which_out), number)
    run_maxout(a, number, 0, 1, 2, False)
    return a.outputs


def maxout_backward(dy, which, pieces, *, dx_out=None):
    cdef Py_ssize_t number
    cdef Taken a = BACKWARD.take((dy, which, dx_out), number) if is_few(pieces, &number) else None
    if a is None:
        number, dx_out = contracts.maxout_backward(dy, which, pieces, dx_out)
        a = BACKWARD.insist((dy, which, dx_out), number)
    run_maxout(a, number, 2, 0, 1, True)
    return a.output


# --- operations of a program ---------------------------------------------------------------------


cdef int add_maxout(Program p, object name, wide, Py_ssize_t pieces, narrow, which, bint backward) except -1:
    cdef Maxout *m = <Maxout *>p.args(sizeof(Maxout))
    maxout_arrays(m, p.arrays((wide, narrow, which)), wide, pieces, narrow, which, backward)
    m.kernels = p.kernels
    return p.add(name, maxout_block, m.blocks, m, FLOPS * m.rows * m.units * pieces, 0)


def add_forward(Program p, name, x, Py_ssize_t pieces, y, which):
    """y and which from x."""
    add_maxout(p, name, x, pieces, y, which, False)


def add_backward(Program p, name, dy, which, Py_ssize_t pieces, dx):
    """dx from dy and which."""
    add_maxout(p, name, dx, pieces, dy, which, True)
