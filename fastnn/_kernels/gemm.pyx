# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How a matrix product is cut for caches and threads.

Design
------
1. C is cut into blocks of mb rows and nb columns; a block has one owner, which takes the whole of k in
   chunks of kb.  The cuts depend on the shape alone, so the bits do not depend on the threads.
2. B is used as it lies where its rows are rows of vectors and few rows of C share them.  Else it is
   packed into panels of columns: where all rows of C are one block, by the thread that works on it,
   chunk by chunk, so that the panels never leave its cache; else once, by an operation of its own.  A B that no
   cache holds is left in place, too, where far_b_in_place says so: C is then cut into rows alone, and each panel is
   fetched beside the one before, which goes past all tiles of a block.
3. A is used as it lies where its rows run along k.  Read by columns (x.T @ dy) it would touch a new row,
   often a new page, at every step of k, which the prefetchers do not follow: long rows are packed, from
   PACK_A_STEPS steps on, along the rows.  Where A has many columns (inputs of a layer), C is cut into rows alone,
   and each block packs its own part of A chunk by chunk, fetched ahead beside the block before; else A is packed
   once by an operation of its own.
4. An A whose rows are apart by so many bytes that they share a cache set is read by tiles of half as many rows
   (gemm.h).  Copying it, which took whole tiles, was 1.03 to 1.2 times as slow on a Zen 4.
5. Sides of a few have routes of their own (skinny.pyx).  A somewhat narrow x.T @ dy (ten outputs) would
   leave most lanes of a vector empty, or spend as long on packing x as on multiplying it: its transpose,
   dy.T @ x, is computed instead, in short chunks of k so that x is read along its rows, and turned round
   at the end.
6. A chunk of B's block (kb x nb) is meant to stay in half of L2 while the rows of the block go past it, a tile
   of A (mr x kb) in L1, or where the chunk is long in L2 too, while the panels go past it.  Where B is
   too large for L2, the rows of A in a block as wide as C are what stays there, packed or not, and the panels go past
   all tiles, one by one.
7. A finished block gets its epilogue while it is in the cache: an activation, the derivative of one,
   the sums of a bias's gradient, or the update of the weights.  In the last case C never reaches memory:
   the block lies in the thread's workspace, and each of its rows goes into the optimizer (where
   that wins: see update_is_better_fused in dense.pyx).
