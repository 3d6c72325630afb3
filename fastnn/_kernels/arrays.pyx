# cython: language_level=3, boundscheck=False, wraparound=False
"""How arrays come into the kernels: through the buffer protocol, checked for what vector code relies on.

`fastnn.functional` has checked arguments already and says what is wrong in words; what is checked here
again (float type, layout, writable) is what memory safety depends on.

A small call cannot afford both: its kernel takes the arrays first (`Plain`), and only where one is not
plainly right it asks the contract, which raises the error in words or accepts what is right all the
same: a subclass of ndarray, say.
"""
from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np

cdef extern from "Python.h":
    int take_buffer "PyObject_GetBuffer" (object x, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()

cdef type Array = np.ndarray
cdef object empty = np.empty, FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)


# --- small calls ---------------------------------------------------------------------------------


cdef bint take(Plain *plain, object x, bint writable) noexcept:
    """Take a C-contiguous, aligned array of the float type of those before; False for anything else."""
    cdef Py_buffer *view = &plain.views[plain.count]
    if plain.count == MOST_PLAIN or type(x) is not Array:
        return False
    if take_buffer(x, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0)) != 0:
        PyErr_Clear()
        return False
    plain.count += 1
    if view.format[0] not in (b'f', b'd') or view.format[1] != 0 or <size_t>view.buf % view.itemsize:
        return False
    if plain.count == 1:
        plain.itemsize = view.itemsize
    return plain.itemsize == view.itemsize


cdef bint same_shape(const Plain *plain, int i, int j) noexcept:
    cdef const Py_buffer *a = &plain.views[i]
    cdef const Py_buffer *b = &plain.views[j]
    cdef int axis
    if a.ndim != b.ndim:
        return False
    for axis in range(a.ndim):
        if a.shape[axis] != b.shape[axis]:
            return False
    return True


cdef bint apart(const Plain *plain, int i, int j) noexcept:
    """Whether two arrays share no memory."""
    cdef const Py_buffer *a = &plain.views[i]
    cdef const Py_buffer *b = &plain.views[j]
    return <char *>a.buf + a.len <= <char *>b.buf or <char *>b.buf + b.len <= <char *>a.buf


cdef void let_go(Plain *plain) noexcept:
    cdef int i
    for i in range(plain.count):
        PyBuffer_Release(&plain.views[i])
    plain.count = 0


cdef object fresh(const Plain *plain, int ndim, const Py_ssize_t *shape):
    """A new array of the float type of those taken."""
    cdef int i
    kind = FLOAT32 if plain.itemsize == 4 else FLOAT64
    if ndim == 2:
        return empty((shape[0], shape[1]), kind)
    return empty(tuple([shape[i] for i in range(ndim)]), kind)


cdef class Fit:
    """What the arrays of an operation must be, as a signature: "nd dh h? -> nh".

    A word for each array, inputs before outputs; a letter for each axis, the same letter for the same
    length, or `*` for the shape of the first array.  `?` may be None, `!` is written in place, `=` is an
    output that may be exactly an input of its shape.
    """

    def __init__(self, signature):
        before, _, after = signature.partition("->")
        words = before.split() + after.split()
        self.count, self.inputs = len(words), len(before.split())
        for i, word in enumerate(words):
            axes = word.rstrip("?!=").encode()
            if self.count > 12 or len(axes) > 4:
                raise ValueError(f"a signature has at most 12 words of 4 axes, got {signature!r}")
            self.rank[i] = -1 if axes == b"*" else len(axes)
            for j, letter in enumerate(axes):
                self.axes[i][j] = letter - 97
            self.optional[i], self.inplace[i] = "?" in word, "=" in word
            self.written[i] = "!" in word or i >= self.inputs

    cdef bint accept(self, Plain *plain, int i, object x, Py_ssize_t *lengths) noexcept:
        """Take the next array if it fits its word and those before; `lengths` by letter, 0 not known."""
        cdef int axis, at = plain.count, j
        cdef Py_buffer *view = &plain.views[at]
        cdef Py_ssize_t *length
        if not take(plain, x, self.written[i]):
            return False
        if (view.ndim != self.rank[i]) if self.rank[i] >= 0 else not same_shape(plain, 0, at):
            return False
        for axis in range(self.rank[i]):
            length = &lengths[self.axes[i][axis]]
            if length[0] == 0:
                length[0] = view.shape[axis]
            if length[0] != view.shape[axis] or length[0] == 0:
                return False
        if self.written[i]:
            for j in range(at):
                if not apart(plain, j, at) and not (
                        self.inplace[i] and j < plain.inputs and plain.views[j].buf == view.buf
                        and same_shape(plain, j, at)):
                    return False
        return True

    def outputs(self, *arrays):
        """The outputs: those given, or new ones for None; False for one gives None.

        None in place of them all if anything is not plainly right: the contract of the operation then
        says what, or accepts it (empty arrays and subclasses, for instance).
        """
        cdef Plain plain
        cdef Py_ssize_t lengths[26]
        cdef Py_ssize_t shape[4]
        cdef int i, axis
        plain.count = plain.inputs = 0
        memset(lengths, 0, sizeof(lengths))
        found = []
        if len(arrays) != self.count:
            raise TypeError(f"expected {self.count} arrays, got {len(arrays)}")
        try:
            for i in range(self.count):
                x = arrays[i]
                if i < self.inputs:
                    if x is None and self.optional[i]:
                        continue
                elif x is False:
                    found.append(None)
                    continue
                elif x is None:
                    if self.rank[i] < 0:
                        found.append(fresh(&plain, plain.views[0].ndim, plain.views[0].shape))
                    else:
                        for axis in range(self.rank[i]):
                            shape[axis] = lengths[self.axes[i][axis]]
                        found.append(fresh(&plain, self.rank[i], shape))
                    continue
                if not self.accept(&plain, i, x, lengths):
                    return None
                if i < self.inputs:
                    plain.inputs += 1
                else:
                    found.append(x)
        finally:
            let_go(&plain)
        return tuple(found)


