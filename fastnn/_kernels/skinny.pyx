# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Matrix products with a side of a few: one row, one class, four inputs.

The register tiles of gemm.pyx would leave most lanes of a vector empty there, or have too few sums under
way.  Three other ways to lay the lanes, of which that one is taken which reads the large operand in the order
it lies in:

dots     along k, for few columns: each element of C is the dot product of two rows.  A B that lies in rows of
         n is transposed first.  Few rows of dy @ w.T are few columns of its transpose, which is
         written turned round.  Some more rows of it, too, are dots where k is long: nothing is packed.
streams  along n, for few rows: all of B goes past, a few rows at a time, and is added up in C.  Few columns
         of x.T @ dy are few rows of its transpose, which is made in the workspace and turned round.
narrows  along m, for very few columns: they are interleaved at the end.
outers   along n, for few steps of k: the rows of C, each a sum of a few rows of B, are written one after the
         other; rows of a few vectors, some at a time.  A B that lies in rows of k is transposed first.
"""
from fastnn._kernels.gemm cimport (
    BLOCK_FLOPS, MOST_BLOCKS, Gemm, ceil_to, epilogue, gemm_flops, quotient, rows_share_sets, share, swap, to_lines,
    turn,
)
from fastnn._kernels.vec cimport fnn_op, fnn_run

# Chosen on a Cascade Lake with AVX-512 (what is far with AVX2: on a Zen 3; what is said of dots: on a Zen 4);
# `fastnn bench --gemm dx 500x10x33`, say, shows what a change gives.
cdef Py_ssize_t DOT_SIDE = 10         # of C at most, on one side
cdef Py_ssize_t DOT_COLUMNS = 8       # likewise, where B is to be transposed first
cdef Py_ssize_t DOT_STEPS = 64        # of k from which the sums across lanes at the end pay
cdef Py_ssize_t COLUMN_STEPS = 16     # likewise, for each column, where B is to be transposed first, or twice as many
cdef Py_ssize_t WIDE_LANES = 16       # in vectors of less than so many lanes, of which tiles leave fewer empty
cdef Py_ssize_t WIDE_ROWS = 16        # of C at least, for up to DOT_SIDE columns,
cdef Py_ssize_t DOT_ROWS = 64         # or so many in shorter vectors, and from rows of A that share cache sets
cdef Py_ssize_t LONG_STEPS = 256      # of k from which a B that lies in columns is not packed for tiles,
cdef Py_ssize_t LONG_ROWS = 20        # of so many rows of C at most,
cdef Py_ssize_t LONG_SIDE = 40        # or so many on each side, in vectors of WIDE_LANES
cdef Py_ssize_t STREAM_ROWS = 8       # of C at most
cdef Py_ssize_t FAR_ROWS = 12         # likewise, or a tile of fewer, where each row of B is in pages of its own
cdef Py_ssize_t FAR_STRIDE = 1 << 13  # of so many bytes, and all of B has so many that these pages are looked up anew
cdef Py_ssize_t FAR_BYTES = 1 << 23   # for each panel: 1.4 to 2.5 times as fast at 10 rows of 2048 x 2048
cdef Py_ssize_t FLIPPED_STEPS = 16    # of k from which turning C round pays
cdef Py_ssize_t OUTER_STEPS = 16      # of k at most, for writing C row after row, or where B is to be transposed first
cdef Py_ssize_t OUTER_COLUMNS = 64    # of C at least
cdef Py_ssize_t OUTER_ROWS = 2        # likewise
cdef Py_ssize_t LEAST_LOW_ROWS = 16   # likewise, where few vectors hold all columns
cdef Py_ssize_t LOW_STEPS = 40        # of k at most, where a third vector would leave half of a tile empty,
cdef Py_ssize_t EDGE_STEPS = 128      # or so many, where it is of a few columns
cdef Py_ssize_t OUTER_BYTES = 1 << 19 # of B at most, where few rows read it: it goes past, shared by columns
cdef Py_ssize_t NARROW_COLUMNS = 4    # of C at most
cdef Py_ssize_t NARROW_ROWS = 32      # of C at least
cdef Py_ssize_t TURNED_STEPS = 8      # of k below which rows of A are turned for one to three columns,
cdef Py_ssize_t TURNED_FOR_FOUR = 32  # or so many, for four: from there on dots of B's columns are sooner made
cdef Py_ssize_t NARROW_STEPS = 200    # of k at most, where A lies in columns,
cdef Py_ssize_t FAR_STEPS = 512       # or so many, where twice as many rows share them: beyond, A goes past
cdef Py_ssize_t STREAM_BYTES = 2048   # of a row of B in a block: shorter pieces are fetched ahead less well


cdef bint plan_skinny(Gemm *g) noexcept nogil:
    """Choose one of these routes if it fits; says whether it does."""
    cdef bint plain = g.bias == NULL and not g.activation
    if g.take != NULL or g.finish != NULL:
        return False
    if NARROW_COLUMNS < g.n <= g.kernels.low * g.kernels.lanes and g.m >= LEAST_LOW_ROWS and g.k <= most_low(g):
        plan_outer(g)
        return True
    if (g.k <= (OUTER_STEPS if g.b_transposed else most_outers(g)) and g.n >= OUTER_COLUMNS and g.m >= OUTER_ROWS
            and (g.m > STREAM_ROWS or g.n * g.k * g.real <= OUTER_BYTES)):
        plan_outer(g)
        return True
    if g.a_columns and g.m == 1 and g.lda == 1:  # a column of x whose elements follow each other is a row of x.T
        g.a_columns, g.lda = False, g.k
    if g.b_transposed and g.m == 1 and g.n >= NARROW_ROWS and g.k < TURNED_STEPS and g.bias == NULL:
        swap(g)
        plan_narrow(g)
        return True
    if g.n <= NARROW_COLUMNS and g.m >= NARROW_ROWS and is_narrow(g):
        plan_narrow(g)
        return True
    if g.a_columns:
        if g.m <= min(g.n, stream_rows(g, g.n)):
            plan_stream(g)
            return True
        if g.n <= stream_rows(g, g.m) and plain and (g.k >= FLIPPED_STEPS or (g.n == 1 and g.ldc == 1)):
            swap(g)
            plan_stream(g)
            return True
        return False
    if g.n == 1 and g.ldb == 1:  # a column whose elements follow each other is a row of B.T
        g.b_transposed, g.ldb = True, g.k
    if g.b_transposed:
        if g.n == 1 or (g.n <= min(g.m, DOT_SIDE) and g.k >= DOT_STEPS):
            plan_dot(g)
            return True
        if g.m <= DOT_SIDE and (g.k >= DOT_STEPS or g.m == 1) and g.bias == NULL:
            swap(g)
            plan_dot(g)
            return True
        if is_long_dot(g):
            plan_dot(g)
            return True
        return False
    if g.m <= stream_rows(g, g.n):
        plan_stream(g)
        return True
    if is_dot(g):
        plan_dot(g)
        return True
    return False


cdef inline Py_ssize_t most_outers(const Gemm *g) noexcept nogil:
    """Steps of k up to which rows of C are written one after the other: more for a few rows, which share B."""
    if g.m == 2:
        return 3 * g.kernels.lanes
    return 8 * g.kernels.lanes if g.m <= STREAM_ROWS else OUTER_STEPS


cdef inline Py_ssize_t most_low(const Gemm *g) noexcept nogil:
    """The same for rows of a few vectors."""
    cdef Py_ssize_t past = g.n - 2 * g.kernels.lanes
    if past <= 0:
        return OUTER_STEPS
    return EDGE_STEPS if past <= g.kernels.edge else LOW_STEPS


cdef inline Py_ssize_t stream_rows(const Gemm *g, Py_ssize_t columns) noexcept nogil:
    """Rows of C up to which the other operand, k steps of so many columns, goes past."""
    if columns * g.real >= FAR_STRIDE and columns * g.k * g.real >= FAR_BYTES:
        return FAR_ROWS if g.kernels.mr >= FAR_ROWS else g.kernels.mr
    return STREAM_ROWS


cdef inline bint is_narrow(const Gemm *g) noexcept nogil:
    if not g.a_columns:
        return g.k < dot_steps(g) and g.kernels.lanes >= (8 if g.n == 1 else 2 * g.n)
    if g.n == 1:
        return False
    # long rows of A are not left again before they end, lest memory be read in pieces: those are streamed
    return g.k <= NARROW_STEPS or (g.k <= FAR_STEPS and g.m >= 2 * NARROW_ROWS)


cdef inline Py_ssize_t dot_steps(const Gemm *g) noexcept nogil:
    """Steps of k from which dots of the columns of a B that is to be transposed pay."""
    if g.n <= NARROW_COLUMNS:
        return TURNED_FOR_FOUR if g.n == NARROW_COLUMNS else TURNED_STEPS
    return COLUMN_STEPS * g.n * (1 if g.kernels.lanes >= WIDE_LANES else 2)


cdef inline bint is_dot(const Gemm *g) noexcept nogil:
    if g.k < dot_steps(g) or g.n > DOT_SIDE:
        return False
    if g.n <= DOT_COLUMNS:
        return True
    return g.m >= WIDE_ROWS if g.kernels.lanes >= WIDE_LANES else g.m >= DOT_ROWS and rows_share_sets(g)


cdef inline bint is_long_dot(const Gemm *g) noexcept nogil:
    return (g.k >= LONG_STEPS and (g.m <= LONG_ROWS or max(g.m, g.n) <= LONG_SIDE)
            and g.kernels.lanes >= WIDE_LANES and g.n * g.k * g.real <= FAR_BYTES)


cdef Py_ssize_t blocks_for(const Gemm *g, Py_ssize_t most) noexcept nogil:
    return max(1, min(most, MOST_BLOCKS, <Py_ssize_t>(gemm_flops(g) / BLOCK_FLOPS)))


# --- lanes along k ------------------------------------------------------------------------------


cdef void plan_dot(Gemm *g) noexcept nogil:
    cdef Py_ssize_t blocks = blocks_for(g, g.m)
    g.multiply, g.pack = dot_block, transpose_b
    g.mb = ceil_to(max(1, share(g.m, blocks)), 16)
    g.nb, g.kb = g.n, g.k
    g.row_blocks, g.col_blocks = max(1, share(g.m, g.mb)), 1
    if not g.b_transposed:
        g.panel_bytes, g.pack_b_blocks = g.n * turned_stride(g) * g.real, 1


cdef inline Py_ssize_t turned_stride(const Gemm *g) noexcept nogil:
    """Elements between the rows of a B that was transposed: an odd number of lines, so that its vectors are no two
    lines' and its rows share no cache sets."""
    return quotient(64, g.real) * (share((g.n if g.b_transposed else g.k) * g.real, 64) | 1)


