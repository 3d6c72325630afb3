# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Updates of flat parameter buffers, split over threads by ranges of elements.

One update is a kernel of the table (vec/updates.h), its settings (`Rule`) and arrays (`Update`); what
changes from step to step, the learning rate, Adam's bias correction and the scale of a clipped gradient,
is made anew for each block, in double.
"""
from libc.math cimport INFINITY, frexp, isfinite, ldexp, pow, sqrt
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn._kernels.arguments cimport Fit, Taken, counter, fraction, not_negative, positive
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport Scratch, borrow, give_back, kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program, Sink, State
from fastnn._kernels.vec cimport (
    FNN_NORM_COLS, FNN_UPDATE_adam, fnn_fail, fnn_kernels, fnn_op, fnn_round_of, fnn_run, fnn_update,
)

from fastnn import contracts
from fastnn._kernels import machine

cdef extern from "vec/table.h":
    enum: FNN_UPDATE_sgd, FNN_UPDATE_momentum, FNN_UPDATE_nesterov, FNN_UPDATE_adagrad
    enum: FNN_UPDATE_rmsprop, FNN_UPDATE_rmsprop_momentum

cdef Py_ssize_t BLOCK = 1 << 15  # elements


_STATES = machine.update_names()
_NAMES = list(_STATES)


cdef class Rule:
    """How an optimizer moves parameters: its kernel and settings.

    name : one of `machine.update_names`
    momentum, rho : of the averages; Adam's beta1 and beta2
    eps : beside the root of the mean square
    decoupled : weight decay shrinks the weights instead of joining the gradient (AdamW)
    """

    cdef int kind, states
    cdef double momentum, rho, eps
    cdef bint decoupled

    def __init__(self, name, double momentum=0.0, double rho=0.0, double eps=0.0, bint decoupled=False):
        if name not in _STATES:
            raise ValueError(f"unknown update {name!r}: there are {', '.join(_NAMES)}")
        self.kind, self.states = _NAMES.index(name), _STATES[name]
        self.momentum, self.rho, self.eps, self.decoupled = momentum, rho, eps, decoupled

    def apply(self, w, dw, state, double lr, int64_t step=1, double weight_decay=0.0, double l2=0.0):
        """One update of w and of the arrays in `state`, in place; `step` counts from 1.

        weight_decay: the optimizer's; l2: the coefficient of w that a penalty adds to the gradient.
        """
        cdef Update u
        cdef Arrays arrays = Arrays()
        if dw is None:
            raise TypeError("dw must be an array")
        fill_update(&u, self, arrays, w, dw, state, weight_decay, l2, INFINITY)
        u.lr, u.step = lr, step
        run_update(&u)


ctypedef struct Update:
    const fnn_kernels *kernels
    const State *state           # of a program: the rate of each step; NULL: lr and step
    double lr
    int64_t step                 # from 1
    Py_ssize_t real, n
    Py_ssize_t decayed           # weight decay and l2 apply to the first `decayed` elements
    char *w
    const char *dw               # NULL in a sink
    char *a
    char *b
    int kind
    double momentum, rho, eps, weight_decay, l2, l1, clip_value
    bint decoupled


cdef void make_rates(fnn_update *r, const Update *u, bint decays, const fnn_run *run) noexcept nogil:
    """What the kernel needs for this step, for parameters that decay or for those that do not."""
    cdef int64_t round = fnn_round_of(run), step = u.step if u.state == NULL else u.state.counted + round + 1
    cdef double lr = u.lr if u.state == NULL else u.state.rates[round]
    cdef double decay = u.weight_decay if decays else 0
    r.clip_value = u.clip_value
    set_scale(r, 1 if u.state == NULL else u.state.clip_scale)
    r.decay = (u.l2 if decays else 0) + (0 if u.decoupled else decay)
    r.pull = u.l1 if decays else 0
    r.keep = 1 - lr * decay if u.decoupled else 1
    r.momentum, r.rho, r.eps = u.momentum, u.rho, u.eps
    r.lr, r.root = lr, 1
    if u.kind == FNN_UPDATE_adam:
        r.lr = lr / (1 - pow(u.momentum, <double>step))
        r.root = 1 / sqrt(1 - pow(u.rho, <double>step))


cdef inline void set_scale(fnn_update *r, double scale) noexcept nogil:
    """`scale` as two factors that are normal numbers of either float type."""
    cdef int exponent
    r.clip_scale[0], r.clip_scale[1] = scale, 1
    if scale < 1e-30:
        frexp(scale, &exponent)
        r.clip_scale[1] = ldexp(1, exponent // 2)
        r.clip_scale[0] = scale / r.clip_scale[1]


cdef inline void update_range(const Update *u, const fnn_update *rates, Py_ssize_t at, const char *gradient,
                              Py_ssize_t n) noexcept nogil:
    u.kernels.update[u.kind](u.w + at * u.real, gradient, u.a + at * u.real if u.a != NULL else NULL,
                             u.b + at * u.real if u.b != NULL else NULL, n, rates)


cdef void update_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Update *u = <const Update *>op.args
    cdef Py_ssize_t begin = block * BLOCK, end = min((block + 1) * BLOCK, u.n)
    cdef Py_ssize_t middle = max(begin, min(end, u.decayed))
    cdef fnn_update rates
    if middle > begin:
        make_rates(&rates, u, True, run)
        update_range(u, &rates, begin, u.dw + begin * u.real, middle - begin)
    if end > middle:
        make_rates(&rates, u, False, run)
        update_range(u, &rates, middle, u.dw + middle * u.real, end - middle)


cdef inline double update_flops(const Update *u) noexcept:
    return 4.0 * u.n * (1 + (u.a != NULL) + (u.b != NULL))


cdef int run_update(Update *u) except -1:
    """One update of all parameters, at once."""
    cdef fnn_op op
    if u.n == 0:
        return 0
    u.kernels, u.state, u.decayed = kernels_for(u.real), NULL, u.n
    op.block, op.args, op.blocks = update_block, u, (u.n + BLOCK - 1) // BLOCK
    return run_now(&op, 1, threads_for(update_flops(u)), NULL, 0)


cdef int fill_update(Update *u, Rule rule, Arrays arrays, w, dw, state, double weight_decay, double l2,
                     double clip_value) except -1:
    cdef int i = 0
    cdef char *kept[2]
    memset(u, 0, sizeof(Update))
    if len(state) != rule.states:
        raise ValueError(f"the update needs {rule.states} arrays of state, got {len(state)}")
    if w is None:
        raise TypeError("w must be an array")
    u.w = arrays.real(w, True)
    u.n = arrays.size()
    u.real = arrays.itemsize
    u.dw = arrays.real(dw)
    if dw is not None and arrays.size() != u.n:
        raise ValueError("dw does not fit w")
    kept[0] = kept[1] = NULL
    for array in state:
        if array is None:
            raise TypeError("state must be arrays")
        kept[i] = arrays.real(array, True)
        if arrays.size() != u.n:
            raise ValueError("the state does not fit w")
        i += 1
    u.a, u.b = kept[0], kept[1]
    u.kind, u.momentum, u.rho, u.eps, u.decoupled = rule.kind, rule.momentum, rule.rho, rule.eps, rule.decoupled
    u.weight_decay, u.l2, u.clip_value = weight_decay, l2, clip_value
    return 0


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------

cdef Fit STATELESS = Fit("* *! ->"), ONE_STATE = Fit("* *! *! ->"), TWO_STATES = Fit("* *! *! *! ->")  # dw, w, ...
cdef Fit CLIP = Fit("*! ->")


cdef int update(Taken a, int kind, double lr, double weight_decay, double momentum=0.0, double rho=0.0,
                double eps=0.0, int64_t step=1, bint decoupled=False) except -1:
    cdef Update u
    u.real, u.n, u.dw, u.w = a.real, a.size(), a.data(0), a.data(1)
    u.a, u.b = a.data(2) if a.count > 2 else NULL, a.data(3) if a.count > 3 else NULL
    u.kind, u.momentum, u.rho, u.eps, u.decoupled = kind, momentum, rho, eps, decoupled
    u.lr, u.step, u.weight_decay, u.l2, u.l1, u.clip_value = lr, step, weight_decay, 0, 0, INFINITY
    return run_update(&u)


def sgd_update(w, dw, v=None, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    cdef double average = fraction(momentum, "momentum")
    cdef Fit fit = ONE_STATE if average else STATELESS
    arrays = (dw, w, v) if average else (dw, w)
    cdef Taken a = None if nesterov and not average else fit.take(arrays)
    if a is None:
        contracts.sgd_update(w, dw, v, lr, momentum, nesterov, weight_decay)
        a = fit.insist(arrays)
    update(a, FNN_UPDATE_sgd if average == 0 else FNN_UPDATE_nesterov if nesterov else FNN_UPDATE_momentum,
           not_negative(lr, "lr"), not_negative(weight_decay, "weight_decay"), average)


def adagrad_update(w, dw, h, *, lr, eps=1e-10, weight_decay=0.0):
    cdef Taken a = ONE_STATE.take((dw, w, h))
    if a is None:
        contracts.adagrad_update(w, dw, h, lr, eps, weight_decay)
        a = ONE_STATE.insist((dw, w, h))
    cdef double rate = not_negative(lr, "lr"), root = not_negative(eps, "eps")
    update(a, FNN_UPDATE_adagrad, rate, not_negative(weight_decay, "weight_decay"), 0, 0, root)


def rmsprop_update(w, dw, h, v=None, *, lr, rho=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0):
    cdef double average = fraction(momentum, "momentum")
    cdef Fit fit = TWO_STATES if average else ONE_STATE
    arrays = (dw, w, h, v) if average else (dw, w, h)
    cdef Taken a = fit.take(arrays)
    if a is None:
        contracts.rmsprop_update(w, dw, h, v, lr, rho, eps, momentum, weight_decay)
        a = fit.insist(arrays)
    cdef double rate = not_negative(lr, "lr"), decay = fraction(rho, "rho"), root = not_negative(eps, "eps")
    update(a, FNN_UPDATE_rmsprop_momentum if average else FNN_UPDATE_rmsprop, rate,
           not_negative(weight_decay, "weight_decay"), average, decay, root)


cdef int adam(w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay, bint decoupled) except -1:
    cdef Taken a = TWO_STATES.take((dw, w, m, v))
    if a is None:
        contracts.adam_update(w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay)
        a = TWO_STATES.insist((dw, w, m, v))
    cdef int64_t number = counter(step, "step", 1, 0x7FFFFFFFFFFFFFFF)
    cdef double rate = not_negative(lr, "lr"), first = fraction(beta1, "beta1"), second = fraction(beta2, "beta2")
    cdef double root = not_negative(eps, "eps")
    return update(a, FNN_UPDATE_adam, rate, not_negative(weight_decay, "weight_decay"), first, second, root, number,
                  decoupled)


def adam_update(w, dw, m, v, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    adam(w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay, False)


def adamw_update(w, dw, m, v, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    adam(w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay, True)


# --- operations of a program -------------------------------------------------------------------------


cdef Update *program_update(Program p, Rule rule, w, dw, state, double weight_decay, double l2,
                            clip_value) except NULL:
    cdef Update *u = <Update *>p.args(sizeof(Update))
    fill_update(u, rule, p.arrays((w, dw, state)), w, dw, state, weight_decay, l2,
                INFINITY if clip_value is None else clip_value)
    u.kernels, u.state = p.kernels, &p.state
    p.moves(w.nbytes + 2 * sum(a.nbytes for a in state if a is not None))  # all are read and written
    return u


def add_update(Program p, Rule rule, w, dw, state, Py_ssize_t decayed, double weight_decay, double l2,
               clip_value=None, double l1=0.0):
    """The update of parameters with each step's rate; weight decay, l2 and l1 for the first `decayed` ones.

    l1: the coefficient of sign(w) that a penalty adds to the gradient.
    """
    cdef Update *u = program_update(p, rule, w, dw, state, weight_decay, l2, clip_value)
    u.decayed, u.l1 = decayed, l1
    if u.n:
        p.add("update", update_block, (u.n + BLOCK - 1) // BLOCK, u, update_flops(u), 0)


cdef void take(const void *args, Py_ssize_t at, const char *gradient, Py_ssize_t n, fnn_run *run) noexcept nogil:
    cdef const Update *u = <const Update *>args
    cdef fnn_update rates
    make_rates(&rates, u, True, run)
    update_range(u, &rates, at, gradient, n)


def sink(Program p, Rule rule, w, state, double weight_decay, double l2, clip_value=None, double l1=0.0):
    """The same update, taking gradients (of what decays) from the products that make them."""
    cdef Sink sink = Sink()
    cdef Update *u = program_update(p, rule, w, None, state, weight_decay, l2, clip_value)
    u.l1 = l1
    sink.args = u
    sink.take = take
    sink.taken[0], sink.taken[1], sink.taken[2] = u.w, u.a, u.b
    sink.moved = p.itemsize * (2 + 2 * sum(1 for a in state if a is not None))
    return sink


# --- norms: clipping, the penalties ---------------------------------------------------------------

ctypedef struct Norm:
    # the squares of x, or its magnitudes, summed by blocks
    const fnn_kernels *kernels
    State *state              # of a program
    Py_ssize_t real, n
    char *x
    double *sums              # of squares (of magnitudes), of each block
    bint magnitudes
    bint more                 # a penalty that is added to those before
    double limit              # of the norm; or what the sum of squares is multiplied by
    fnn_update rates          # what clips x in place


cdef inline Py_ssize_t norm_blocks(const Norm *s) noexcept nogil:
    return (s.n + BLOCK - 1) // BLOCK


cdef void norm_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *s = <const Norm *>op.args
    cdef const char *x = s.x + block * BLOCK * s.real
    cdef Py_ssize_t n = min(BLOCK, s.n - block * BLOCK)
    s.sums[block] = s.kernels.sum_of_magnitudes(x, n) if s.magnitudes else s.kernels.sum_of_squares(x, n, 1)


cdef double squares_of(const Norm *s) noexcept nogil:
    """The sums of the blocks, added up in their order: the same bits for any number of threads."""
    cdef double squares = 0
    cdef Py_ssize_t i
    for i in range(norm_blocks(s)):
        squares += s.sums[i]
    return squares


cdef double norm_of(const Norm *s) noexcept nogil:
    """The norm.  Where the squares leave the range of double, one thread takes them again, in units of a
    power of two near the largest element."""
    cdef double squares = squares_of(s), largest
    cdef int exponent
    if squares != squares or 1e-280 < squares < INFINITY:
        return sqrt(squares)
    largest = s.kernels.largest(s.x, s.n)
    if largest == 0 or largest == INFINITY:
        return largest
    frexp(largest, &exponent)
    exponent = max(exponent, -1000)  # 2^1000 is still a number
    squares = s.kernels.sum_of_squares(s.x, s.n, ldexp(1, -exponent))
    return ldexp(sqrt(squares), exponent)


cdef void judge_norm_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """The scale of this step's gradient; stops the program where the norm is not finite."""
    cdef const Norm *s = <const Norm *>op.args
    cdef double norm = norm_of(s)
    if not isfinite(norm):
        s.state.correct -= s.state.last_correct  # the step does not count
        fnn_fail(run, op)
        return
    s.state.clip_scale = s.limit / norm if norm > s.limit else 1


