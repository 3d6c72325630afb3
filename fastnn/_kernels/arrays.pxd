from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t

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
