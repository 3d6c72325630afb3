# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Dropout: masked and scaled in one pass, split over threads by ranges of elements or rows.

The mask is a function of (seed, offset, number of the element), so the same operation is its own gradient.
In a program the offset counts the steps: the one of a step is what `passes` holds at the start of the run
plus the number of the step in it.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastnn._kernels.arguments cimport Fit, Taken, counter, fraction
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_round_of, fnn_run

from fastnn import contracts

cdef Py_ssize_t BLOCK = 1 << 14  # elements
cdef uint64_t MOST = 0xFFFFFFFFFFFFFFFF
cdef double FLOPS = 7.0          # what an element is counted as, for the choice of threads

ctypedef struct Dropout:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols
    Py_ssize_t row_block, col_block  # of one of these the block is the whole
    Py_ssize_t blocks
    char *out
    Py_ssize_t ldo
    const char *x
    Py_ssize_t ldx
    uint32_t threshold
    double scale
    uint64_t seed, offset
    const int64_t *passes            # of a program; NULL: offset


cdef void dropout_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Dropout *d = <const Dropout *>op.args
    cdef Py_ssize_t i = 0, j = 0
    cdef uint64_t offset = d.offset
    if d.rows == 1:
        j = block * d.col_block
    else:
        i = block * d.row_block
    if d.passes != NULL:
        offset = <uint64_t>(d.passes[0] + fnn_round_of(run))
    d.kernels.dropout(d.out + (i * d.ldo + j) * d.real, d.ldo, d.x + (i * d.ldx + j) * d.real, d.ldx,
                      min(d.row_block, d.rows - i), min(d.col_block, d.cols - j), <uint64_t>(i * d.cols + j),
                      d.threshold, d.scale, d.seed, offset)


cdef int prepare(Dropout *d, double p, uint64_t seed) except -1:
    d.threshold = <uint32_t>(p * 4294967296.0)
    d.scale = 1.0 / (1.0 - p)
    d.seed = seed
    if d.rows == 1:
        d.row_block, d.col_block = 1, BLOCK
        d.blocks = (d.cols + BLOCK - 1) // BLOCK
    else:
        d.row_block, d.col_block = max(1, BLOCK // max(1, d.cols)), d.cols
        d.blocks = (d.rows + d.row_block - 1) // d.row_block
    return 0


cdef Fit FIT = Fit("* -> *=")


cdef object run_dropout(Taken a, double p, uint64_t seed, uint64_t offset):
    cdef Dropout d
    cdef fnn_op op
    d.x, d.out, d.real, d.kernels = a.data(0), a.data(1), a.real, kernels_for(a.real)
    d.rows, d.cols, d.offset, d.passes = 1, a.size(), offset, NULL
    d.ldx = d.ldo = d.cols
    prepare(&d, p, seed)
    if d.cols:
        op.block, op.blocks, op.args = dropout_block, d.blocks, &d
        run_now(&op, 1, threads_for(FLOPS * d.cols), NULL, 0)
    return a.output


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------


def dropout(x, p, seed, offset=0, *, out=None):
    cdef Taken a = FIT.take((x, out))
    if a is None:
        p, seed, offset, out = contracts.dropout(x, "x", p, seed, offset, out, "out")
        a = FIT.insist((x, out))
    return run_dropout(a, fraction(p, "p"), counter(seed, "seed", 0, MOST), counter(offset, "offset", 0, MOST))


def dropout_backward(dy, p, seed, offset=0, *, dx_out=None):
    cdef Taken a = FIT.take((dy, dx_out))
    if a is None:
        p, seed, offset, dx_out = contracts.dropout(dy, "dy", p, seed, offset, dx_out, "dx_out")
        a = FIT.insist((dy, dx_out))
    return run_dropout(a, fraction(p, "p"), counter(seed, "seed", 0, MOST), counter(offset, "offset", 0, MOST))


# --- an operation of a program -----------------------------------------------------------------------


def add_dropout(Program p, name, x, double probability, seed, passes, out):
    """Dropout of matrices, forward or backward, with the masks numbered from passes[0] on."""
    cdef Dropout *d = <Dropout *>p.args(sizeof(Dropout))
    cdef Arrays arrays = p.arrays((x, passes, out))
    d.x = arrays.matrix(x, &d.ldx)
    d.rows, d.cols = arrays.rows(), arrays.cols()
    d.out = arrays.matrix(out, &d.ldo, True)
    if arrays.rows() != d.rows or arrays.cols() != d.cols:
        raise ValueError("the output does not fit the input")
    d.passes = arrays.whole(passes)
    if arrays.size() != 1:
        raise ValueError("passes must be one number")
    d.kernels, d.real = p.kernels, p.itemsize
    prepare(d, probability, seed)
    p.add(name, dropout_block, d.blocks, d, FLOPS * d.rows * d.cols, 0)