cdef Norm *add_norm(Program p, object name, x) except NULL:
    """The sums of squares of x, block by block."""
    cdef Norm *s = <Norm *>p.args(sizeof(Norm))
    cdef Arrays arrays = p.arrays((x,))
    s.kernels, s.state, s.real = p.kernels, &p.state, p.itemsize
    s.x = arrays.real(x)
    s.n = arrays.size()
    s.sums = <double *>p.own(norm_blocks(s) * sizeof(double) + 1)
    if s.n:
        p.add(name, norm_block, norm_blocks(s), s, 2.0 * s.n, 0)
    return s


def add_clip_by_norm(Program p, dw, double max_norm):
    """Have the updates that follow scale the gradient dw so that its norm is at most `max_norm`.

    dw stays as it is.  A norm that is not finite stops the step, under the name "gradient".
    """
    cdef Norm *s = add_norm(p, "gradient norm", dw)
    s.limit = max_norm
    p.add("gradient", judge_norm_block, 1, s, 0.0, 0)


cdef void clip_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *s = <const Norm *>op.args
    s.kernels.clip(s.x + block * BLOCK * s.real, min(BLOCK, s.n - block * BLOCK), &s.rates)


cdef int run_blocks(Norm *s, clip) except -1:
    cdef fnn_op op
    if s.n == 0:
        return 0
    op.block, op.args, op.blocks = clip_block if clip else norm_block, s, norm_blocks(s)
    return run_now(&op, 1, threads_for(4.0 * s.n), NULL, 0)


