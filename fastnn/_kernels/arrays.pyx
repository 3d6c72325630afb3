# cython: language_level=3, boundscheck=False, wraparound=False
"""Arrays of the kernels' own callers: through the buffer protocol, checked for what vector code relies on.

Programs, and functions that take matrices whose rows lie apart, take their arrays one by one.  The
public operations take theirs by a signature (arguments.pyx).
"""
from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int64_t
from libc.string cimport memset


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