# --- calls with many arrays, and programs --------------------------------------------------------


cdef class Arrays:
    """The arrays of one call (or of one program), all of one float type; released with this object."""

    def __cinit__(self):
        self.count = 0
        self.itemsize = 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])

    cdef char *_take(self, object x, int flags) except? NULL:
        if self.count == 16:
            raise ValueError("too many arrays for one call")
        if x is None:  # in its place, an array of no size: whoever needs one finds that it does not fit
            memset(&self.views[self.count], 0, sizeof(Py_buffer))
            self.count += 1
            return NULL
        PyObject_GetBuffer(x, &self.views[self.count], flags | PyBUF_FORMAT)
        self.count += 1
        return <char *>self.views[self.count - 1].buf

    cdef int _check_real(self) except -1:
        cdef Py_buffer *v = self.last()
        cdef char code = v.format[0]
        if v.format[1] != 0 or not ((code == b'f' and v.itemsize == 4) or (code == b'd' and v.itemsize == 8)):
            raise TypeError(f"expected float32 or float64, got the buffer format {v.format.decode()!r}")
        if <size_t>v.buf % v.itemsize:
            raise ValueError("expected an aligned array")
        if self.itemsize == 0:
            self.itemsize = v.itemsize
        elif self.itemsize != v.itemsize:
            raise TypeError("the arrays of one call must all be float32 or all be float64")
        return 0

    cdef char *real(self, object x, bint writable=False) except? NULL:
        """A C-contiguous array of floats, or NULL for None."""
        cdef char *data = self._take(x, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        if x is not None:
            self._check_real()
        return data

    cdef char *matrix(self, object x, Py_ssize_t *ld, bint writable=False) except? NULL:
        """A matrix whose rows are contiguous and `ld` elements apart, or NULL for None."""
        ld[0] = 0
        cdef char *data = self._take(x, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        if x is None:
            return NULL
        self._check_real()
        cdef Py_buffer *v = self.last()
        if v.ndim != 2:
            raise ValueError(f"expected a matrix, got {v.ndim} axes")
        if v.len and v.shape[1] > 1 and v.strides[1] != v.itemsize:
            raise ValueError("expected a matrix with contiguous rows")
        if v.len and v.shape[0] > 1:
            if v.strides[0] % v.itemsize or v.strides[0] < v.shape[1] * v.itemsize:
                raise ValueError("expected a matrix whose rows follow each other")
            ld[0] = v.strides[0] // v.itemsize
        else:
            ld[0] = v.shape[1]
        return data

    cdef int64_t *whole(self, object x, bint writable=False) except? NULL:
        """A C-contiguous array of int64, or NULL for None."""
        cdef char *data = self._take(x, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        cdef Py_buffer *v = self.last()
        if x is None:
            return NULL
        if v.itemsize != 8 or v.format[1] != 0 or v.format[0] not in (b'l', b'q'):
            raise TypeError(f"expected int64, got the buffer format {v.format.decode()!r}")
        if <size_t>data % 8:
            raise ValueError("expected an aligned array")
        return <int64_t *>data

    cdef char *any(self, object x, bint writable=False) except? NULL:
        """A C-contiguous array of any type: the caller looks at `last()`."""
        return self._take(x, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))

    cdef Py_buffer *last(self) noexcept:
        return &self.views[self.count - 1]

    # -1 where the last array is None

    cdef Py_ssize_t rows(self) noexcept:
        return self.last().shape[0] if self.last().ndim > 0 else -1

    cdef Py_ssize_t cols(self) noexcept:
        return self.last().shape[1] if self.last().ndim > 1 else -1

    cdef Py_ssize_t size(self) noexcept:
        cdef Py_buffer *v = self.last()
        return v.len // v.itemsize if v.itemsize else -1
