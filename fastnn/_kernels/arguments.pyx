# cython: language_level=3, boundscheck=False, wraparound=False
"""How the arguments of a public operation come in: its arrays by a signature, its numbers one by one.

Design
------
1. What is plainly right is seen here, in tens of nanoseconds: a `Fit` takes all arrays of a call, once, and
   makes the outputs that were not given.  A plain ndarray is read where it lies (`Head`): 12 ns, where
   its dtype and the buffer protocol cost 150, more than the arithmetic of 64 elements.  No header of NumPy's
   is needed for that, and no version of it supposed: on import the head of some arrays is compared with
   what they say of themselves, and where that differs everything comes in through the buffer protocol.
2. What is not goes to the contract of the operation (`fastnn.contracts`), which its NumPy twin asks too.
   It raises the error in words, or approves and returns the arrays to use: subclasses of ndarray, say,
   or labels that it has converted.  What it approves is taken with `insist`, through the buffer protocol,
   which checks no more than memory safety asks for.
3. Numbers likewise: `fraction` and its like take what is plainly right and leave the rest to
   `fastnn.checks`.

An operation is then::

    cdef Fit FORWARD = Fit("nd dh h? -> nh")

    def dense_forward(x, w, b=None, *, activation=None, out=None):
        cdef Taken a = FORWARD.take((x, w, b, out))
        if a is None:
            _, out = contracts.dense_forward(x, w, b, activation, out)
            a = FORWARD.insist((x, w, b, out))
        ...                              # a.data(0), a.lengths[0], ...
        return a.output
"""
from cpython.buffer cimport Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SetItem
from libc.float cimport FLT_MAX
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.string cimport memset

cimport cython

import numpy as np

from fastnn import checks

cdef extern from *:
    """
    typedef struct { /* as numpy/ndarraytypes.h has it, in every release so far: PyArrayObject_fields */
        PyObject_HEAD
        char *data;
        int ndim;
        Py_ssize_t *shape, *strides;
        PyObject *base, *dtype;
        int flags;
    } fnn_head;
    """
    int take_buffer "PyObject_GetBuffer" (object x, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()
    bint PyFloat_Check(object x)
    double PyFloat_AsDouble(object x) noexcept
    long long PyLong_AsLongLongAndOverflow(object x, int *overflow) noexcept

    ctypedef struct Head "fnn_head":
        char *data
        int ndim
        Py_ssize_t *shape
        void *dtype
        int flags

cdef enum:  # NumPy's flags
    IS_CONTIGUOUS = 0x1, IS_ALIGNED = 0x100, IS_WRITEABLE = 0x400, WARNS_ON_WRITE = -0x80000000

cdef type Array = np.ndarray
cdef object empty = np.empty, FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)


# --- arrays ----------------------------------------------------------------------------------------


LEFT_OUT = object()


