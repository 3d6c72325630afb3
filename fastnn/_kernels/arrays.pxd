from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t

cdef enum: MOST_PLAIN = 12

ctypedef struct Plain:
    # the arrays of a call that wants as little round it as possible; on the stack, given back by `let_go`
    Py_buffer views[MOST_PLAIN]
    int count, inputs      # taken; and how many of them are inputs, for a Fit
    Py_ssize_t itemsize

cdef bint take(Plain *plain, object x, bint writable) noexcept
cdef bint same_shape(const Plain *plain, int i, int j) noexcept
cdef bint apart(const Plain *plain, int i, int j) noexcept
cdef void let_go(Plain *plain) noexcept
cdef object fresh(const Plain *plain, int ndim, const Py_ssize_t *shape)

cdef class Fit:
    cdef int count, inputs
    cdef int rank[MOST_PLAIN]             # -1: the shape of the first array
    cdef int axes[MOST_PLAIN][4]          # letters, from 0
    cdef bint optional[MOST_PLAIN]
    cdef bint written[MOST_PLAIN]
    cdef bint inplace[MOST_PLAIN]
    cdef bint accept(self, Plain *plain, int i, object x, Py_ssize_t *lengths) noexcept

cdef class Arrays:
    cdef Py_buffer views[16]
    cdef int count
    cdef readonly Py_ssize_t itemsize
    cdef char *_take(self, object x, int flags) except? NULL
    cdef int _check_real(self) except -1
    cdef char *real(self, object x, bint writable=*) except? NULL
    cdef char *matrix(self, object x, Py_ssize_t *ld, bint writable=*) except? NULL
    cdef int64_t *whole(self, object x, bint writable=*) except? NULL
    cdef char *any(self, object x, bint writable=*) except? NULL
    cdef Py_buffer *last(self) noexcept
    cdef Py_ssize_t rows(self) noexcept
    cdef Py_ssize_t cols(self) noexcept
    cdef Py_ssize_t size(self) noexcept
