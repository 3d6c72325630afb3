# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How a matrix product is cut for caches and threads.

Design
------
1. C is cut into blocks of mb rows and nb columns; a block has one owner, which takes the whole of k in
   chunks of kb.  The cuts depend on the shape alone, so the bits do not depend on the threads.
2. B is used as it lies where its rows are rows of vectors and few rows of C share them; else it is
   packed once, by an operation of its own, into panels that all blocks read: chunk after chunk of k,
   panel after panel of columns.
3. A is used as it lies, unless its stride makes its rows fall into the same cache sets, or its columns
   into ever new pages; then a chunk of it is packed into the thread's workspace.
4. A chunk of B's block (kb x nb) is meant to stay in L2 while the rows of the block go past it, a tile
   of A (mr x kb) in L1 while the panels go past it.
"""
from libc.stddef cimport size_t

from fastnn._kernels.vec cimport (
    FNN_FROM_BIAS, FNN_FROM_C, FNN_FROM_ZERO, fnn_kernels, fnn_op, fnn_run, fnn_stopped,
)

cdef Py_ssize_t KB_BYTES = 1536      # bytes of k in a chunk: 384 floats, 192 doubles
cdef Py_ssize_t BLOCK_TILES = 12     # rows of a block, in tiles
cdef Py_ssize_t BLOCK_PANELS = 8     # columns of a block, in panels
cdef Py_ssize_t PACK_B_ROWS = 96     # rows of C from which packing B pays
cdef double BLOCK_FLOPS = 1e6        # blocks are not cut below this


cdef inline Py_ssize_t ceil_to(Py_ssize_t x, Py_ssize_t step) noexcept nogil:
    return (x + step - 1) // step * step


cdef void plan_gemm(Gemm *g) noexcept nogil:
    """Choose the cuts and what is packed, from the shape alone."""
    cdef const fnn_kernels *kn = g.kernels
    cdef Py_ssize_t mr = kn.mr, nr = kn.nr, chunks
    g.kb = KB_BYTES // g.real
    # even chunks: 784 is 2 x 392, not 384 + 384 + 16
    chunks = max(1, (g.k + g.kb // 4) // g.kb)
    g.kb = max(1, ceil_to((g.k + chunks - 1) // chunks, 4))
    g.mb = min(BLOCK_TILES * mr, ceil_to(max(g.m, 1), mr))
    g.nb = min(BLOCK_PANELS * nr, ceil_to(max(g.n, 1), nr))
    # enough blocks for many threads, while they are worth handing out
    while True:
        g.row_blocks = max(1, (g.m + g.mb - 1) // g.mb)
        g.col_blocks = max(1, (g.n + g.nb - 1) // g.nb)
        if g.row_blocks * g.col_blocks >= 16 or 2.0 * g.mb * g.nb * g.k < 2 * BLOCK_FLOPS:
            break
        if g.nb > 2 * nr and (g.nb >= g.mb or g.mb <= 2 * mr):
            g.nb = ceil_to(g.nb // 2, nr)
        elif g.mb > 2 * mr:
            g.mb = ceil_to(g.mb // 2, mr)
        else:
            break
    g.panel_bytes = 0
    if g.b_transposed or g.m >= PACK_B_ROWS:
        g.panel_bytes = <size_t>(ceil_to(g.n, nr) * g.k * g.real)
    g.pack_blocks = (g.n + nr - 1) // nr
    if g.a_columns:
        g.pack_a = g.n > 4 * nr and g.lda * g.real >= 2048
    else:
        g.pack_a = g.n > 4 * nr and (g.lda * g.real) % 1024 == 0
    g.workspace = <size_t>((g.kb * (ceil_to(g.mb + mr, mr) + 1) * g.real if g.pack_a else 0)
                           + (g.kb * nr * g.real if not g.panel_bytes else 0) + 128)


cdef double gemm_flops(const Gemm *g) noexcept nogil:
    return 2.0 * g.m * g.n * g.k


cdef void pack_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """One panel of B, through all chunks of k.  A chunk of kk rows begins at its first row times the
    padded width of B."""
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t nr = g.kernels.nr, j = block * nr, width = ceil_to(g.n, nr), p = 0, kk
    cdef Py_ssize_t cols = min(nr, g.n - j)
    while p < g.k:
        kk = min(g.kb, g.k - p)
        g.kernels.pack_b(g.panels + (p * width + j * kk) * g.real,
                         g.b + (j * g.ldb + p if g.b_transposed else p * g.ldb + j) * g.real,
                         g.ldb, g.b_transposed, kk, cols)
        p += kk


cdef void gemm_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """One block of C, through all of k, and its epilogue."""
    cdef const Gemm *g = <const Gemm *>op.args
    cdef const fnn_kernels *kn = g.kernels
    cdef Py_ssize_t nr = kn.nr, real = g.real
    cdef Py_ssize_t i0 = block % g.row_blocks * g.mb, j0 = block // g.row_blocks * g.nb
    cdef Py_ssize_t m = min(g.mb, g.m - i0), n = min(g.nb, g.n - j0)
    cdef Py_ssize_t width = ceil_to(g.n, nr), p = 0, kk, full, sa, tile_stride
    cdef const char *a
    cdef const char *bias = g.bias + j0 * real if g.bias != NULL else NULL
    cdef char *c = g.c + (i0 * g.ldc + j0) * real
    cdef char *edge = <char *>workspace
    cdef int start = FNN_FROM_BIAS if bias != NULL else FNN_FROM_ZERO
    if m <= 0 or n <= 0:
        return
    if not g.panel_bytes:
        edge += (g.kb * (ceil_to(g.mb + kn.mr, kn.mr) + 1) * real if g.pack_a else 0)
    while True:  # k == 0 goes through once: C is then the bias or zero
        kk = min(g.kb, g.k - p)
        a = g.a + (i0 + p * g.lda if g.a_columns else i0 * g.lda + p) * real
        sa, tile_stride = g.lda, 0
        if g.pack_a:
            kn.pack_a(workspace, a, g.lda, g.a_columns, m, kk)
            a, sa, tile_stride = <const char *>workspace, kn.mr, kk * kn.mr
        if g.panel_bytes:
            kn.gemm_block(c, g.ldc, a, sa, g.a_columns or g.pack_a, tile_stride,
                          g.panels + (p * width + j0 * kk) * real, nr, kk * nr, bias, m, n, kk, start)
        else:
            full = n // nr * nr
            if full:
                kn.gemm_block(c, g.ldc, a, sa, g.a_columns or g.pack_a, tile_stride,
                              g.b + (p * g.ldb + j0) * real, g.ldb, nr, bias, m, full, kk, start)
            if full < n:
                kn.pack_b(edge, g.b + (p * g.ldb + j0 + full) * real, g.ldb, 0, kk, n - full)
                kn.gemm_block(c + full * real, g.ldc, a, sa, g.a_columns or g.pack_a, tile_stride, edge, nr,
                              0, bias + full * real if bias != NULL else NULL, m, n - full, kk, start)
        p += kk
        if p >= g.k:
            break
        start = FNN_FROM_C
        if fnn_stopped(run):
            return
    epilogue(g, c, i0, j0, m, n)


cdef inline void epilogue(const Gemm *g, char *c, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t m,
                          Py_ssize_t n) noexcept nogil:
    """The activation, or its derivative, on a block that has just been written."""
    cdef Py_ssize_t i
    if g.activation == 0:
        return
    for i in range(m):
        if g.backward:
            g.kernels.activation_backward[g.activation](
                c + i * g.ldc * g.real, c + i * g.ldc * g.real,
                g.saved + ((i0 + i) * g.lds + j0) * g.real, n, g.params)
        else:
            g.kernels.activation_forward[g.activation](
                c + i * g.ldc * g.real, c + i * g.ldc * g.real, n, g.params)