"""
from libc.stddef cimport size_t
from libc.string cimport memset

from fastnn._kernels.vec cimport (
    FNN_FROM_BIAS, FNN_FROM_C, FNN_FROM_ZERO, FNN_STRETCHES, fnn_ahead, fnn_kernels, fnn_op, fnn_run, fnn_stopped,
)

KB_BYTES = 2048      # bytes of k in a chunk, but for LONG_STEPS: 512 floats, 256 doubles
cdef Py_ssize_t BLOCK_ROWS = 168     # of C at most: whole tiles of 14, 12 and 6 (columns: block_bytes of the variant)
cdef Py_ssize_t TAKEN_ROWS = 84      # likewise, where their update is fetched into L2 beside the product
cdef Py_ssize_t WIDEST_BYTES = 2048  # columns of a block that should be all there are: 512 floats, 256 doubles
cdef Py_ssize_t BLOCK_OF_B = 512     # times block_bytes, of B that stays in L2
cdef Py_ssize_t LONG_STEPS = 1024    # of k that may be one chunk of blocks half as wide
cdef Py_ssize_t PACK_B_ROWS = 96     # rows of C from which packing B pays
cdef Py_ssize_t OWN_TILES = 3        # of A in a block at least, where each block packs its own
cdef Py_ssize_t PACK_A_STEPS = 96    # steps of k from which packing a column-mode A pays
cdef Py_ssize_t PACK_NEAR_A_STEPS = 16  # likewise, where its rows share cache sets and many columns of C read it
cdef Py_ssize_t PACK_A_BYTES = 1024  # and bytes between its rows: short ones are fetched ahead as they lie,
cdef Py_ssize_t PACK_A_COLUMNS = 192  # though from so many columns of C half the bytes are enough
cdef Py_ssize_t PACK_FAR_B_ROWS = 16  # rows of C from which packing a B that does not stay in L2 pays
cdef Py_ssize_t PACK_FAR_B_BYTES = 1 << 21  # of a B that is packed from shared_rows on, too
cdef Py_ssize_t IN_PLACE_BYTES = 1 << 13  # between rows of w at most for x @ w to leave it in place: 10% lost at 12000
cdef Py_ssize_t PACK_GROUP = 32      # rows of B or A in a block of packing
cdef Py_ssize_t FLIPPED_ALWAYS = 16  # columns of x.T @ dy up to which few steps, too, are computed as the transpose
cdef Py_ssize_t FLIPPED_PAST = 47    # likewise past two vectors of columns: the third would fill half of a tile
cdef Py_ssize_t FLIPPED_STEPS = 64   # steps of k in a chunk of a flipped product, four times as many where B is packed
cdef Py_ssize_t FEWEST_BLOCKS = 8    # for threads to share, where there is work for so many
cdef Py_ssize_t MOST_BLOCKS = 16     # cut for threads no further than that: small blocks read more
cdef Py_ssize_t PAST_L2_BYTES = 1 << 19  # of an operand that does not stay in L2
cdef double BLOCK_FLOPS = 1e6        # blocks are not cut below this


cdef Py_ssize_t widest_block(Py_ssize_t real) noexcept nogil:
    """Columns of the widest block of C."""
    return quotient(WIDEST_BYTES, real)


cdef void plan_gemm(Gemm *g) noexcept nogil:
    """Choose the cuts and what is packed, from the shape alone."""
    cdef const fnn_kernels *kn = g.kernels
    cdef Py_ssize_t mr = kn.mr, nr = kn.nr
    g.multiply, g.pack = gemm_block, pack_b_block
    if flips(g):
        flip(g)
        plan_packing(g)
        return
    if is_one_block(g):
        plan_packing(g)
        return
    if packs_own_tiles(g):
        g.pack_a = True
        cut_by_rows(g)
        g.by_panels = g.kb * g.n * g.real > BLOCK_OF_B * kn.block_bytes
        plan_packing(g)
        return
    if leaves_b(g):
        cut_by_rows(g)
        g.by_panels = True
        plan_packing(g)
        return
    g.kb = quotient(KB_BYTES, g.real)
    g.mb = ceil_to(BLOCK_ROWS, mr)
    g.nb = ceil_to(quotient(kn.block_bytes, g.real), nr)
    if g.nb < g.n <= widest_block(g.real) and g.take != NULL:
        # an update wants whole rows, which lie together in the weights: wider blocks, but not larger
        while g.nb < g.n:
            g.nb, g.kb = 2 * g.nb, g.kb // 2
        g.mb = ceil_to(BLOCK_ROWS // 2, mr)
    elif g.take == NULL and g.kb + g.kb // 4 < g.k <= (2 * g.kb if g.a_columns else LONG_STEPS):
        # each tile of C is then begun and written once.  That gains 2 to 6% where A lies in rows; where it lies
        # in columns 0 to 3%, and beyond 2 kb up to 5% were lost.
        g.nb, g.kb = ceil_to(g.nb // 2, nr), g.k
    cut_steps(g)
    g.mb = min(g.mb, ceil_to(max(g.m, 1), mr))
    g.nb = min(g.nb, ceil_to(max(g.n, 1), nr))
    # enough blocks for many threads, while they are worth handing out
    while True:
        g.row_blocks = max(1, share(g.m, g.mb))
        g.col_blocks = max(1, share(g.n, g.nb))
        if g.row_blocks * g.col_blocks >= FEWEST_BLOCKS or 2.0 * g.mb * g.nb * g.k < 2 * BLOCK_FLOPS:
            break
        if g.row_blocks > 1 and g.mb > 2 * mr:  # the chunk of B that stays in L2 keeps its width
            g.mb = ceil_to(g.mb // 2, mr)
        elif g.nb > 2 * nr and g.take == NULL:  # one block of rows: each column of B is read by one block
            g.nb = ceil_to(g.nb // 2, nr)
        elif g.mb > 2 * mr:
            g.mb = ceil_to(g.mb // 2, mr)
        else:
            break
    plan_packing(g)


cdef void cut_steps(Gemm *g) noexcept nogil:
    """Even chunks, a quarter longer at most: 784 is 2 x 392, not 512 + 272, and 600 is one."""
    cdef Py_ssize_t chunks = max(1, quotient(g.k + g.kb - g.kb // 4 - 1, g.kb))
    g.kb = max(1, ceil_to(share(g.k, chunks), 4))


cdef bint packs_own_tiles(const Gemm *g) noexcept nogil:
    """Whether x.T @ dy is cut into rows alone, each block of which packs its part of x."""
    return packs_a(g) and not rows_share_sets(g) and g.m >= FEWEST_BLOCKS * OWN_TILES * g.kernels.mr


cdef inline bint goes_past_in_place(const Gemm *g) noexcept nogil:
    """Whether panels of B that go past all tiles of a block, one after the other, need no packing."""
    return g.kernels.far_b_in_place and not g.b_transposed and not bytes_share_sets(g.ldb * g.real)


cdef bint leaves_b(const Gemm *g) noexcept nogil:
    """Whether x @ w is cut into rows alone, for a large w to be left in place: where k is one chunk, as wide blocks
    of C do not stay in L2 from one to the next (2% lost at 1200 x 1200)."""
    return (goes_past_in_place(g) and not g.a_columns and not rows_share_sets(g) and g.k * g.real <= 2 * KB_BYTES
            and g.ldb * g.real <= IN_PLACE_BYTES and g.n * g.k * g.real > PAST_L2_BYTES
            and g.m >= FEWEST_BLOCKS * OWN_TILES * g.kernels.mr)


cdef bint gradient_packs_own_tiles(const fnn_kernels *kernels, Py_ssize_t rows, Py_ssize_t inputs, Py_ssize_t units,
                                   Py_ssize_t real) noexcept:
    """The same of the gradient of a layer's weights in a step, where rows of x lie an odd number of cache lines apart."""
    cdef Gemm g
    memset(&g, 0, sizeof(Gemm))
    g.kernels, g.real, g.m, g.n, g.k, g.a_columns = kernels, real, inputs, units, rows, True
    g.lda = quotient(64, real) * (share(inputs * real, 64) | 1)
    return packs_own_tiles(&g)


