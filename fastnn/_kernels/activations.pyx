# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Activations on arrays: forward beside backward, split over threads by ranges of elements."""

from fastnn._kernels.arguments cimport Fit, Taken, slope
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport goes_past, kernels_for, needs_input, run_now, threads_for
from fastnn._kernels.program cimport Program
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

from fastnn import checks, contracts
from fastnn._kernels import machine

cdef extern from "vec/table.h":
    enum:
        FNN_ACT_relu, FNN_ACT_leaky_relu, FNN_ACT_elu, FNN_ACT_sigmoid, FNN_ACT_tanh, FNN_ACT_selu, FNN_ACT_softplus
        FNN_ACT_relu6, FNN_ACT_hard_tanh, FNN_ACT_hard_sigmoid, FNN_ACT_silu, FNN_ACT_gelu, FNN_ACT_gelu_tanh
        FNN_ACT_hard_swish

NAMES = {name: index for index, name in enumerate(machine.activation_names())}
# The parameter of an activation that its vector code takes.
PARAMETERS = {"leaky_relu": "negative_slope", "elu": "alpha"}

cdef Py_ssize_t BLOCK = 1 << 15  # elements: two arrays of them fit into L2
cdef double FLOPS = 16.0         # what an element is counted as, for the choice of threads

# --- specifications --------------------------------------------------------------------------------


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
    if name in PARAMETERS:
        params[0] = given[PARAMETERS[name]]
    return 0


cdef dict plain_names():
    """The index and the parameter that a name alone stands for."""
    cdef int kind
    cdef double params[2]
    found = {}
    for name in checks.ACTIVATIONS:
        parse(checks.parse_activation(name), &kind, params)
        found[name] = kind, params[0]
    return found


cdef dict PLAIN = plain_names()


cdef int understand(object spec, int *kind, double *params) except -1:
    """The same for `activation` as a user gives it, at once where it is plainly right."""
    if spec is None:
        kind[0], params[0], params[1] = 0, 0.0, 0.0
        return 0
    if type(spec) is str:
        found = PLAIN.get(spec)
        if found is not None:
            kind[0], params[0], params[1] = (<tuple>found)[0], (<tuple>found)[1], 0.0
            return 0
    if type(spec) is tuple and len(<tuple>spec) == 2 and type((<tuple>spec)[1]) is dict:
        name, given = <tuple>spec
        key = PARAMETERS.get(name) if type(name) is str else None
        if key is not None and len(<dict>given) == 1 and key in <dict>given:
            kind[0], params[0], params[1] = NAMES[name], slope(given[key], key), 0.0
            return 0
    return parse(checks.parse_activation(spec), kind, params)


# --- on arrays -------------------------------------------------------------------------------------


cdef void forward_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Elementwise *e = <const Elementwise *>op.args
    cdef Py_ssize_t i = block * BLOCK
    e.kernels.activation_forward[e.kind](e.out + i * e.real, e.x + i * e.real, min(BLOCK, e.n - i), e.params,
                                         e.past)


cdef void backward_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Elementwise *e = <const Elementwise *>op.args
    cdef Py_ssize_t i = block * BLOCK
    e.kernels.activation_backward[e.kind](e.out + i * e.real, e.x + i * e.real, e.saved + i * e.real,
                                          min(BLOCK, e.n - i), e.params, e.past)


cdef inline void run_range(const Elementwise *e, bint backward, Py_ssize_t n) noexcept nogil:
    if backward:
        e.kernels.activation_backward[e.kind](e.out, e.x, e.saved, n, e.params, False)
    else:
        e.kernels.activation_forward[e.kind](e.out, e.x, n, e.params, False)


cdef void begin_on_a_line(Elementwise *e, bint backward) noexcept nogil:
    """Do what comes before the first whole cache line of the result; the rest is left."""
    cdef Py_ssize_t bytes = -<Py_ssize_t>e.out & 63, n = bytes // e.real
    run_range(e, backward, n)
    e.out, e.x, e.n = e.out + bytes, e.x + bytes, e.n - n
    if backward:
        e.saved += bytes


cdef int run_elementwise(Elementwise *e, bint backward) except -1:
    cdef fnn_op op
    cdef int threads = threads_for(FLOPS * e.n)
    e.kernels = kernels_for(e.real)
    e.past = False
    if threads == 0:  # the cheapest way in
        run_range(e, backward, e.n)
        return 0
    if goes_past((3 if backward else 2) * e.n * e.real) and e.out != e.x and not (backward and e.out == e.saved):
        begin_on_a_line(e, backward)
        e.past = True
    op.block = backward_block if backward else forward_block
    op.blocks = (e.n + BLOCK - 1) // BLOCK
    op.args = e
    return run_now(&op, 1, threads, NULL, 0)


