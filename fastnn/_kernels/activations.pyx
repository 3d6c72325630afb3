# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Activations on arrays: forward beside backward, split over threads by ranges of elements."""

import numpy as np

from fastnn._kernels.arrays cimport Arrays, Plain, apart, fresh, let_go, same_shape, take
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

from fastnn._kernels import machine

NAMES = {name: index for index, name in enumerate(machine.activation_names())}
# The parameters of an activation, in the order in which its vector code takes them.
PARAMETERS = {"leaky_relu": ("negative_slope",), "elu": ("alpha",)}

cdef Py_ssize_t BLOCK = 1 << 15  # elements: two arrays of them fit into L2
cdef double FLOPS = 16.0         # what an element is counted as, for the choice of threads


cdef int parse(object activation, int *kind, double *params) except -1:
    """The index and the numbers of (name or None, parameters), as `checks.parse_activation` gives them."""
    name, given = activation
    params[0] = params[1] = 0.0
    if name is None:
        kind[0] = 0
        return 0
    if not given:
        kind[0] = NAMES[name]
        return 0
    if given.get("approximate") == "tanh":
        name = "gelu_tanh"
    kind[0] = NAMES[name]
    for i, key in enumerate(PARAMETERS.get(name, ())):
        params[i] = given[key]
    return 0


ctypedef struct Elementwise:
    const fnn_kernels *kernels
    Py_ssize_t real, n
    int kind
    double params[2]
    char *out
    const char *x       # forward: x; backward: dy
    const char *saved   # backward: y or x


cdef void forward_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Elementwise *e = <const Elementwise *>op.args
    cdef Py_ssize_t i = block * BLOCK
    e.kernels.activation_forward[e.kind](e.out + i * e.real, e.x + i * e.real, min(BLOCK, e.n - i), e.params)


cdef void backward_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Elementwise *e = <const Elementwise *>op.args
    cdef Py_ssize_t i = block * BLOCK
    e.kernels.activation_backward[e.kind](e.out + i * e.real, e.x + i * e.real, e.saved + i * e.real,
                                          min(BLOCK, e.n - i), e.params)


cdef int run_elementwise(Elementwise *e, bint backward) except -1:
    cdef fnn_op op
    e.kernels = kernels_for(e.real)
    if e.n <= BLOCK:  # the cheapest way in: no list, no release of the GIL for microseconds of work
        if backward:
            e.kernels.activation_backward[e.kind](e.out, e.x, e.saved, e.n, e.params)
        else:
            e.kernels.activation_forward[e.kind](e.out, e.x, e.n, e.params)
        return 0
    op.block = backward_block if backward else forward_block
    op.blocks = (e.n + BLOCK - 1) // BLOCK
    op.args = e
    return run_now(&op, 1, threads_for(FLOPS * e.n), NULL, 0)


cdef object output(Plain *plain, int inputs, x, saved, out):
    """The output for x, and with two inputs what was saved, all taken; None where they do not fit."""
    cdef int i
    plain.count = 0
    if not take(plain, x, False):
        return None
    if inputs == 2 and not (take(plain, saved, False) and same_shape(plain, 0, 1)):
        return None
    if out is None:
        out = fresh(plain, plain.views[0].ndim, plain.views[0].shape)
    if not take(plain, out, True) or not same_shape(plain, 0, inputs):
        return None
    for i in range(inputs):  # in place, or in memory of its own
        if plain.views[i].buf != plain.views[inputs].buf and not apart(plain, i, inputs):
            return None
    return out


cdef int run_plain(Elementwise *e, Plain *plain, bint backward) except -1:
    e.real = plain.itemsize
    e.n = plain.views[0].len // plain.itemsize
    e.x, e.saved = <const char *>plain.views[0].buf, <const char *>plain.views[1].buf
    e.out = <char *>plain.views[2 if backward else 1].buf
    return run_elementwise(e, backward)


def forward(activation, x, out, contract):
    """activation(x), in `out` or a new array; `activation` as `checks.parse_activation` gives it, out may be x.

    Arrays that are not plainly right go to contract(x, out), which raises or returns the output.
    """
    cdef Elementwise e
    cdef Plain plain
    parse(activation, &e.kind, e.params)
    try:
        result = output(&plain, 1, x, None, out)
        if result is None:
            let_go(&plain)
            result = contract(x, out)
            if output(&plain, 1, np.asarray(x), None, np.asarray(result)) is None:
                raise TypeError("x and out do not fit the kernel")
        run_plain(&e, &plain, False)
    finally:
        let_go(&plain)
    return result


def backward(activation, dy, saved, dx, contract):
    """dy * activation'(saved), saved being y or x, as the activation wants; dx may be dy or saved.

    Arrays that are not plainly right go to contract(dy, saved, dx), which raises or returns dx.
    """
    cdef Elementwise e
    cdef Plain plain
    parse(activation, &e.kind, e.params)
    try:
        result = output(&plain, 2, dy, saved, dx)
        if result is None:
            let_go(&plain)
            result = contract(dy, saved, dx)
            if output(&plain, 2, np.asarray(dy), np.asarray(saved), np.asarray(result)) is None:
                raise TypeError("dy, saved and dx do not fit the kernel")
        run_plain(&e, &plain, True)
    finally:
        let_go(&plain)
    return result


# --- operations of a program --------------------------------------------------------------------


ctypedef struct Strided:
    # matrices whose rows may lie apart
    Elementwise one
    Py_ssize_t rows, cols, row_block, ldo, ldx, lds
    bint backward


cdef void strided_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Strided *s = <const Strided *>op.args
    cdef const Elementwise *e = &s.one
    cdef Py_ssize_t i
    for i in range(block * s.row_block, min((block + 1) * s.row_block, s.rows)):
        if s.backward:
            e.kernels.activation_backward[e.kind](
                e.out + i * s.ldo * e.real, e.x + i * s.ldx * e.real, e.saved + i * s.lds * e.real, s.cols,
                e.params)
        else:
            e.kernels.activation_forward[e.kind](e.out + i * s.ldo * e.real, e.x + i * s.ldx * e.real, s.cols,
                                                 e.params)


cdef int add_strided(Program p, object name, activation, x, saved, out, bint backward) except -1:
    cdef Strided *s = <Strided *>p.args(sizeof(Strided))
    cdef Arrays arrays = p.arrays((x, saved, out))
    parse(activation, &s.one.kind, s.one.params)
    s.one.kernels, s.one.real, s.backward = p.kernels, p.itemsize, backward
    s.one.x = arrays.matrix(x, &s.ldx)
    s.rows, s.cols = arrays.rows(), arrays.cols()
    s.one.saved = arrays.matrix(saved, &s.lds)
    if (arrays.rows() != s.rows or arrays.cols() != s.cols) and (backward or saved is not None):
        raise ValueError("what was saved does not fit the input")
    s.one.out = arrays.matrix(out, &s.ldo, True)
    if arrays.rows() != s.rows or arrays.cols() != s.cols:
        raise ValueError("the output does not fit the input")
    s.row_block = max(1, BLOCK // max(1, s.cols))
    return p.add(name, strided_block, (s.rows + s.row_block - 1) // s.row_block, s, 2.0 * s.rows * s.cols, 0)


def add_forward(Program p, name, activation, x, out):
    """out = act(x) for matrices."""
    add_strided(p, name, activation, x, None, out, False)


def add_backward(Program p, name, activation, dy, saved, dx):
    """dx = dy act'(saved) for matrices; dx may be dy."""
    add_strided(p, name, activation, dy, saved, dx, True)