cdef void cut_by_rows(Gemm *g) noexcept nogil:
    """As many blocks of rows as threads share evenly, as wide as C."""
    if g.pack_a:
        g.kb = quotient(KB_BYTES, g.real)
        cut_steps(g)
    else:  # each tile of C is begun and written once: 1% at 784 steps
        g.kb = max(1, g.k)
    g.row_blocks = ceil_to(share(g.m, BLOCK_ROWS if g.take == NULL else TAKEN_ROWS), FEWEST_BLOCKS)
    g.mb = share(g.m, g.row_blocks)
    g.row_blocks = share(g.m, g.mb)
    g.nb, g.col_blocks = ceil_to(g.n, g.kernels.nr), 1


cdef inline bint is_one_block(Gemm *g) noexcept nogil:
    """What the rest of the plan comes to for a small product, without its divisions, which are a part of its call."""
    if g.m > BLOCK_ROWS or g.n * g.real > g.kernels.block_bytes or g.k * g.real > KB_BYTES:
        return False
    g.kb = max(1, (g.k + 3) & ~3)
    g.mb, g.nb = ceil_to(max(g.m, 1), g.kernels.mr), ceil_to(max(g.n, 1), g.kernels.nr)
    g.row_blocks = g.col_blocks = 1
    return g.mb * g.nb * g.k < BLOCK_FLOPS


