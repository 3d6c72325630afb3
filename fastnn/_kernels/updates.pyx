# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Updates of flat parameter buffers, split over threads by ranges of elements."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program, Sink, State
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_round_of, fnn_run

cdef Py_ssize_t BLOCK = 1 << 15  # elements

ctypedef struct Sgd:
    const fnn_kernels *kernels
    const State *state           # of a program: the rate of each step; NULL: lr
    Py_ssize_t real, n
    Py_ssize_t decayed           # weight decay applies to the first `decayed` elements
    char *w
    const char *dw
    char *v
    double lr, momentum, weight_decay
    bint nesterov


cdef void sgd_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Sgd *s = <const Sgd *>op.args
    cdef Py_ssize_t begin = block * BLOCK, end = min((block + 1) * BLOCK, s.n)
    cdef Py_ssize_t middle = max(begin, min(end, s.decayed))
    cdef double lr = s.lr if s.state == NULL else s.state.rates[fnn_round_of(run)]
    if middle > begin:
        sgd_range(s, begin, middle, lr, s.weight_decay)
    if end > middle:
        sgd_range(s, middle, end, lr, 0.0)


cdef inline void sgd_range(const Sgd *s, Py_ssize_t begin, Py_ssize_t end, double lr,
                           double weight_decay) noexcept nogil:
    cdef Py_ssize_t at = begin * s.real
    s.kernels.sgd_update(s.w + at, s.dw + at, s.v + at if s.v != NULL else NULL, end - begin, lr, s.momentum,
                         s.nesterov, weight_decay)


cdef int sgd_arrays(Sgd *s, Arrays arrays, w, dw, v) except -1:
    s.w = arrays.real(w, True)
    s.n = arrays.size()
    if w is None:
        raise TypeError("w must be an array")
    s.real = arrays.itemsize
    s.dw = arrays.real(dw)
    if dw is not None and arrays.size() != s.n:
        raise ValueError("dw does not fit w")
    s.v = arrays.real(v, True)
    if v is not None and arrays.size() != s.n:
        raise ValueError("v does not fit w")
    return 0


def sgd(w, dw, v, double lr, double momentum, bint nesterov, double weight_decay):
    """w and v in place; v None: no momentum."""
    cdef Sgd s
    cdef fnn_op op
    cdef Arrays arrays = Arrays()
    if dw is None:
        raise TypeError("dw must be an array")
    sgd_arrays(&s, arrays, w, dw, v)
    s.kernels, s.state, s.decayed = kernels_for(s.real), NULL, s.n
    s.lr, s.momentum, s.nesterov, s.weight_decay = lr, momentum, nesterov, weight_decay
    if s.n == 0:
        return
    op.block, op.args, op.blocks = sgd_block, &s, (s.n + BLOCK - 1) // BLOCK
    run_now(&op, 1, threads_for(8.0 * s.n), NULL, 0)


cdef Sgd *sgd_args(Program p, w, dw, v, double momentum, bint nesterov, double weight_decay) except NULL:
    cdef Sgd *s = <Sgd *>p.args(sizeof(Sgd))
    sgd_arrays(s, p.arrays((w, dw, v)), w, dw, v)
    s.kernels, s.state = p.kernels, &p.state
    s.momentum, s.nesterov, s.weight_decay = momentum, nesterov, weight_decay
    return s


def add_sgd(Program p, w, dw, v, Py_ssize_t decayed, double momentum, bint nesterov, double weight_decay):
    """The update of parameters with each step's rate; weight decay for the first `decayed` elements."""
    cdef Sgd *s = sgd_args(p, w, dw, v, momentum, nesterov, weight_decay)
    s.decayed = decayed
    if s.n:
        p.add("update", sgd_block, (s.n + BLOCK - 1) // BLOCK, s, 4.0 * s.n, 0)


cdef void sgd_take(const void *args, Py_ssize_t at, const char *gradient, Py_ssize_t n,
                   fnn_run *run) noexcept nogil:
    cdef const Sgd *s = <const Sgd *>args
    s.kernels.sgd_update(s.w + at * s.real, gradient, s.v + at * s.real if s.v != NULL else NULL, n,
                         s.state.rates[fnn_round_of(run)], s.momentum, s.nesterov, s.weight_decay)


def sgd_sink(Program p, w, v, double momentum, bint nesterov, double weight_decay):
    """The same update, taking gradients row by row from the products that make them."""
    cdef Sink sink = Sink()
    sink.args = sgd_args(p, w, None, v, momentum, nesterov, weight_decay)
    sink.take = sgd_take
    return sink


# --- the L2 penalty --------------------------------------------------------------------------------

ctypedef struct Penalty:
    const fnn_kernels *kernels
    State *state
    Py_ssize_t real, n
    const char *w
    double factor


cdef void penalty_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Penalty *p = <const Penalty *>op.args
    p.state.penalty = p.factor * p.kernels.sum_of_squares(p.w, p.n)


def add_penalty(Program p, w, double factor):
    """Add factor * sum(w^2) to the reported loss: before the loss in the list."""
    cdef Penalty *a = <Penalty *>p.args(sizeof(Penalty))
    cdef Arrays arrays = p.arrays((w,))
    a.kernels, a.state, a.real, a.factor = p.kernels, &p.state, p.itemsize, factor
    a.w = arrays.real(w)
    if w is None:
        raise TypeError("w must be an array")
    a.n = arrays.size()
    p.add("penalty", penalty_block, 1, a, 2.0 * a.n, 0)


def sum_of_squares(w):
    """sum(w^2), in float64."""
    cdef Arrays arrays = Arrays()
    cdef const char *data = arrays.real(w)
    if w is None:
        raise TypeError("w must be an array")
    return kernels_for(arrays.itemsize).sum_of_squares(data, arrays.size())


def all_finite(x):
    """True if no element of a float array is NaN or infinite."""
    cdef Arrays arrays = Arrays()
    cdef const char *data = arrays.real(x)
    if x is None:
        raise TypeError("x must be an array")
    return bool(kernels_for(arrays.itemsize).all_finite(data, arrays.size()))
