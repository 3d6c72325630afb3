from libc.stdint cimport int64_t

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.vec cimport FNN_STRETCHES, fnn_block, fnn_kernels, fnn_op, fnn_run

ctypedef struct State:
    # what changes from run to run, read by the operations of a program
    Py_ssize_t rows             # of a mini-batch
    bint gathers                # of x and targets rows of so many columns and bytes
    Py_ssize_t cols, target_bytes
    const char *x               # the data, rows ldx elements apart
    Py_ssize_t ldx
    const char *targets
    bint weighs                 # the rows have weights
    const char *weights         # of all rows of the data
    const int64_t *order        # rows * steps indices into the data
    const double *rates         # learning rate of each step
    double *losses              # of each step, or NULL where nobody asks for them
    double *shares              # likewise the sum of the weights of its rows
    int64_t counted             # updates made before this run
    double clip_scale           # of the gradients of this step; 1: as they are
    double last_loss, penalty
    double correct, last_correct  # rows, or the weights of these

# What takes the rows of a gradient as a matrix product finishes them: n elements, the first of which is
# element `at` of the flat parameters.
ctypedef void (*fnn_take)(const void *args, Py_ssize_t at, const char *gradient, Py_ssize_t n,
                          fnn_run *run) noexcept nogil

# What looks at a block of C while it is in the cache: rows i to i + rows and columns j to j + cols lie at c.
ctypedef void (*fnn_finish)(const void *args, const char *c, Py_ssize_t ldc, Py_ssize_t i, Py_ssize_t j,
                            Py_ssize_t rows, Py_ssize_t cols) noexcept nogil

cdef class Sink:
    cdef fnn_take take
    cdef const void *args
    cdef const char *taken[FNN_STRETCHES]  # the flat arrays that it reads, for fetching ahead; NULL ends them
    cdef double moved          # bytes of each element that it takes

cdef class Finish:
    cdef fnn_finish finish
    cdef const void *args
    cdef Py_ssize_t *row_block  # told how many rows of C a block has

ctypedef struct Packed:
    char **where                # told where packed operands begin
    size_t offset               # from the start of what all products share

cdef class Program:
    cdef fnn_op *ops
    cdef int64_t count
    cdef list kept, op_names, op_flops, op_kernel, kernel_names, kernel_bytes
    cdef double moved
    cdef void **memory
    cdef Py_ssize_t memory_count
    cdef Packed *packers
    cdef Py_ssize_t packer_count
    cdef char *packed
    cdef readonly size_t packed_bytes, workspace_bytes
    cdef size_t stride
    cdef char *workspace
    cdef bint running
    cdef readonly double flops
    cdef readonly int64_t done  # steps of the last run, also of one that was interrupted
    cdef readonly size_t owned_bytes
    cdef readonly Py_ssize_t itemsize
    cdef const fnn_kernels *kernels
    cdef State state
    cdef Arrays arrays(self, object owners)
    cdef int share(self, char **where, size_t offset, size_t bytes) except -1
    cdef int moves(self, double bytes) except -1
    cdef int _count(self, kernel) except -1
    cdef void *args(self, size_t bytes) except NULL
    cdef char *own(self, size_t bytes) except NULL
    cdef int add(self, object name, fnn_block block, Py_ssize_t blocks, const void *args, double flops,
                 size_t workspace) except -1
    cdef Arrays _prepare(self, object x, object targets, object order, Py_ssize_t first, int64_t steps,
                         object rates, int threads, object losses=*, object weights=*, object shares=*)
    cdef int _check_order(self, const int64_t *order, Py_ssize_t n, Py_ssize_t available) except -1

cdef int add_judge(Program p, const double *sums, const double *right, Py_ssize_t blocks,
                   const double *scale) except -1