cdef inline bint flips(const Gemm *g) noexcept nogil:
    return (g.a_columns and (g.n <= g.kernels.flipped or g.kernels.nr < g.n <= FLIPPED_PAST and g.kernels.lanes >= 8)
            and 2 * g.m >= 7 * g.n
            and (g.n <= FLIPPED_ALWAYS or g.k >= PACK_A_STEPS or rows_share_sets(g))
            and g.take == NULL and g.finish == NULL and g.bias == NULL)


cdef void swap(Gemm *g) noexcept nogil:
    """From here on the product is C.T = B.T @ A.T."""
    g.a, g.b = g.b, g.a
    g.lda, g.ldb = g.ldb, g.lda
    g.m, g.n = g.n, g.m
    g.flipped = True


cdef void flip(Gemm *g) noexcept nogil:
    """Plan C.T = B.T @ A.T."""
    swap(g)
    g.kb = FLIPPED_STEPS if g.m < PACK_B_ROWS else 4 * FLIPPED_STEPS
    g.mb, g.row_blocks = ceil_to(max(g.m, 1), g.kernels.mr), 1
    g.nb = min(ceil_to(widest_block(g.real), g.kernels.nr), ceil_to(max(g.n, 1), g.kernels.nr))
    g.col_blocks = max(1, share(g.n, g.nb))


cdef Py_ssize_t rows_to_pack_for(const Gemm *g) noexcept nogil:
    """Rows of C from which packing B pays: the fewer, the farther away its rows are when they are read again."""
    cdef Py_ssize_t rows = PACK_B_ROWS, size = g.n * g.k * g.real
    if size > PAST_L2_BYTES:
        rows = PACK_FAR_B_ROWS
    if size > PACK_FAR_B_BYTES or bytes_share_sets(g.ldb * g.real):
        rows = min(rows, g.kernels.shared_rows)
    return rows


