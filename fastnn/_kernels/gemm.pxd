cimport cython

from fastnn._kernels.program cimport fnn_finish, fnn_take
from fastnn._kernels.vec cimport FNN_STRETCHES, fnn_block, fnn_kernels, fnn_op, fnn_run

ctypedef struct Gemm:
    # C (m, n) = A (m, k) @ B (k, n) [+ bias], then the epilogue
    const fnn_kernels *kernels
    Py_ssize_t real
    Py_ssize_t m, n, k
    const char *a
    Py_ssize_t lda
    bint a_columns            # A[i][p] = a[i + p * lda], else a[i * lda + p]
    const char *b
    Py_ssize_t ldb
    bint b_transposed         # B[p][j] = b[j * ldb + p], else b[p * ldb + j]
    char *c
    Py_ssize_t ldc
    const char *bias
    # epilogue: an activation of C, or C times the derivative of one at `saved`
    int activation
    bint backward
    const char *saved
    Py_ssize_t lds
    double params[2]
    # and, or instead, something that looks at the finished block
    fnn_finish finish
    const void *finisher
    # or the update of the weights at element `at`, row by row: C is then scratch, and `c` NULL
    fnn_take take
    const void *taker
    const char *taken[FNN_STRETCHES]  # what the taker goes over beside the gradient, flat; or NULL
    Py_ssize_t at
    # the plan: filled by plan_gemm, or by plan_skinny
    fnn_block multiply        # what makes a block of C
    fnn_block pack            # and, before, one of packed B
    bint flipped              # C.T = B.T @ A.T is computed: A and B, m and n have changed places
    Py_ssize_t mb, nb, kb, row_blocks, col_blocks
    size_t panel_bytes        # packed B; 0 where it is used as it lies, or packed by each thread
    size_t tile_bytes         # packed A; likewise
    bint pack_b               # each thread packs what it works on
    bint pack_a               # likewise
    bint by_panels            # each panel of B goes past all tiles of a block, not all panels past each tile
    size_t own_panels, own_c, own_tiles  # bytes of a thread's workspace, in this order
    size_t workspace          # per thread: their sum
    Py_ssize_t pack_b_blocks, pack_a_blocks
    char *panels              # given by the caller, of these sizes
    char *tiles

cdef void plan_gemm(Gemm *g) noexcept nogil
cdef bint gradient_packs_own_tiles(const fnn_kernels *kernels, Py_ssize_t rows, Py_ssize_t inputs, Py_ssize_t units,
                                   Py_ssize_t real) noexcept
cdef void pack_a_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil
cdef double gemm_flops(const Gemm *g) noexcept nogil
cdef Py_ssize_t KB_BYTES
cdef Py_ssize_t widest_block(Py_ssize_t real) noexcept nogil
cdef size_t to_lines(size_t bytes) noexcept nogil
cdef void swap(Gemm *g) noexcept nogil
cdef void turn(const Gemm *g, const char *c, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t n) noexcept nogil
cdef void epilogue(const Gemm *g, char *c, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t MOST_BLOCKS
cdef double BLOCK_FLOPS


cdef inline bint rows_share_sets(const Gemm *g) noexcept nogil:
    """Whether the rows of A are apart by so many bytes that a tile of them finds place in a few cache sets only."""
    return bytes_share_sets(g.lda * g.real)


cdef inline bint bytes_share_sets(Py_ssize_t stride) noexcept nogil:
    """The same for rows of any matrix, so many bytes apart."""
    return stride % 1024 == 0


@cython.cdivision(True)
cdef inline Py_ssize_t quotient(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a // b for a >= 0 and b > 0.  Many CPUs take two or three times as long where 64 bits are divided, and to
    plan a small product took longer than to multiply it."""
    if (a | b) >> 31 == 0:
        return <Py_ssize_t>(<unsigned int>a // <unsigned int>b)
    return a // b


cdef inline Py_ssize_t share(Py_ssize_t x, Py_ssize_t parts) noexcept nogil:
    """x / parts, rounded up."""
    return quotient(x + parts - 1, parts)


cdef inline Py_ssize_t ceil_to(Py_ssize_t x, Py_ssize_t step) noexcept nogil:
    return share(x, step) * step
