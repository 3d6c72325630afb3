# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The losses: value and gradient in one pass, split over threads by blocks of rows, sums in block order.

Weights, smoothing and the like are part of the pass; `scale` (1 / the number of rows, or the sum of the
weights) multiplies the loss and the gradient.
"""
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport NAN, isnan
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastnn._kernels.arguments cimport Fit, Taken, fraction, positive
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.machine cimport Scratch, borrow, give_back, kernels_for, run_now, threads_for
from fastnn._kernels.program cimport Program, State, add_judge
from fastnn._kernels.vec cimport fnn_block, fnn_kernels, fnn_op, fnn_round_of, fnn_run

import numpy as np

from fastnn import contracts
from fastnn._kernels import machine
from fastnn.contracts.training import MOST_WEIGHT

cdef extern from "vec/table.h":
    enum:
        FNN_LOSS_mean_squared_error, FNN_LOSS_mean_absolute_error, FNN_LOSS_huber, FNN_LOSS_binary_cross_entropy

# The losses that compare element by element, in the order of the table.
NAMES = {name: index for index, name in enumerate(machine.element_loss_names())}

cdef double MOST_WEIGHT_FLOAT = MOST_WEIGHT[4], MOST_WEIGHT_DOUBLE = MOST_WEIGHT[8]

cdef double FLOPS = 40.0  # what an element is counted as, for the choice of threads

ctypedef struct Loss:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols, row_block, blocks
    char *gradient
    Py_ssize_t ldg
    const char *output
    Py_ssize_t ldo
    const int64_t *labels      # labels, or
    const char *target         # targets (rows, cols)
    const char *weights        # of the rows; NULL: ones
    const char *class_weights  # of the columns; NULL: ones
    int kind                   # of an elementwise loss
    bint counted               # an elementwise loss whose outputs decide between two classes
    double parameter           # smoothing, margin or delta
    double scale
    double *sums
    double *right              # of each block the rows that are right, by their weights
    # of a program
    const State *state
    Py_ssize_t terms           # of the mean that a row has: the columns where each element is one


cdef inline const char *row_of(const char *base, Py_ssize_t i, Py_ssize_t bytes) noexcept nogil:
    if base == NULL:
        return NULL
    return base + i * bytes


cdef void cross_entropy_block(const fnn_op *op, Py_ssize_t block, void *workspace,
                              fnn_run *run) noexcept nogil:
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i = block * s.row_block, n = min(s.row_block, s.rows - i)
    if s.labels != NULL:
        s.sums[block] = s.kernels.softmax_cross_entropy(
            s.gradient + i * s.ldg * s.real, s.ldg, s.output + i * s.ldo * s.real, s.ldo, s.labels + i,
            row_of(s.weights, i, s.real), s.class_weights, s.parameter, s.scale, n, s.cols, &s.right[block])
    else:
        s.sums[block] = s.kernels.soft_cross_entropy(
            s.gradient + i * s.ldg * s.real, s.ldg, s.output + i * s.ldo * s.real, s.ldo,
            s.target + i * s.cols * s.real, row_of(s.weights, i, s.real), s.class_weights, s.parameter, s.scale,
            n, s.cols, &s.right[block])


cdef void hinge_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i = block * s.row_block
    s.sums[block] = s.kernels.multiclass_hinge(
        s.gradient + i * s.ldg * s.real, s.ldg, s.output + i * s.ldo * s.real, s.ldo, s.labels + i,
        row_of(s.weights, i, s.real), s.parameter, s.scale, min(s.row_block, s.rows - i), s.cols, &s.right[block])


cdef void element_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Loss *s = <const Loss *>op.args
    cdef Py_ssize_t i = block * s.row_block, n = min(s.row_block, s.rows - i)
    cdef const char *output = s.output + i * s.ldo * s.real
    cdef const char *target = s.target + i * s.cols * s.real
    cdef const char *weights = row_of(s.weights, i, s.real)
    # before the loss, whose gradient may be written over the output
    s.right[block] = s.kernels.rows_decided(output, s.ldo, target, weights, n, s.cols) if s.counted else 0
    s.sums[block] = s.kernels.element_loss[s.kind](
        s.gradient + i * s.ldg * s.real, s.ldg, output, s.ldo, target, weights, s.parameter, s.scale, n, s.cols)


# --- how they are cut and run ----------------------------------------------------------------------


cdef void cut_rows(Loss *s) noexcept:
    s.row_block = max(16, 16384 // max(1, s.cols) // 16 * 16)  # about 16,384 elements, in whole vectors
    s.blocks = (s.rows + s.row_block - 1) // s.row_block


cdef int loss_arrays(Loss *s, Arrays arrays, output, gradient) except -1:
    s.output = arrays.matrix(output, &s.ldo)
    s.rows, s.cols = arrays.rows(), arrays.cols()
    s.gradient = arrays.matrix(gradient, &s.ldg, True)
    if arrays.rows() != s.rows or arrays.cols() != s.cols:
        raise ValueError("the gradient does not fit the output")
    s.real = arrays.itemsize
    cut_rows(s)
    return 0


cdef int take_labels(Loss *s, Arrays arrays, labels) except -1:
    s.labels = arrays.whole(labels)
    if arrays.size() != s.rows:
        raise ValueError(f"labels must have one entry for each of {s.rows} rows, got {arrays.size()}")
    return 0


cdef const char *take(Arrays arrays, x, Py_ssize_t size, name) except? NULL:
    cdef const char *data = arrays.real(x)
    if x is not None and arrays.size() != size:
        raise ValueError(f"{name}: expected {size} values, got {arrays.size()}")
    return data


cdef double run_loss(Loss *s, fnn_block block) except? -1e300:
    """The sum over the blocks in their order, times the scale."""
    cdef fnn_op op
    cdef Scratch scratch
    cdef Py_ssize_t i
    cdef double total = 0
    s.kernels = kernels_for(s.real)
    borrow(&scratch, s.blocks * 16)
    try:
        s.sums = <double *>scratch.memory
        s.right = s.sums + s.blocks
        op.block, op.args, op.blocks = block, s, s.blocks
        run_now(&op, 1, threads_for(FLOPS * s.rows * s.cols), NULL, 0)
        for i in range(s.blocks):
            total += s.sums[i]
    finally:
        give_back(&scratch)
    return s.scale * total


# --- the public operations: documented at their twins in `fastnn.reference` --------------------------

cdef Fit LABELS = Fit("nc n:int64 n? c? -> nc=")  # scores, labels, weights of samples and of classes
cdef Fit SOFT = Fit("nc nc n? c? -> nc=")         # ... with probabilities for labels
cdef Fit ELEMENTS = Fit("*n * n? -> *=")          # predictions, targets, weights of samples


cdef inline double real_at(const char *x, Py_ssize_t i, Py_ssize_t real) noexcept nogil:
    return (<const float *>x)[i] if real == 4 else (<const double *>x)[i]


cdef inline double least(Py_ssize_t real) noexcept nogil:
    """What weights must add up to at least: the smallest normal number."""
    return FLT_MIN if real == 4 else DBL_MIN


cdef inline double most(Py_ssize_t real) noexcept nogil:
    """And at most: see the contract."""
    return MOST_WEIGHT_FLOAT if real == 4 else MOST_WEIGHT_DOUBLE


cdef double sum_of_weights(const char *x, Py_ssize_t n, Py_ssize_t real) noexcept nogil:
    """NaN where the contract has something to say about them."""
    cdef long double total = 0  # one by one in double, a thousand weights would cost it a digit
    cdef double weight
    cdef Py_ssize_t i
    for i in range(n):
        weight = real_at(x, i, real)
        if not weight >= 0:
            return NAN
        total += weight
    return <double>total if least(real) <= total <= most(real) else NAN


cdef double total_weight(const Loss *s) noexcept nogil:
    """The sum over the rows of their weights and of those of their targets."""
    cdef long double total = 0
    cdef double weight
    cdef Py_ssize_t i, j
    for i in range(s.rows):
        weight = real_at(s.weights, i, s.real) if s.weights != NULL else 1
        if s.class_weights == NULL:
            total += weight
        elif s.labels != NULL:
            total += weight * real_at(s.class_weights, s.labels[i], s.real)
        else:
            for j in range(s.cols):
                total += weight * real_at(s.target, i * s.cols + j, s.real) * real_at(s.class_weights, j, s.real)
    return <double>total


cdef bint weigh(Loss *s) noexcept:
    """The scale of a loss of class scores; False where the contract has something to say."""
    cdef double total
    cdef Py_ssize_t i
    if s.labels != NULL:
        for i in range(s.rows):
            if not 0 <= s.labels[i] < s.cols:
                return False
    if s.weights == NULL and s.class_weights == NULL:
        s.scale = 1.0 / s.rows
        return True
    if s.weights != NULL and isnan(sum_of_weights(s.weights, s.rows, s.real)):
        return False
    if s.class_weights != NULL and isnan(sum_of_weights(s.class_weights, s.cols, s.real)):
        return False
    total = total_weight(s)
    s.scale = 1.0 / total
    return isnan(total) or least(s.real) <= total <= most(s.real)  # targets that are NaN have a loss that is


cdef bint score_arrays(Loss *s, Taken a, bint soft) noexcept:
    """Fill in a loss of class scores; False where the contract has something to say."""
    memset(s, 0, sizeof(Loss))
    s.rows, s.cols, s.real = a.lengths[0], a.lengths[1], a.real
    if s.rows == 0 or s.cols == 0:
        return False
    s.output, s.weights, s.class_weights, s.gradient = a.data(0), a.data(2), a.data(3), a.data(4)
    if soft:
        s.target = a.data(1)
    else:
        s.labels = <const int64_t *>a.data(1)
    s.ldo = s.ldg = s.cols
    cut_rows(s)
    return weigh(s)


cdef bint is_whole_row(labels):
    return isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"


cdef bint may_overlap(a, b):
    """Two arrays with memory of their own do not, and are not looked at further: that takes 0.4 us."""
    return not (a.base is None and b.base is None) and np.may_share_memory(a, b)


cdef Taken take_scores(Loss *s, str name, scores, labels, sample_weight, class_weight, out, bint may_be_soft):
    """The arrays of a loss of class scores."""
    cdef bint soft = may_be_soft and getattr(labels, "dtype", None) is getattr(scores, "dtype", 0)
    cdef Taken a = (SOFT if soft else LABELS).take((scores, labels, sample_weight, class_weight, out))
    if a is None and is_whole_row(labels) and not (isinstance(out, np.ndarray) and may_overlap(out, labels)):
        # other integers: those that do not fit turn negative, of which the contract says which they are
        a = LABELS.take((scores, labels.astype(np.int64), sample_weight, class_weight, out))
    if a is not None and score_arrays(s, a, soft):
        return a
    labels, _, out = contracts.classification(scores, name, labels, sample_weight, class_weight, out,
                                              soft=may_be_soft)
    soft = getattr(labels, "ndim", 1) == 2
    a = (SOFT if soft else LABELS).insist((scores, labels, sample_weight, class_weight, out))
    if not score_arrays(s, a, soft):
        raise ValueError("the labels or weights do not fit the kernel")
    return a


def softmax_cross_entropy(logits, labels, *, sample_weight=None, class_weight=None, label_smoothing=0.0,
                          dlogits_out=None):
    cdef Loss s
    cdef double smoothing = fraction(label_smoothing, "label_smoothing", True)
    cdef Taken a = take_scores(&s, "logits", logits, labels, sample_weight, class_weight, dlogits_out, True)
    if s.target == s.gradient:  # they are read twice, the second time after exp went into dlogits
        labels = labels.copy()
        s.target = <const char *><uintptr_t>labels.ctypes.data
    s.parameter = smoothing
    return run_loss(&s, cross_entropy_block), a.output


def multiclass_hinge(scores, labels, *, margin=1.0, sample_weight=None, dscores_out=None):
    cdef Loss s
    cdef double wanted = positive(margin, "margin")
    cdef Taken a = take_scores(&s, "scores", scores, labels, sample_weight, None, dscores_out, False)
    s.parameter = wanted
    return run_loss(&s, hinge_block), a.output


cdef bint element_arrays(Loss *s, Taken a) noexcept:
    """Fill in a loss that compares elements; False where the contract has something to say."""
    cdef double total = 1
    cdef Py_ssize_t n = a.size()
    memset(s, 0, sizeof(Loss))
    if n == 0:
        return False
    s.real, s.output, s.target, s.weights, s.gradient = a.real, a.data(0), a.data(1), a.data(2), a.data(3)
    if s.weights != NULL or a.views[0].ndim == 2:
        s.rows = a.lengths[0]
    else:  # the kernel takes matrices; without weights it does not matter which
        s.rows = n
    s.cols = n // s.rows
    s.ldo = s.ldg = s.cols
    cut_rows(s)
    s.scale = 1.0 / n
    if s.weights != NULL:
        total = sum_of_weights(s.weights, s.rows, s.real)
        s.scale = 1.0 / (total * s.cols)
    return not isnan(total)


cdef tuple element_loss(int kind, str name, x, target, sample_weight, out, double parameter=0.0):
    cdef Loss s
    cdef Taken a = ELEMENTS.take((x, target, sample_weight, out))
    if a is None or not element_arrays(&s, a):
        _, out = contracts.regression(x, name, target, sample_weight, out)
        a = ELEMENTS.insist((x, target, sample_weight, out))
        if not element_arrays(&s, a):
            raise ValueError("the weights do not fit the kernel")
    s.kind, s.parameter = kind, parameter
    return run_loss(&s, element_block), a.output


def binary_cross_entropy(logits, target, *, sample_weight=None, dlogits_out=None):
    return element_loss(FNN_LOSS_binary_cross_entropy, "logits", logits, target, sample_weight, dlogits_out)


def mean_squared_error(pred, target, *, sample_weight=None, dpred_out=None):
    return element_loss(FNN_LOSS_mean_squared_error, "pred", pred, target, sample_weight, dpred_out)


def mean_absolute_error(pred, target, *, sample_weight=None, dpred_out=None):
    return element_loss(FNN_LOSS_mean_absolute_error, "pred", pred, target, sample_weight, dpred_out)


def huber(pred, target, *, delta=1.0, sample_weight=None, dpred_out=None):
    return element_loss(FNN_LOSS_huber, "pred", pred, target, sample_weight, dpred_out, positive(delta, "delta"))


# --- operations of a program ---------------------------------------------------------------------
#
# Labels and weights were checked by whoever prepared them; here they change from step to step.


cdef int add_loss(Program p, object name, Loss *s, fnn_block block) except -1:
    """The loss and its judgement."""
    s.kernels, s.state = p.kernels, &p.state
    s.scale = 1.0 / (s.rows * s.terms)
    if s.weights != NULL or s.class_weights != NULL:
        p.add(name + " weights", weigh_block, 1, s, 0.0, 0)
    s.sums = <double *>p.own(max(1, s.blocks) * sizeof(double))
    s.right = <double *>p.own(max(1, s.blocks) * sizeof(double))
    p.add(name, block, s.blocks, s, FLOPS * s.rows * s.cols, 0)
    return add_judge(p, s.sums, s.right, s.blocks, &s.scale)


cdef void weigh_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """The scale of this step: 1 / the sum of the weights of the rows and of their classes.

    Rows that weigh nothing together, as a mini-batch may happen to hold, have a loss and a gradient of 0.
    """
    cdef Loss *s = <Loss *>op.args
    cdef double total = total_weight(s)
    cdef long double share = 0
    cdef Py_ssize_t i
    if s.weights == NULL:
        s.scale = 1.0 / total if total > 0 else NAN
        return
    s.scale = 1.0 / (total * s.terms) if total >= least(s.real) else 0.0
    if s.state.shares != NULL:
        for i in range(s.rows):
            share += real_at(s.weights, i, s.real)
        s.state.shares[fnn_round_of(run)] = <double>share


def add_softmax_cross_entropy(Program p, name, logits, labels, target, weights, class_weights, double smoothing,
                              gradient):
    """The mean loss of the batch for labels or targets, its gradient and the rows that are right."""
    cdef Loss *s = <Loss *>p.args(sizeof(Loss))
    cdef Arrays arrays = p.arrays((logits, labels, target, weights, class_weights, gradient))
    loss_arrays(s, arrays, logits, gradient)
    if labels is None:
        s.target = take(arrays, target, s.rows * s.cols, "target")
    else:
        take_labels(s, arrays, labels)
    s.weights = take(arrays, weights, s.rows, "weights")
    s.class_weights = take(arrays, class_weights, s.cols, "class_weights")
    s.parameter, s.terms = smoothing, 1
    add_loss(p, name, s, cross_entropy_block)


def add_multiclass_hinge(Program p, name, scores, labels, weights, double margin, gradient):
    """The mean loss of the batch, its gradient and the rows that are right."""
    cdef Loss *s = <Loss *>p.args(sizeof(Loss))
    cdef Arrays arrays = p.arrays((scores, labels, weights, gradient))
    loss_arrays(s, arrays, scores, gradient)
    take_labels(s, arrays, labels)
    s.weights = take(arrays, weights, s.rows, "weights")
    s.parameter, s.terms = margin, 1
    add_loss(p, name, s, hinge_block)


def add_elementwise(Program p, name, kind, x, target, weights, double delta, bint counted, gradient):
    """The mean over all elements of the batch, and its gradient; `counted`: the rows that decide right."""
    cdef Loss *s = <Loss *>p.args(sizeof(Loss))
    cdef Arrays arrays = p.arrays((x, target, weights, gradient))
    loss_arrays(s, arrays, x, gradient)
    s.target = take(arrays, target, s.rows * s.cols, "target")
    s.weights = take(arrays, weights, s.rows, "weights")
    s.kind, s.parameter, s.counted, s.terms = NAMES[kind], delta, counted, s.cols
    add_loss(p, name, s, element_block)