cdef bint packs_a(const Gemm *g) noexcept nogil:
    """Whether packing a column-mode A pays."""
    cdef Py_ssize_t nr = g.kernels.nr
    cdef Py_ssize_t steps = PACK_NEAR_A_STEPS if g.n >= 4 * nr and rows_share_sets(g) else PACK_A_STEPS
    return (not g.flipped and g.a_columns and g.k >= steps and g.n > nr
            and g.lda * g.real >= (PACK_A_BYTES if g.n < PACK_A_COLUMNS else PACK_A_BYTES // 2))


cdef void plan_packing(Gemm *g) noexcept nogil:
    """What is packed, by whom, and the memory that takes."""
    cdef const fnn_kernels *kn = g.kernels
    cdef Py_ssize_t mr = kn.mr, nr = kn.nr
    cdef bint packs_b = g.b_transposed or g.m >= rows_to_pack_for(g) and not (g.by_panels and goes_past_in_place(g))
    g.pack_b = packs_b and g.row_blocks == 1
    if packs_b and not g.pack_b:
        g.panel_bytes = <size_t>(ceil_to(g.n, nr) * g.k * g.real)
        g.pack_b_blocks = share(g.n, nr) if g.b_transposed else share(g.k, PACK_GROUP)
    if g.pack_a:
        g.own_tiles = to_lines((ceil_to(g.mb, mr) * g.kb + kn.lanes) * g.real)
    elif packs_a(g):
        g.tile_bytes = <size_t>((ceil_to(g.m, mr) * g.k + kn.lanes) * g.real)
        g.pack_a_blocks = share(g.k, PACK_GROUP)
    if g.pack_b:
        g.own_panels = to_lines(g.kb * g.nb * g.real)
    elif not packs_b:  # the last rows of a B that is used as it lies
        g.own_panels = to_lines(kn.lanes * nr * g.real)
    if g.take != NULL or g.flipped:
        g.own_c = to_lines(g.mb * g.nb * g.real)
    g.workspace = g.own_panels + g.own_c + g.own_tiles


cdef size_t to_lines(size_t bytes) noexcept nogil:
    """Whole cache lines."""
    return (bytes + 63) // 64 * 64


cdef double gemm_flops(const Gemm *g) noexcept nogil:
    return 2.0 * g.m * g.n * g.k


cdef inline Py_ssize_t chunk_at(const Gemm *g, Py_ssize_t p) noexcept nogil:
    """The first step of the chunk of k that p belongs to."""
    return quotient(p, g.kb) * g.kb


cdef void pack_b_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Some rows of B into all panels, or for a transposed B one panel.  A chunk of kk steps from p on
    begins at p times the padded width of B."""
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t nr = g.kernels.nr, width = ceil_to(g.n, nr), j = 0, p = 0, end = g.k, chunk, kk, rows
    cdef Py_ssize_t cols = g.n
    cdef char *panel
    if g.b_transposed:
        j = block * nr
        cols = min(nr, g.n - j)
    else:
        p = block * PACK_GROUP
        end = min(p + PACK_GROUP, g.k)
    while p < end:
        chunk = chunk_at(g, p)
        kk = min(g.kb, g.k - chunk)
        rows = min(chunk + kk, end) - p
        panel = g.panels + (chunk * width + j * kk + (p - chunk) * nr) * g.real
        g.kernels.pack_b(panel, kk * nr, g.b + (j * g.ldb + p if g.b_transposed else p * g.ldb) * g.real,
                         g.ldb, g.b_transposed, rows, cols)
        p += rows


cdef void pack_a_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """Some steps of a column-mode A into the tiles of all blocks of rows.  A chunk of kk steps from p on
    begins at p times the padded height of A, the tiles of row i in it kk * i further."""
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t mr = g.kernels.mr, height = ceil_to(g.m, mr), p = block * PACK_GROUP, i, chunk, kk, steps
    cdef Py_ssize_t end = min(p + PACK_GROUP, g.k)
    while p < end:
        chunk = chunk_at(g, p)
        kk = min(g.kb, g.k - chunk)
        steps = min(chunk + kk, end) - p
        i = 0
        while i < g.m:
            g.kernels.pack_a(g.tiles + (chunk * height + i * kk + (p - chunk) * mr) * g.real, kk * mr,
                             g.a + (p * g.lda + i) * g.real, g.lda, min(g.mb, g.m - i), steps)
            i += g.mb
        p += steps


cdef inline void wanted_next(const Gemm *g, fnn_ahead *ahead, const char *a, Py_ssize_t sa, Py_ssize_t i0, Py_ssize_t j0,
                             Py_ssize_t p, Py_ssize_t m, Py_ssize_t n, Py_ssize_t kk) noexcept nogil:
    """What a thread reads after steps p on of rows i0 on: the next steps of A, or its next rows, and what the epilogue
    goes over."""
    cdef Py_ssize_t q, mr = g.kernels.mr
    cdef bint last = p + kk >= g.k
    memset(ahead, 0, sizeof(fnn_ahead))
    if g.pack_a:  # rows that will be packed
        ahead.stride = g.lda * g.real
        if not last:
            ahead.rows = g.a + ((p + kk) * g.lda + i0) * g.real
        elif i0 + g.mb < g.m:
            ahead.rows = g.a + (i0 + g.mb) * g.real
    elif g.by_panels and last:
        ahead.stretches[0].at = a + m * sa * g.real
        ahead.stretches[0].bytes = min(g.mb, g.m - i0 - m) * sa * g.real
    elif not g.by_panels and g.m * g.k * g.real > PAST_L2_BYTES:
        ahead.rows, ahead.stride = a + mr * sa * g.real, mr * sa * g.real
    if not last:
        return
    if g.take != NULL:
        for q in range(FNN_STRETCHES):
            if g.taken[q] != NULL:
                ahead.stretches[q].at, ahead.stretches[q].bytes = g.taken[q] + (g.at + i0 * g.n) * g.real, m * n * g.real
    elif g.backward and g.activation:
        ahead.saved, ahead.saved_row = g.saved + (i0 * g.lds + j0) * g.real, g.lds * g.real


cdef inline void multiply(const Gemm *g, char *c, Py_ssize_t ldc, const char *a, Py_ssize_t sa, bint columns,
                          Py_ssize_t tile_stride, const char *b, Py_ssize_t sb, Py_ssize_t panel_stride,
                          const char *bias, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t p, Py_ssize_t m, Py_ssize_t n,
                          Py_ssize_t kk, int start) noexcept nogil:
    """Columns j0 on of a block of C."""
    cdef fnn_ahead ahead
    cdef const fnn_ahead *next = NULL
    if g.pack_a or not columns and g.m * max(g.k, g.n) * g.real > PAST_L2_BYTES:
        wanted_next(g, &ahead, a, sa, i0, j0, p, m, n, kk)
        next = &ahead
    g.kernels.gemm_block(c, ldc, a, sa, columns, tile_stride, b, sb, panel_stride, bias, m, n, kk, start, g.by_panels, next)


cdef inline Py_ssize_t whole_panels(const Gemm *g, Py_ssize_t n, Py_ssize_t kk) noexcept nogil:
    """Of n columns of a B that is used as it lies, those whose vectors end with its rows, and an edge."""
    cdef Py_ssize_t left = n - quotient(n, g.kernels.lanes) * g.kernels.lanes
    if left == 0 or (left <= g.kernels.edge and kk >= g.kernels.edge_steps):
        return n
    return quotient(n, g.kernels.nr) * g.kernels.nr


cdef inline Py_ssize_t inner_steps(const Gemm *g, Py_ssize_t p, Py_ssize_t j, Py_ssize_t n, Py_ssize_t kk) noexcept nogil:
    """Of the rows of B from p on, those whose vectors from column j on may be read whole, as more of B follows;
    what the lanes past n then hold is nowhere written to."""
    cdef Py_ssize_t inside = (g.k - 1 - p) * g.ldb + g.n - j - ceil_to(n, g.kernels.lanes)
    return min(kk, quotient(inside, g.ldb) + 1) if inside >= 0 else 0


cdef void gemm_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """One block of C, through all of k, and its epilogue."""
    cdef const Gemm *g = <const Gemm *>op.args
    cdef const fnn_kernels *kn = g.kernels
    cdef Py_ssize_t mr = kn.mr, nr = kn.nr, real = g.real
    cdef Py_ssize_t column = quotient(block, g.row_blocks)
    cdef Py_ssize_t i0 = (block - column * g.row_blocks) * g.mb, j0 = column * g.nb
    cdef Py_ssize_t m = min(g.mb, g.m - i0), n = min(g.nb, g.n - j0)
    cdef Py_ssize_t width = ceil_to(g.n, nr), height = ceil_to(g.m, mr), p = 0, kk, full, steps, sa, tile_stride, i
    cdef const char *a
    cdef const char *bias_left
    cdef const char *bias = g.bias + j0 * real if g.bias != NULL else NULL
    cdef Py_ssize_t ldc = g.ldc
    cdef char *panels = <char *>workspace
    cdef char *tiles = panels + g.own_panels + g.own_c
    cdef char *c
    cdef int start = FNN_FROM_BIAS if bias != NULL else FNN_FROM_ZERO
    if m <= 0 or n <= 0:
        return
    if g.take != NULL or g.flipped:
        c, ldc = panels + g.own_panels, n
    else:
        c = g.c + (i0 * ldc + j0) * real
    while True:  # k == 0 goes through once: C is then the bias or zero
        kk = min(g.kb, g.k - p)
        if g.pack_a:
            kn.pack_a(tiles, kk * mr, g.a + (i0 + p * g.lda) * real, g.lda, m, kk)
            a, sa, tile_stride = tiles, mr, kk * mr
        elif g.tile_bytes:
            a, sa, tile_stride = g.tiles + (p * height + i0 * kk) * real, mr, kk * mr
        else:
            a = g.a + (i0 + p * g.lda if g.a_columns else i0 * g.lda + p) * real
            sa, tile_stride = g.lda, 0
        if g.panel_bytes:
            multiply(g, c, ldc, a, sa, g.a_columns, tile_stride, g.panels + (p * width + j0 * kk) * real, nr,
                     kk * nr, bias, i0, j0, p, m, n, kk, start)
        elif g.pack_b:
            kn.pack_b(panels, kk * nr, g.b + (j0 * g.ldb + p if g.b_transposed else p * g.ldb + j0) * real,
                      g.ldb, g.b_transposed, kk, n)
            multiply(g, c, ldc, a, sa, g.a_columns, tile_stride, panels, nr, kk * nr, bias, i0, j0, p, m, n, kk, start)
        else:
            full = whole_panels(g, n, kk)
            if full:
                multiply(g, c, ldc, a, sa, g.a_columns, tile_stride, g.b + (p * g.ldb + j0) * real, g.ldb, nr,
                         bias, i0, j0, p, m, full, kk, start)
            if full < n:  # of its last rows, the last vector may end past the end of B: those are copied
                bias_left = bias + full * real if bias != NULL else NULL
                steps = inner_steps(g, p, j0 + full, n - full, kk)
                if steps or not kk:
                    multiply(g, c + full * real, ldc, a, sa, g.a_columns, tile_stride,
                             g.b + (p * g.ldb + j0 + full) * real, g.ldb, nr, bias_left, i0, j0 + full, p, m, n - full, steps,
                             start)
                if steps < kk:
                    kn.pack_b(panels, 0, g.b + ((p + steps) * g.ldb + j0 + full) * real, g.ldb, 0, kk - steps, n - full)
                    multiply(g, c + full * real, ldc, a + steps * (sa if g.a_columns else 1) * real, sa, g.a_columns,
                             tile_stride, panels, nr, 0, bias_left, i0, j0 + full, p + steps, m, n - full, kk - steps,
                             FNN_FROM_C if steps else start)
        p += kk
        if p >= g.k:
            break
        start = FNN_FROM_C
        if fnn_stopped(run):
            return
    if g.take != NULL and n == g.n:  # whole rows: they follow each other in the weights, too
        g.take(g.taker, g.at + i0 * g.n, c, m * n, run)
    elif g.take != NULL:
        for i in range(m):
            g.take(g.taker, g.at + (i0 + i) * g.n + j0, c + i * ldc * real, n, run)
    elif g.flipped:
        turn(g, c, i0, j0, m, n)
    else:
        epilogue(g, c, i0, j0, m, n)
        if g.finish != NULL:
            g.finish(g.finisher, c, ldc, i0, j0, m, n)


cdef void turn(const Gemm *g, const char *c, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """A finished block of C.T into C."""
    g.kernels.transpose(g.c + (j0 * g.ldc + i0) * g.real, g.ldc, c, n, m, n)


cdef void epilogue(const Gemm *g, char *c, Py_ssize_t i0, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """The activation, or its derivative, on a block that has just been written."""
    cdef Py_ssize_t i
    if g.activation == 0:
        return
    for i in range(m):
        if g.backward:
            g.kernels.activation_backward[g.activation](
                c + i * g.ldc * g.real, c + i * g.ldc * g.real,
                g.saved + ((i0 + i) * g.lds + j0) * g.real, n, g.params, False)
        else:
            g.kernels.activation_forward[g.activation](
                c + i * g.ldc * g.real, c + i * g.ldc * g.real, n, g.params, False)
