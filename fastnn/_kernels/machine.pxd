"""What the kernel modules share: the chosen table, the team of threads, scratch memory."""
from libc.stdint cimport int64_t
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

cdef struct Scratch:
    char *memory
    bint pooled

cdef const fnn_kernels *kernels_for(Py_ssize_t real_bytes) noexcept nogil
cdef bint goes_past(Py_ssize_t nbytes) noexcept nogil
cdef bint needs_input(int activation) noexcept nogil
cdef int threads_for(double flops) except -1
cdef void run_list(fnn_run *run, const fnn_op *ops, int64_t count, int64_t rounds, int threads,
                   char *workspace, size_t stride) noexcept nogil
cdef int run_now(const fnn_op *ops, int64_t count, int threads, char *workspace, size_t stride) except -1
cdef int borrow(Scratch *scratch, size_t bytes) except -1
cdef void give_back(Scratch *scratch) noexcept
cdef char *allocate(size_t bytes) except NULL
cdef void release(char *memory) noexcept