cdef Fit FORWARD = Fit("* -> *="), BACKWARD = Fit("* * -> *=")


cdef object forward(int kind, x, out, double parameter=0.0):
    """activation(x), in `out` or a new array."""
    cdef Elementwise e
    cdef Taken a = FORWARD.take((x, out))
    if a is None:
        a = FORWARD.insist((x, contracts.unary(x, out)))
    e.kind, e.params[0], e.params[1], e.real, e.n = kind, parameter, 0.0, a.real, a.size()
    e.x, e.out = a.data(0), a.data(1)
    run_elementwise(&e, False)
    return a.output


cdef object backward(int kind, dy, saved, dx_out, double parameter=0.0):
    """dy activation'(saved), saved being y or x, as the activation wants."""
    cdef Elementwise e
    cdef Taken a = BACKWARD.take((dy, saved, dx_out))
    if a is None:
        dx_out = contracts.unary_backward(dy, saved, "x" if needs_input(kind) else "y", dx_out)
        a = BACKWARD.insist((dy, saved, dx_out))
    e.kind, e.params[0], e.params[1], e.real, e.n = kind, parameter, 0.0, a.real, a.size()
    e.x, e.saved, e.out = a.data(0), a.data(1), a.data(2)
    run_elementwise(&e, True)
    return a.output


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------


def relu(x, *, out=None):
    return forward(FNN_ACT_relu, x, out)


def relu_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_relu, dy, y, dx_out)


def leaky_relu(x, negative_slope=0.01, *, out=None):
    return forward(FNN_ACT_leaky_relu, x, out, slope(negative_slope, "negative_slope"))


def leaky_relu_backward(dy, y, negative_slope=0.01, *, dx_out=None):
    return backward(FNN_ACT_leaky_relu, dy, y, dx_out, slope(negative_slope, "negative_slope"))


def elu(x, alpha=1.0, *, out=None):
    return forward(FNN_ACT_elu, x, out, slope(alpha, "alpha"))


def elu_backward(dy, y, alpha=1.0, *, dx_out=None):
    return backward(FNN_ACT_elu, dy, y, dx_out, slope(alpha, "alpha"))


def sigmoid(x, *, out=None):
    return forward(FNN_ACT_sigmoid, x, out)


def sigmoid_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_sigmoid, dy, y, dx_out)


def tanh(x, *, out=None):
    return forward(FNN_ACT_tanh, x, out)


def tanh_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_tanh, dy, y, dx_out)


def selu(x, *, out=None):
    return forward(FNN_ACT_selu, x, out)


def selu_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_selu, dy, y, dx_out)


def softplus(x, *, out=None):
    return forward(FNN_ACT_softplus, x, out)


def softplus_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_softplus, dy, y, dx_out)


def relu6(x, *, out=None):
    return forward(FNN_ACT_relu6, x, out)


def relu6_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_relu6, dy, y, dx_out)


def hard_tanh(x, *, out=None):
    return forward(FNN_ACT_hard_tanh, x, out)


def hard_tanh_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_hard_tanh, dy, y, dx_out)


def hard_sigmoid(x, *, out=None):
    return forward(FNN_ACT_hard_sigmoid, x, out)


def hard_sigmoid_backward(dy, y, *, dx_out=None):
    return backward(FNN_ACT_hard_sigmoid, dy, y, dx_out)


def silu(x, *, out=None):
    return forward(FNN_ACT_silu, x, out)


def silu_backward(dy, x, *, dx_out=None):
    return backward(FNN_ACT_silu, dy, x, dx_out)


def hard_swish(x, *, out=None):
    return forward(FNN_ACT_hard_swish, x, out)


def hard_swish_backward(dy, x, *, dx_out=None):
    return backward(FNN_ACT_hard_swish, dy, x, dx_out)


cdef int gelu_kind(approximate) except -1:
    if type(approximate) is str and approximate == "none":
        return FNN_ACT_gelu
    return FNN_ACT_gelu_tanh if checks.check_approximate(approximate) == "tanh" else FNN_ACT_gelu


def gelu(x, approximate="none", *, out=None):
    return forward(gelu_kind(approximate), x, out)


def gelu_backward(dy, x, approximate="none", *, dx_out=None):
    return backward(gelu_kind(approximate), dy, x, dx_out)


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
                e.params, False)
        else:
            e.kernels.activation_forward[e.kind](e.out + i * s.ldo * e.real, e.x + i * s.ldx * e.real, s.cols,
                                                 e.params, False)


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