cdef void transpose_b(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gemm *g = <const Gemm *>op.args
    if g.b_transposed:
        g.kernels.transpose(g.panels, turned_stride(g), g.b, g.ldb, g.n, g.k)
    else:
        g.kernels.transpose(g.panels, turned_stride(g), g.b, g.ldb, g.k, g.n)


cdef void dot_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t i = block * g.mb, m = min(g.mb, g.m - i), ci = g.ldc, cj = 1
    if m <= 0:
        return
    if g.flipped:
        ci, cj = 1, g.ldc
    # dots are flipped only where B lies transposed, so both operands then lie in rows along k
    g.kernels.dot_block(g.c + i * ci * g.real, ci, cj, g.a + i * g.lda * g.real, g.lda,
                        g.b if g.b_transposed else g.panels, g.ldb if g.b_transposed else turned_stride(g),
                        g.bias, m, g.n, g.k)
    if g.flipped:
        epilogue(g, g.c + i * g.real, 0, i, g.n, m)
    else:
        epilogue(g, g.c + i * ci * g.real, i, 0, m, g.n)


# --- lanes along n ------------------------------------------------------------------------------


cdef void plan_stream(Gemm *g) noexcept nogil:
    cdef Py_ssize_t piece = quotient(STREAM_BYTES, g.real), blocks = blocks_for(g, share(g.n, piece))
    g.multiply = stream_block
    g.nb = ceil_to(share(g.n, blocks), piece) if blocks > 1 else max(1, g.n)
    g.mb, g.kb = g.m, g.k
    g.row_blocks, g.col_blocks = 1, max(1, share(g.n, g.nb))
    if g.flipped:
        g.workspace = to_lines(g.m * g.nb * g.real)


cdef void stream_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t j = block * g.nb, n = min(g.nb, g.n - j)
    cdef bint turned = g.flipped and not (g.m == 1 and g.ldc == 1)  # a column's elements may follow each other
    cdef char *c = <char *>workspace if turned else g.c + j * g.real
    if n <= 0 or g.m == 0:
        return
    g.kernels.stream_block(c, n if turned else g.ldc, g.a, g.lda, g.a_columns, g.b + j * g.real, g.ldb,
                           g.bias + j * g.real if g.bias != NULL else NULL, g.m, n, g.k)
    if turned:
        turn(g, c, 0, j, g.m, n)
    elif not g.flipped:
        epilogue(g, c, 0, j, g.m, n)


cdef void plan_outer(Gemm *g) noexcept nogil:
    cdef Py_ssize_t blocks = blocks_for(g, g.m)
    g.multiply, g.pack = outer_block, transpose_b
    g.mb = ceil_to(max(1, share(g.m, blocks)), 3)
    g.nb, g.kb = g.n, g.k
    g.row_blocks, g.col_blocks = max(1, share(g.m, g.mb)), 1
    if g.b_transposed:
        g.panel_bytes, g.pack_b_blocks = g.k * turned_stride(g) * g.real, 1


cdef void outer_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t i = block * g.mb, m = min(g.mb, g.m - i)
    cdef const char *a = g.a + (i if g.a_columns else i * g.lda) * g.real
    cdef const char *b = g.b
    cdef char *c = g.c + i * g.ldc * g.real
    cdef Py_ssize_t ldb = g.ldb
    if m <= 0:
        return
    if g.b_transposed:
        b, ldb = g.panels, turned_stride(g)
    g.kernels.outer_block(c, g.ldc, a, g.lda, g.a_columns, b, ldb, g.bias, m, g.n, g.k)
    epilogue(g, c, i, 0, m, g.n)


# --- lanes along m ------------------------------------------------------------------------------


cdef void plan_narrow(Gemm *g) noexcept nogil:
    cdef Py_ssize_t blocks = blocks_for(g, g.m)
    g.multiply = narrow_block
    g.mb = ceil_to(max(1, share(g.m, blocks)), 64)
    g.nb, g.kb = g.n, g.k
    g.row_blocks, g.col_blocks = max(1, share(g.m, g.mb)), 1


cdef void narrow_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Gemm *g = <const Gemm *>op.args
    cdef Py_ssize_t i = block * g.mb, m = min(g.mb, g.m - i)
    cdef Py_ssize_t ldc = 1 if g.flipped else g.ldc  # only a row of C is turned round
    cdef char *c = g.c + i * ldc * g.real
    if m <= 0:
        return
    g.kernels.narrow_block(c, ldc, g.a + (i if g.a_columns else i * g.lda) * g.real, g.lda, g.a_columns, g.b,
                           1 if g.b_transposed else g.ldb, g.ldb if g.b_transposed else 1, g.bias, m, g.n, g.k)
    if g.flipped:
        epilogue(g, c, 0, i, g.n, m)
    else:
        epilogue(g, c, i, 0, m, g.n)
