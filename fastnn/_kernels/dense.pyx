# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The dense layer: y = act(x @ w + b) and its gradients, as calls and as operations of a program."""
from libc.stddef cimport size_t
from libc.string cimport memset

from fastnn._kernels.activations cimport Elementwise, parse, run_elementwise, understand
from fastnn._kernels.arguments cimport LEFT_OUT, Fit, Taken
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.gemm cimport (
    KB_BYTES, Gemm, gemm_flops, gradient_packs_own_tiles, pack_a_block, plan_gemm, to_lines, widest_block,
)
from fastnn._kernels.machine cimport (
    Scratch, allocate, borrow, give_back, kernels_for, needs_input, release, run_now, threads_for,
)
from fastnn._kernels.program cimport Finish, Program, Sink
from fastnn._kernels.skinny cimport plan_skinny
from fastnn._kernels.vec cimport FNN_STRETCHES, fnn_block, fnn_kernels, fnn_op, fnn_run

from fastnn import contracts

ctypedef struct ColumnSums:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols
    const char *x
    Py_ssize_t ld
    char *sums
    # summed block by block as a product writes x: `sums` is then (blocks, cols), and merged into `out`
    Py_ssize_t row_block
    char *out

cdef Py_ssize_t SUM_COLS = 64
cdef enum: FEW_BYTES = 4096  # of a dz that needs no memory of its own


cdef void sums_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const ColumnSums *s = <const ColumnSums *>op.args
    cdef Py_ssize_t j = block * SUM_COLS
    s.kernels.column_sums(s.sums + j * s.real, s.x + j * s.real, s.ld, s.rows, min(SUM_COLS, s.cols - j))