# the public operations: documented at their twins in `fastnn.reference`


cdef inline void fill_norm(Norm *s, Taken a) noexcept:
    memset(s, 0, sizeof(Norm))
    s.x, s.n, s.real, s.kernels = a.data(0), a.size(), a.real, kernels_for(a.real)


cdef Taken gradient_to_clip(dw, limit, str name):
    cdef Taken a = CLIP.take((dw,))
    if a is None:
        contracts.clip(dw, limit, name)
        a = CLIP.insist((dw,))
    return a


def clip_by_value(dw, limit):
    cdef Norm s
    cdef Taken a = gradient_to_clip(dw, limit, "limit")
    fill_norm(&s, a)
    s.rates.clip_value = positive(limit, "limit")
    set_scale(&s.rates, 1)
    run_blocks(&s, True)


def clip_by_global_norm(dw, max_norm):
    cdef Norm s
    cdef Scratch scratch
    cdef double norm, most
    cdef Taken a = gradient_to_clip(dw, max_norm, "max_norm")
    most = positive(max_norm, "max_norm")
    fill_norm(&s, a)
    borrow(&scratch, norm_blocks(&s) * sizeof(double) + 1)
    try:
        s.sums = <double *>scratch.memory
        run_blocks(&s, False)
        norm = norm_of(&s)
        if isfinite(norm) and norm > most:
            s.rates.clip_value = INFINITY
            set_scale(&s.rates, most / norm)
            run_blocks(&s, True)
    finally:
        give_back(&scratch)
    return norm


