from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint64_t

cdef enum: MOST_ARRAYS = 10, MOST_AXES = 4, MOST_LETTERS = 6

cdef class Taken:
    cdef Py_buffer views[MOST_ARRAYS]           # in the order of the signature; without memory where not given
    cdef Py_ssize_t lengths[MOST_LETTERS]       # by letter, in the order of their first use; -1 not known
    cdef int count
    cdef tuple given                            # holds the inputs
    cdef Py_ssize_t real                        # bytes of the float type
    cdef object kind                            # the float type
    cdef object output                          # the one given, or a new one; or, where there are more,
    cdef tuple outputs                          # ... those given, or new ones; None where not wanted
    cdef char *data(self, int i) noexcept       # of array i, or NULL
    cdef Py_ssize_t size(self) noexcept         # elements of the first array

cdef class Fit:
    cdef int count, inputs, letters
    cdef int rank[MOST_ARRAYS]                  # -1: the shape of the first array; -2: any shape
    cdef int axes[MOST_ARRAYS][MOST_AXES]       # number of the letter
    cdef bint multiple[MOST_ARRAYS][MOST_AXES]  # ... times the number given with the call
    cdef int along                              # the letter for an axis of the first array, or -1
    cdef tuple kinds                            # None: the float type
    cdef void *dtypes[MOST_ARRAYS]              # the same
    cdef Py_ssize_t bytes[MOST_ARRAYS]          # of an element of another type; 0: the float type
    cdef bint optional[MOST_ARRAYS]
    cdef bint written[MOST_ARRAYS]
    cdef bint inplace[MOST_ARRAYS]
    cdef Taken take(self, tuple given, Py_ssize_t number=*)
    cdef Taken insist(self, tuple given, Py_ssize_t number=*)
    cdef bint _read(self, Taken taken, int i, object x, Py_ssize_t number) noexcept
    cdef bint _accept(self, Taken taken, int i, object x, Py_ssize_t number, bint approved) except -1
    cdef bint _fits(self, Taken taken, int i, const Py_buffer *view, Py_ssize_t number) noexcept
    cdef bint _apart(self, Taken taken, int i, const Py_buffer *view) noexcept
    cdef object _new(self, Taken taken, int i, Py_ssize_t number)
    cdef bint _all(self, Taken taken, tuple given, Py_ssize_t number, bint approved) except -1

cdef object LEFT_OUT  # in place of an output that is not wanted

cdef bint is_whole(object value, Py_ssize_t *number) noexcept
cdef bint is_axis(object value, Taken a, Py_ssize_t *axis) noexcept
cdef double fraction(object value, str name, bint closed=*) except? -1
cdef double positive(object value, str name) except? -1
cdef double slope(object value, str name) except? -1
cdef double not_negative(object value, str name) except? -1
cdef uint64_t counter(object value, str name, uint64_t low, uint64_t high) except? 0