cdef void take_sums(const void *args, const char *c, Py_ssize_t ldc, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows,
                    Py_ssize_t cols) noexcept nogil:
    cdef const ColumnSums *s = <const ColumnSums *>args
    s.kernels.column_sums(s.sums + (i // s.row_block * s.cols + j) * s.real, c, ldc, rows, cols)


cdef void merge_sums(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    """In the order of the blocks: the same bits for any number of threads."""
    cdef const ColumnSums *s = <const ColumnSums *>op.args
    cdef Py_ssize_t blocks = (s.rows + s.row_block - 1) // s.row_block, i, j
    cdef double total
    for j in range(s.cols):
        total = 0
        for i in range(blocks):
            total += (<const float *>s.sums)[i * s.cols + j] if s.real == 4 else (<const double *>s.sums)[i * s.cols + j]
        if s.real == 4:
            (<float *>s.out)[j] = <float>total
        else:
            (<double *>s.out)[j] = total


cdef inline void set_op(fnn_op *op, fnn_block block, const void *args, Py_ssize_t blocks) noexcept:
    op.block, op.args, op.blocks = block, args, max(1, blocks)


cdef int forward_shape(Gemm *g, Arrays arrays, x, w, b, y) except -1:
    """C = y (N, H), A = x (N, D), B = w (D, H)."""
    g.a = arrays.matrix(x, &g.lda)
    g.m, g.k = arrays.rows(), arrays.cols()
    g.b = arrays.matrix(w, &g.ldb)
    g.n = arrays.cols()
    if arrays.rows() != g.k:
        raise ValueError("w does not fit x")
    g.bias = arrays.real(b)
    if b is not None and arrays.size() != g.n:
        raise ValueError("b does not fit w")
    g.c = arrays.matrix(y, &g.ldc, True)
    if arrays.rows() != g.m or arrays.cols() != g.n:
        raise ValueError("y does not fit x and w")
    g.real = arrays.itemsize
    return 0


cdef int input_gradient_shape(Gemm *g, Arrays arrays, dx, dy, w) except -1:
    """C = dx (N, D), A = dy (N, H), B = w.T: the packing transposes."""
    g.a = arrays.matrix(dy, &g.lda)
    g.m, g.k = arrays.rows(), arrays.cols()
    g.b = arrays.matrix(w, &g.ldb)
    g.b_transposed = True
    g.n = arrays.rows()
    if arrays.cols() != g.k:
        raise ValueError("w does not fit dy")
    g.c = arrays.matrix(dx, &g.ldc, True)
    if arrays.rows() != g.m or arrays.cols() != g.n:
        raise ValueError("dx does not fit dy and w")
    g.real = arrays.itemsize
    return 0


cdef int weight_gradient_shape(Gemm *g, Arrays arrays, dw, x, dy) except -1:
    """C = dw (D, H), A = x.T read by columns, B = dy (N, H)."""
    g.a = arrays.matrix(x, &g.lda)
    g.k, g.m = arrays.rows(), arrays.cols()
    g.a_columns = True
    g.b = arrays.matrix(dy, &g.ldb)
    g.n = arrays.cols()
    if arrays.rows() != g.k:
        raise ValueError("dy does not fit x")
    g.real = arrays.itemsize
    if dw is None:
        return 0
    g.c = arrays.matrix(dw, &g.ldc, True)
    if arrays.rows() != g.m or arrays.cols() != g.n:
        raise ValueError("dw does not fit x and dy")
    return 0


cdef int run_gemm(Gemm *g) except -1:
    """Plan and run one product at once, packing into borrowed memory."""
    cdef fnn_op ops[3]
    cdef Scratch scratch
    cdef int threads, count = 0
    cdef size_t stride, panels, tiles
    g.kernels = kernels_for(g.real)
    if not plan_skinny(g):
        plan_gemm(g)
    threads = threads_for(gemm_flops(g))
    panels = to_lines(g.panel_bytes)
    tiles = to_lines(g.tile_bytes)
    stride = to_lines(g.workspace + 64)
    borrow(&scratch, panels + tiles + stride * max(1, threads))
    try:
        g.panels, g.tiles = scratch.memory, scratch.memory + panels
        if g.panel_bytes:
            set_op(&ops[count], g.pack, g, g.pack_b_blocks)
            count += 1
        if g.tile_bytes:
            set_op(&ops[count], pack_a_block, g, g.pack_a_blocks)
            count += 1
        set_op(&ops[count], g.multiply, g, g.row_blocks * g.col_blocks)
        run_now(ops, count + 1, threads, scratch.memory + panels + tiles, stride)
    finally:
        give_back(&scratch)
    return 0


def forward(x, w, b, activation, y):
    """y = act(x @ w + b); `activation` as `checks.parse_activation` gives it."""
    cdef Gemm g
    cdef Arrays arrays = Arrays()
    memset(&g, 0, sizeof(Gemm))
    parse(activation, &g.activation, g.params)
    forward_shape(&g, arrays, x, w, b, y)
    run_gemm(&g)
    return y


def input_gradient(dx, dy, w):
    """dx = dy @ w.T"""
    cdef Gemm g
    cdef Arrays arrays = Arrays()
    memset(&g, 0, sizeof(Gemm))
    input_gradient_shape(&g, arrays, dx, dy, w)
    run_gemm(&g)
    return dx


def weight_gradient(dw, x, dy):
    """dw = x.T @ dy"""
    if dw is None:
        raise TypeError("dw must be an array")
    cdef Gemm g
    cdef Arrays arrays = Arrays()
    memset(&g, 0, sizeof(Gemm))
    weight_gradient_shape(&g, arrays, dw, x, dy)
    run_gemm(&g)
    return dw


def bias_gradient(db, dy):
    """db = dy.sum(axis=0)"""
    cdef ColumnSums s
    cdef Arrays arrays = Arrays()
    s.x = arrays.matrix(dy, &s.ld)
    s.rows, s.cols = arrays.rows(), arrays.cols()
    s.sums = arrays.real(db, True)
    s.real = arrays.itemsize
    if arrays.size() != s.cols:
        raise ValueError("db does not fit dy")
    run_sums(&s)
    return db


cdef int run_sums(ColumnSums *s) except -1:
    cdef fnn_op op
    cdef int threads = threads_for(16.0 * s.rows * s.cols)
    s.kernels = kernels_for(s.real)
    if s.cols == 0:
        return 0
    if threads == 0:  # the cheapest way in
        s.kernels.column_sums(s.sums, s.x, s.ld, s.rows, s.cols)
        return 0
    set_op(&op, sums_block, s, (s.cols + SUM_COLS - 1) // SUM_COLS)
    return run_now(&op, 1, threads, NULL, 0)


# --- the public operations: documented at their twins in `fastnn.reference` ------------------------

cdef Fit FORWARD = Fit("nd dh h? -> nh")
cdef Fit BACKWARD = Fit("nh nd dh nh? -> nd dh h")


cdef inline void set_product(Gemm *g, Py_ssize_t real, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, char *c,
                             const char *a, Py_ssize_t lda, const char *b, Py_ssize_t ldb) noexcept:
    """C (m, n) = A (m, k) @ B (k, n), as they are."""
    memset(g, 0, sizeof(Gemm))
    g.real, g.m, g.n, g.k = real, m, n, k
    g.c, g.ldc, g.a, g.lda, g.b, g.ldb = c, n, a, lda, b, ldb


def dense_forward(x, w, b=None, *, activation=None, out=None):
    cdef Gemm g
    cdef Taken a = FORWARD.take((x, w, b, out))
    if a is None:
        _, out = contracts.dense_forward(x, w, b, activation, out)
        a = FORWARD.insist((x, w, b, out))
    cdef Py_ssize_t n = a.lengths[0], d = a.lengths[1], h = a.lengths[2]
    set_product(&g, a.real, n, h, d, a.data(3), a.data(0), d, a.data(1), h)
    g.bias = a.data(2)
    understand(activation, &g.activation, g.params)
    run_gemm(&g)
    return a.output


def dense_backward(dy, x, w, *, y=None, activation=None, need_dx=True, need_dw=True, need_db=True, dx_out=None,
                   dw_out=None, db_out=None):
    cdef int kind = 0
    cdef double params[2]
    cdef bint dx = need_dx, dw = need_dw, db = need_db
    cdef Taken a = None
    if activation is None:  # it is then ignored
        y = None
    if (dx or dx_out is None) and (dw or dw_out is None) and (db or db_out is None):
        a = BACKWARD.take((dy, x, w, y, dx_out if dx else LEFT_OUT, dw_out if dw else LEFT_OUT,
                            db_out if db else LEFT_OUT))
        if a is not None:
            understand(activation, &kind, params)
    if a is None or kind and (y is None or needs_input(kind)):
        _, dx_out, dw_out, db_out = contracts.dense_backward(
            dy, x, w, y, activation, dx, dw, db, dx_out, dw_out, db_out)
        a = BACKWARD.insist((dy, x, w, y, dx_out if dx else LEFT_OUT, dw_out if dw else LEFT_OUT,
                            db_out if db else LEFT_OUT))
        understand(activation, &kind, params)
        if kind and (y is None or needs_input(kind)):
            raise TypeError("the activation does not fit the kernel")
    cdef Elementwise e
    cdef char few[FEW_BYTES]
    cdef char *dz = few
    if kind == 0:
        run_backward(a, a.data(0))
        return a.outputs
    e.real, e.n, e.kind, e.params[0], e.params[1] = a.real, a.size(), kind, params[0], params[1]
    if e.n * e.real > FEW_BYTES:
        dz = allocate(e.n * e.real)
    try:
        e.out, e.x, e.saved = dz, a.data(0), a.data(3)
        run_elementwise(&e, True)
        run_backward(a, dz)
    finally:
        if dz != few:
            release(dz)
    return a.outputs


cdef int run_backward(Taken a, const char *dz) except -1:
    """dx = dz @ w.T, dw = x.T @ dz, db = dz.sum(axis=0): those that are wanted."""
    cdef Gemm g
    cdef ColumnSums s
    cdef Py_ssize_t n = a.lengths[0], h = a.lengths[1], d = a.lengths[2]
    if a.data(4) != NULL:
        set_product(&g, a.real, n, d, h, a.data(4), dz, h, a.data(2), h)
        g.b_transposed = True
        run_gemm(&g)
    if a.data(5) != NULL:
        set_product(&g, a.real, d, h, n, a.data(5), a.data(1), d, dz, h)
        g.a_columns = True
        run_gemm(&g)
    if a.data(6) != NULL:
        s.real, s.rows, s.cols, s.x, s.ld, s.sums = a.real, n, h, dz, h, a.data(6)
        run_sums(&s)
    return 0


# --- operations of a program --------------------------------------------------------------------


cdef int add_gemm(Program p, object name, Gemm *g, Finish finish=None) except -1:
    g.kernels = p.kernels
    if finish is not None:
        g.finish, g.finisher = finish.finish, finish.args
    if not plan_skinny(g):
        plan_gemm(g)
    if finish is not None:
        finish.row_block[0] = g.mb
    if g.panel_bytes:
        p.share(&g.panels, 0, g.panel_bytes)
        p.add(name + ": pack", g.pack, g.pack_b_blocks, g, 0.0, 0)
    if g.tile_bytes:
        p.share(&g.tiles, to_lines(g.panel_bytes), g.tile_bytes)
        p.add(name + ": pack x", pack_a_block, g.pack_a_blocks, g, 0.0, 0)
    return p.add(name, g.multiply, g.row_blocks * g.col_blocks, g, gemm_flops(g), g.workspace)


def add_forward(Program p, name, x, w, b, activation, y):
    """y = act(x @ w + b)"""
    cdef Gemm *g = <Gemm *>p.args(sizeof(Gemm))
    parse(activation, &g.activation, g.params)
    forward_shape(g, p.arrays((x, w, b, y)), x, w, b, y)
    add_gemm(p, name, g)


def add_input_gradient(Program p, name, dx, dy, w, activation, saved, db=None):
    """dx = (dy @ w.T) * act'(saved): the derivative of the activation that made x, taken on the way out.
    db = dx.sum(axis=0), the gradient of the bias before that activation: the blocks are summed while they
    are in the cache (a pass over dx of its own takes 2% of a step of `deep`)."""
    cdef Gemm *g = <Gemm *>p.args(sizeof(Gemm))
    cdef ColumnSums *s = NULL
    cdef Finish finish = None
    cdef Arrays arrays = p.arrays((dx, dy, w, saved, db))
    parse(activation, &g.activation, g.params)
    input_gradient_shape(g, arrays, dx, dy, w)
    g.backward = True
    g.saved = arrays.matrix(saved, &g.lds)
    if g.activation and g.saved == NULL:
        raise ValueError("an activation needs what it saved")
    if db is not None:
        s = <ColumnSums *>p.args(sizeof(ColumnSums))
        s.kernels, s.real, s.rows, s.cols = p.kernels, p.itemsize, g.m, g.n
        s.out = arrays.real(db, True)
        if arrays.size() != s.cols:
            raise ValueError("db does not fit dx")
        finish = Finish()
        finish.finish, finish.args, finish.row_block = take_sums, s, &s.row_block
    add_gemm(p, name, g, finish)
    if s != NULL:
        s.sums = p.own(g.row_blocks * s.cols * s.real)
        p.add(name + ": bias", merge_sums, 1, s, 0.0, 0)


def add_weight_gradient(Program p, name, dw, x, dy, Sink sink=None, Py_ssize_t at=0):
    """dw = x.T @ dy; or with a sink no dw: each finished row goes into the update of the weights, which
    begin at element `at` of the flat parameters."""
    cdef int q
    cdef Gemm *g = <Gemm *>p.args(sizeof(Gemm))
    if (dw is None) == (sink is None):
        raise ValueError("give either dw or a sink")
    if sink is not None:
        g.take, g.taker, g.at = sink.take, sink.args, at
        for q in range(FNN_STRETCHES):
            g.taken[q] = sink.taken[q]
    weight_gradient_shape(g, p.arrays((dw, x, dy, sink)), dw, x, dy)
    if sink is not None:
        p.moves(sink.moved * g.m * g.n)
    add_gemm(p, name, g)


def update_is_better_fused(Py_ssize_t rows, Py_ssize_t inputs, Py_ssize_t units, Py_ssize_t itemsize):
    """Whether the weights of a layer are better updated by the product that makes their gradient.

    `python benchmarks/fusions.py` measures it.  Where the product packs its own part of x, what the update goes
    over is fetched beside it: on a Zen 4, with momentum, medium gains 3 to 4%, a batch of 256 on 784 x 512 2 to 3%, of
    1000 on 784 x 1000 1 to 2%, wide and deep 0 to 1%.  Else, on a busy Cascade Lake, batch 64 on 784 x 128 gained 9
    to 16%; narrow layers (64 x 64) lost 1%, as the calls cost more than the pass saves.  Updating rows by pieces
    lost 2 to 3%: the prefetchers do not follow pieces.
    """
    if inputs * units < 16384:
        return False
    return (2 * units <= widest_block(itemsize)
            or units <= widest_block(itemsize) and rows * itemsize <= KB_BYTES // 2
            or units <= 2 * widest_block(itemsize) and gradient_packs_own_tiles(
                kernels_for(itemsize), rows, inputs, units, itemsize))


def add_bias_gradient(Program p, name, db, dy):
    """db = dy.sum(axis=0)"""
    cdef ColumnSums *s = <ColumnSums *>p.args(sizeof(ColumnSums))
    cdef Arrays arrays = p.arrays((db, dy))
    s.kernels, s.real = p.kernels, p.itemsize
    s.x = arrays.matrix(dy, &s.ld)
    s.rows, s.cols = arrays.rows(), arrays.cols()
    s.sums = arrays.real(db, True)
    if arrays.size() != s.cols:
        raise ValueError("db does not fit dy")
    p.add(name, sums_block, (s.cols + SUM_COLS - 1) // SUM_COLS, s, 1.0 * s.rows * s.cols, 0)
