cdef void merge_moments(double *sums, Py_ssize_t rows, Py_ssize_t row_block, Py_ssize_t cols) noexcept nogil
cdef void merge_sums(double *sums, Py_ssize_t rows, Py_ssize_t row_block, Py_ssize_t cols) noexcept nogil