@cython.final
@cython.no_gc
@cython.freelist(4)
cdef class Taken:
    """The arrays of one call, held until this object is gone."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            if <void *>self.views[i].obj != NULL:
                PyBuffer_Release(&self.views[i])

    cdef char *data(self, int i) noexcept:
        return <char *>self.views[i].buf

    cdef Py_ssize_t size(self) noexcept:
        return self.views[0].len >> (2 if self.real == 4 else 3)


cdef inline bint same_shape(const Py_buffer *a, const Py_buffer *b) noexcept:
    cdef int axis
    if a.ndim != b.ndim:
        return False
    for axis in range(a.ndim):
        if a.shape[axis] != b.shape[axis]:
            return False
    return True


cdef inline bint apart(const Py_buffer *a, const Py_buffer *b) noexcept:
    """Whether two arrays share no memory."""
    return <char *>a.buf + a.len <= <char *>b.buf or <char *>b.buf + b.len <= <char *>a.buf


cdef bint reads_heads = False


cdef inline void look(object x, Py_buffer *view) noexcept:
    """What the buffer protocol says of a contiguous array; the view owns nothing."""
    cdef const Head *head = <const Head *><void *>x
    cdef int axis
    view.buf, view.ndim, view.shape, view.len = head.data, head.ndim, head.shape, view.itemsize
    for axis in range(head.ndim):
        view.len *= head.shape[axis]


cdef inline bint is_plain(object x, bint written) noexcept:
    """Whether an array is contiguous and aligned, and if need be may be written without a warning."""
    cdef int wanted = IS_CONTIGUOUS | IS_ALIGNED | ((IS_WRITEABLE | WARNS_ON_WRITE) if written else 0)
    return (<const Head *><void *>x).flags & wanted == wanted & ~WARNS_ON_WRITE


cdef bint head_is_right(object x):
    """Whether the head of an array says what the array says."""
    cdef const Head *head = <const Head *><void *>x
    cdef int axis
    if (<size_t>head.data != x.__array_interface__["data"][0] or head.ndim != x.ndim
            or head.dtype != <void *>x.dtype):
        return False
    for axis in range(head.ndim):
        if head.shape[axis] != x.shape[axis]:
            return False
    flags = x.flags
    return (is_plain(x, False) == (flags.c_contiguous and flags.aligned)
            and is_plain(x, True) == (flags.c_contiguous and flags.aligned and flags.writeable))


def read_heads(on=True):
    """Whether arrays are read where they lie; False, for tests: only by the buffer protocol."""
    global reads_heads
    memory = np.zeros(60, np.float32)
    matrix, locked = memory[:6].reshape(2, 3), np.zeros(2)
    locked.flags.writeable = False
    samples = (memory, matrix, matrix.T, memory[::2], memory.view(np.uint8)[1:9].view(np.float64), locked,
               np.zeros(()), np.zeros((0, 4)), np.zeros((2, 3, 4), np.int64))
    reads_heads = bool(on) and np.ndarray.__basicsize__ >= <Py_ssize_t>sizeof(Head) and all(
        [head_is_right(x) for x in samples])
    return reads_heads


read_heads()


@cython.final
cdef class Fit:
    """What the arrays of an operation must be, as a signature: "nd dh h? -> nh".

    A word for each array, inputs before outputs; a letter for each axis, the same letter for the same
    length.  `h#` is h times the number given with the call; `*` is the shape of the first array, or for
    the first any shape; `*c` has c along the axis of that number.  `:int64` is an array of that type,
    the others have one float type.  `?` may be None, `!` is written in place, `=` is an output that may
    be exactly an input of its shape.  An output given as None is made, one given as False left out.
    """

    def __init__(self, signature):
        cdef int i, axis
        before, _, after = signature.partition("->")
        words = before.split() + after.split()
        self.count, self.inputs, self.along = len(words), len(before.split()), -1
        if self.count > MOST_ARRAYS:
            raise ValueError(f"a signature has at most {MOST_ARRAYS} words: {signature!r}")
        letters, kinds = [], []
        for i, word in enumerate(words):
            word, _, kind = word.partition(":")
            marks, axes, kind = word + kind, word.rstrip("?!="), kind.rstrip("?!=")
            kinds.append(np.dtype(kind) if kind else None)
            self.bytes[i] = kinds[i].itemsize if kind else 0
            self.optional[i], self.inplace[i] = "?" in marks, "=" in marks
            self.written[i] = "!" in marks or i >= self.inputs
            letters += [letter for letter in dict.fromkeys(axes) if letter.isalpha() and letter not in letters]
            if axes.startswith("*"):
                self.rank[i] = -1 if i else -2
                if axes != "*":
                    self.along = letters.index(axes[1])
                continue
            self.rank[i] = len(axes.replace("#", ""))
            if self.rank[i] > MOST_AXES:
                raise ValueError(f"a word has at most {MOST_AXES} axes: {signature!r}")
            axis = 0
            for j, letter in enumerate(axes):
                if letter != "#":
                    self.axes[i][axis] = letters.index(letter)
                    self.multiple[i][axis] = axes[j + 1:j + 2] == "#"
                    axis += 1
        self.kinds, self.letters = tuple(kinds), len(letters)
        if self.letters > MOST_LETTERS:
            raise ValueError(f"a signature has at most {MOST_LETTERS} letters: {signature!r}")
        for i, kind in enumerate(kinds):
            self.dtypes[i] = <void *>kind  # held by `kinds`

    def outputs(self, *given, Py_ssize_t number=0):
        """The outputs for these arrays, given or new; None in place of them where the contract must look."""
        cdef Taken taken = self.take(given, number)
        if taken is None or taken.outputs is not None:
            return None if taken is None else taken.outputs
        return (taken.output,) if self.count > self.inputs else ()

    cdef Taken take(self, tuple given, Py_ssize_t number=0):
        """The arrays of a call, with the outputs that were not given; None if any is not plainly right."""
        cdef Taken taken = Taken.__new__(Taken)
        return taken if self._all(taken, given, number, False) else None

    cdef Taken insist(self, tuple given, Py_ssize_t number=0):
        """The same for arrays that the contract has approved."""
        cdef Taken taken = Taken.__new__(Taken)
        if not self._all(taken, given, number, True):
            raise TypeError("the arrays do not fit the kernel")
        return taken

    cdef bint _all(self, Taken taken, tuple given, Py_ssize_t number, bint approved) except -1:
        cdef int i
        cdef bint reads = reads_heads and not approved
        if len(given) != self.count:
            raise TypeError(f"expected {self.count} arrays, got {len(given)}")
        if self.letters:
            memset(taken.lengths, 0xff, sizeof(taken.lengths))
        taken.given = given
        outputs = None if self.count - self.inputs < 2 else PyTuple_New(self.count - self.inputs)
        for i in range(self.count):
            x = given[i]
            if i >= self.inputs:
                if x is None:
                    x = self._new(taken, i, number)
                elif x is LEFT_OUT:
                    x = None
                if outputs is None:
                    taken.output = x
                else:
                    Py_INCREF(x)
                    PyTuple_SetItem(outputs, i - self.inputs, x)
            if x is None and (i >= self.inputs or self.optional[i]):
                taken.count += 1  # a view of nothing
            elif not (self._read(taken, i, x, number) if reads else
                      self._accept(taken, i, x, number, approved)):
                return False
        taken.outputs = outputs
        return True

    cdef bint _read(self, Taken taken, int i, object x, Py_ssize_t number) noexcept:
        """Take the next array where it lies, if it fits its word and those before."""
        cdef const Head *head = <const Head *><void *>x
        cdef Py_buffer *view = &taken.views[taken.count]
        if type(x) is not Array or not is_plain(x, self.written[i]):
            return False
        view.itemsize = self.bytes[i]
        if view.itemsize == 0:
            if taken.real == 0:
                taken.real = 4 if head.dtype == <void *>FLOAT32 else 8
                taken.kind = FLOAT32 if taken.real == 4 else FLOAT64
            if head.dtype != <void *>taken.kind:
                return False
            view.itemsize = taken.real
        elif head.dtype != self.dtypes[i]:
            return False
        look(x, view)
        taken.count += 1
        return self._fits(taken, i, view, number) and (not self.written[i] or self._apart(taken, i, view))

    cdef bint _accept(self, Taken taken, int i, object x, Py_ssize_t number, bint approved) except -1:
        """The same by the buffer protocol."""
        cdef Py_buffer *view = &taken.views[taken.count]
        cdef Py_ssize_t bytes = self.bytes[i]
        if type(x) is not Array and not (approved and isinstance(x, Array)):
            return False
        kind, expected = x.dtype, self.kinds[i]
        if expected is None:
            if taken.kind is None:
                if kind is not FLOAT32 and kind is not FLOAT64:
                    if not approved or kind not in (FLOAT32, FLOAT64):
                        return False
                    kind = FLOAT32 if kind == FLOAT32 else FLOAT64
                taken.kind, taken.real = kind, 4 if kind is FLOAT32 else 8
            expected, bytes = taken.kind, taken.real
        if kind is not expected and not (approved and kind == expected):
            return False
        if take_buffer(x, view, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if self.written[i] else 0)) != 0:
            PyErr_Clear()
            return False
        taken.count += 1
        if view.itemsize != bytes or (<size_t>view.buf & (bytes - 1) and view.len):
            return False
        return self._fits(taken, i, view, number) and (
            approved or not self.written[i] or self._apart(taken, i, view))

    cdef bint _fits(self, Taken taken, int i, const Py_buffer *view, Py_ssize_t number) noexcept:
        """Whether a shape is that of its word, and the letters mean what they meant before."""
        cdef Py_ssize_t *length
        cdef Py_ssize_t wanted
        cdef int axis
        if self.rank[i] >= 0:
            if view.ndim != self.rank[i]:
                return False
            for axis in range(self.rank[i]):
                wanted = view.shape[axis]
                if self.multiple[i][axis]:
                    if number < 1 or wanted % number:
                        return False
                    wanted //= number
                length = &taken.lengths[self.axes[i][axis]]
                if length[0] < 0:
                    length[0] = wanted
                elif length[0] != wanted:
                    return False
        elif self.rank[i] == -1:
            return same_shape(view, &taken.views[0])
        elif self.along >= 0:
            if number < 0:
                number += view.ndim
            if not 0 <= number < view.ndim:
                return False
            taken.lengths[self.along] = view.shape[number]
        return True

    cdef bint _apart(self, Taken taken, int i, const Py_buffer *view) noexcept:
        """Whether what is written shares no memory with another array, or exactly that of an input where it may."""
        cdef int j
        for j in range(i):
            if taken.views[j].buf != NULL and not apart(&taken.views[j], view) and not (
                    self.inplace[i] and j < self.inputs and taken.views[j].buf == view.buf
                    and same_shape(&taken.views[j], view)):
                return False
        return True

    cdef object _new(self, Taken taken, int i, Py_ssize_t number):
        """A new array for an output."""
        cdef int axis, rank = self.rank[i]
        cdef Py_ssize_t length
        cdef object entry
        if rank < 0:
            rank = taken.views[0].ndim
        shape = PyTuple_New(rank)
        for axis in range(rank):
            if self.rank[i] < 0:
                length = taken.views[0].shape[axis]
            else:
                length = taken.lengths[self.axes[i][axis]]
                if self.multiple[i][axis]:
                    length *= number
            entry = length
            Py_INCREF(entry)
            PyTuple_SetItem(shape, axis, entry)
        return empty(shape, taken.kind if self.kinds[i] is None else self.kinds[i])


# --- numbers ---------------------------------------------------------------------------------------


cdef inline bint real(object value, double *number) noexcept:
    """Whether a value is plainly a number: a float (NumPy's too), or an int of moderate size."""
    cdef int overflow
    if PyFloat_Check(value):
        number[0] = PyFloat_AsDouble(value)
        return True
    if type(value) is int:
        number[0] = <double>PyLong_AsLongLongAndOverflow(value, &overflow)
        return overflow == 0
    return False


cdef bint is_whole(object value, Py_ssize_t *number) noexcept:
    """Whether a value is plainly an int that counts elements or axes."""
    cdef int overflow
    if type(value) is not int:
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0


cdef bint is_axis(object value, Taken a, Py_ssize_t *axis) noexcept:
    """Whether a value is plainly an axis of the first array, which is then counted from the front."""
    if not is_whole(value, axis):
        return False
    if axis[0] < 0:
        axis[0] += a.views[0].ndim
    return 0 <= axis[0] < a.views[0].ndim


cdef double fraction(object value, str name, bint closed=False) except? -1:
    """As `checks.check_fraction`."""
    cdef double number
    if real(value, &number) and 0 <= number < 1:
        return number
    return checks.check_fraction(value, name, closed=closed)


cdef double positive(object value, str name) except? -1:
    """As `checks.check_positive`."""
    cdef double number
    if real(value, &number) and 0 < number < INFINITY:
        return number
    return checks.check_positive(value, name)


cdef double slope(object value, str name) except? -1:
    """As `checks.check_slope`."""
    cdef double number
    if real(value, &number) and 0 < number <= FLT_MAX:
        return number
    return checks.check_slope(value, name)


cdef double not_negative(object value, str name) except? -1:
    """As `checks.check_not_negative`."""
    cdef double number
    if real(value, &number) and 0 <= number < INFINITY:
        return number
    return checks.check_not_negative(value, name)


cdef uint64_t counter(object value, str name, uint64_t low, uint64_t high) except? 0:
    """As `checks.check_integer`."""
    cdef Py_ssize_t number
    if is_whole(value, &number) and number >= 0 and low <= <uint64_t>number <= high:
        return number
    return checks.check_integer(value, name, low, high)