cdef void penalty_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Norm *s = <const Norm *>op.args
    s.state.penalty = (s.state.penalty if s.more else 0) + s.limit * squares_of(s)


def add_penalty(Program p, w, double factor, bint magnitudes=False, bint more=False):
    """Have factor * sum(w^2), or factor * sum(|w|), as a part of the reported loss: before it in the list.

    more: beside the penalties that were added before.
    """
    cdef Norm *s = add_norm(p, "penalty", w)
    s.limit, s.magnitudes, s.more = factor, magnitudes, more
    p.add("penalty", penalty_block, 1, s, 0.0, 0)


# --- max-norm --------------------------------------------------------------------------------------

ctypedef struct MaxNorm:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols
    char *w
    double limit


cdef void max_norm_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const MaxNorm *s = <const MaxNorm *>op.args
    cdef Py_ssize_t first = block * FNN_NORM_COLS
    s.kernels.max_norm(s.w + first * s.real, s.cols, s.rows, min(<Py_ssize_t>FNN_NORM_COLS, s.cols - first),
                       s.limit)


cdef int fill_max_norm(MaxNorm *s, Arrays arrays, w, double limit) except -1:
    if w is None:
        raise TypeError("w must be an array")
    s.w = arrays.real(w, True)
    s.real, s.limit = arrays.itemsize, limit
    s.rows, s.cols = w.shape
    return 0


cdef inline Py_ssize_t strips(const MaxNorm *s) noexcept:
    return (s.cols + FNN_NORM_COLS - 1) // FNN_NORM_COLS


# the public operation: documented at its twin in `fastnn.reference`

cdef Fit COLUMNS = Fit("dh! ->")


def max_norm(w, limit):
    cdef MaxNorm s
    cdef fnn_op op
    cdef Taken a = COLUMNS.take((w,))
    if a is None:
        contracts.max_norm(w, limit)
        a = COLUMNS.insist((w,))
    s.w, s.real, s.rows, s.cols, s.kernels = a.data(0), a.real, a.lengths[0], a.lengths[1], kernels_for(a.real)
    s.limit = positive(limit, "limit")
    if s.rows == 0 or s.cols == 0:
        return
    op.block, op.args, op.blocks = max_norm_block, &s, strips(&s)
    run_now(&op, 1, threads_for(4.0 * s.rows * s.cols), NULL, 0)


def add_max_norm(Program p, w, double limit):
    """The same after each step's update."""
    cdef MaxNorm *s = <MaxNorm *>p.args(sizeof(MaxNorm))
    fill_max_norm(s, p.arrays((w,)), w, limit)
    s.kernels = p.kernels
    p.moves(2 * w.nbytes)
    p.add("max-norm", max_norm_block, strips(s), s, 4.0 * s.rows * s.cols, 0)


def sum_of_squares(w):
    """sum(w^2), in float64."""
    cdef Arrays arrays = Arrays()
    cdef const char *data = arrays.real(w)
    if w is None:
        raise TypeError("w must be an array")
    return kernels_for(arrays.itemsize).sum_of_squares(data, arrays.size(), 1)


def all_finite(x):
    """True if no element of a float array is NaN or infinite."""
    cdef Arrays arrays = Arrays()
    cdef const char *data = arrays.real(x)
    if x is None:
        raise TypeError("x must be an array")
    return bool(kernels_for(arrays.itemsize).all_finite(data, arrays.size()))
