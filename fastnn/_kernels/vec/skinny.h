/* Matrix products with a side of a few, where a tile of gemm.h would leave most lanes of a vector
 * empty, or have too few sums to keep the multiply-adds busy:
 *   dot_block     lanes along k: few columns (or few rows, turned round), both operands read along k
 *   stream_block  lanes along n: few rows; B goes past in the order it lies in, C stays in L1
 *   outer_block   lanes along n: few steps of k; B stays in L1, C is written row after row
 *   narrow_block  lanes along m: few columns; C stays in registers, and its columns are interleaved at the end
 * and transpose, which brings an operand into the order that dot_block reads.
 *
 * Alignment: none needed.  Aliasing: C must not overlap the others.
 * Order of summation: fixed by the shape alone, whatever the split of m and n.
 */
#undef DOTS
#define DOTS (VL > 8 ? VL : 8) /* sums at a time: what hides the latency of a multiply-add */
#undef ALIKE_ROWS
#define ALIKE_ROWS (FNN_VBYTES == 64 ? 4 : 8) /* at a time, of which all lie in the same set or two of L1 */
#undef NARROW
#undef SPLIT
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define NARROW 4 /* vectors of columns: sums of 4 rows in 16 of 32 registers */
#else
#define NARROW 2 /* in 8 of 16 */
#endif
#undef ONE_ROW
#define ONE_ROW (FNN_VBYTES == 64 ? 8 : NARROW) /* of one row, which 128 floats in one go make 1.15 to 1.3 times as fast */
#define SPLIT(nv) ((nv) > NARROW ? 1 : NARROW / (nv))

/* The columns that are left past the last whole vector of C, where they are few: a tile would spend a vector
 * on each step of k for them, nearly as long as two.  Lanes along k, or along the rows of a column-mode A,
 * take a sixteenth of that: 33 columns no longer cost as many as 48. */
#undef EDGE
#undef EDGE_OF
#define EDGE_OF(lanes) ((lanes) / (FNN_VBYTES == 64 ? 4 : 8)) /* columns at most */
#define EDGE EDGE_OF(VL)

/* A block of a matrix: out (width, height) = x.T, x (height, width), neither beyond VL.  Rows of `stored` lanes are
 * written; those past the height hold the first row of x once more. */
INLINE void FN(transpose_block)(real *restrict out, ptrdiff_t ldo, const real *restrict x, ptrdiff_t ldx, int height,
                                int width, int stored) {
    if (width == 1) {
        for (int i = 0; i < stored; i++) out[i] = x[(i < height ? i : 0) * ldx];
        return;
    }
    vec r[VL];
#pragma GCC unroll 16
    for (int q = 0; q < VL; q++) r[q] = v_load_part(x + (q < height ? q : 0) * ldx, width);
    FN(transpose)(r);
#pragma GCC unroll 16
    for (int q = 0; q < VL; q++)
        if (q < width) v_store_part(out + q * ldo, r[q], stored);
}

/* out (cols, rows) = x.T, x (rows, cols) */
static void FN(transpose_matrix)(void *out_, ptrdiff_t ldo, const void *x_, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols) {
    real *restrict out = out_;
    const real *restrict x = x_;
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const int width = cols - j < VL ? (int)(cols - j) : VL;
        ptrdiff_t i = 0;
        for (; i + VL <= rows; i += VL)
            if (width == VL) FN(transpose_block)(out + j * ldo + i, ldo, x + i * ldx + j, ldx, VL, VL, VL);
            else FN(transpose_block)(out + j * ldo + i, ldo, x + i * ldx + j, ldx, VL, width, VL);
        const int left = (int)(rows - i);
        if (left) FN(transpose_block)(out + j * ldo + i, ldo, x + i * ldx + j, ldx, left, width, left);
    }
}

/* c[i * ci + j * cj] = sum over p of a[i * lda + p] * b[j * ldb + p] [+ bias[j]], rows x cols of them */
INLINE void FN(dots)(const int rows, const int cols, real *restrict c, ptrdiff_t ci, ptrdiff_t cj,
                     const real *restrict a, ptrdiff_t lda, const real *restrict b, ptrdiff_t ldb,
                     const real *restrict bias, ptrdiff_t k) {
    vec acc[DOTS];
#pragma GCC unroll 16
    for (int q = 0; q < DOTS; q++) acc[q] = (vec){0};
    /* rows in threes, which x86 addresses without further registers: see gemm.h */
    const real *a0 = a, *a3 = a + 3 * lda, *a6 = a + 6 * lda, *a9 = a + 9 * lda, *a12 = a + 12 * lda, *a15 = a + 15 * lda;
#define ROW(i) ((i) < 3 ? a0 : (i) < 6 ? a3 : (i) < 9 ? a6 : (i) < 12 ? a9 : (i) < 15 ? a12 : a15)
#define STEP(LOAD)                                                                                  \
    do {                                                                                            \
        vec bv[4];                                                                                  \
        _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++) bv[j] = LOAD(b + j * ldb + p);         \
        _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++) {                                   \
            const vec av = LOAD(ROW(i) + (i % 3) * lda + p);                                        \
            _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++)                                  \
                acc[i * cols + j] = v_fma(av, bv[j], acc[i * cols + j]);                            \
        }                                                                                           \
    } while (0)
    ptrdiff_t p = 0;
    for (; p + VL <= k; p += VL) STEP(v_load);
    if (p < k) {
        const int left = (int)(k - p);
#define LEFT(at) v_load_part(at, left)
        STEP(LEFT);
#undef LEFT
    }
#undef STEP
#undef ROW
    if (cols == 1 && rows % VL == 0 && ci == 1) {
        const vec start = v_set1(bias ? bias[0] : 0);
#pragma GCC unroll 4
        for (int q = 0; q < rows; q += VL) v_store(c + q, FN(sums_of)(acc + q, VL) + start);
        return;
    }
    if (rows * cols == VL && ci == cols && cj == 1 && !bias) { /* the elements follow each other */
        v_store(c, FN(sums_of)(acc, VL));
        return;
    }
    real sums[DOTS];
#pragma GCC unroll 4
    for (int q = 0; q < rows * cols; q += VL) {
        const int left = rows * cols - q;
        v_store(sums + q, FN(sums_of)(acc + q, left < VL ? left : VL));
    }
#pragma GCC unroll 4
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < rows; i++) c[i * ci + j * cj] = sums[i * cols + j] + (bias ? bias[j] : 0);
}

typedef void FN(dots_fn)(real *restrict c, ptrdiff_t ci, ptrdiff_t cj, const real *restrict a, ptrdiff_t lda,
                         const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t k);
#define TILE(rows, cols)                                                                                         \
    static void FN(dots_##rows##_##cols)(real *restrict c, ptrdiff_t ci, ptrdiff_t cj, const real *restrict a,   \
                                         ptrdiff_t lda, const real *restrict b, ptrdiff_t ldb,                   \
                                         const real *restrict bias, ptrdiff_t k) {                               \
        FN(dots)(rows, cols, c, ci, cj, a, lda, b, ldb, bias, k);                                                \
    }
TILE(1, 1) TILE(2, 1) TILE(4, 1) TILE(8, 1)
TILE(1, 2) TILE(2, 2) TILE(4, 2)
TILE(1, 4) TILE(2, 4)
#if FNN_VBYTES / (FNN_REAL_BITS / 8) > 8
TILE(16, 1) TILE(8, 2) TILE(4, 4)
#define LARGE(name) FN(name)
#else
#define LARGE(name) NULL
#endif
static FN(dots_fn) *const FN(dots_of)[3][5] = { /* [log2 of the columns][log2 of the rows] */
    {FN(dots_1_1), FN(dots_2_1), FN(dots_4_1), FN(dots_8_1), LARGE(dots_16_1)},
    {FN(dots_1_2), FN(dots_2_2), FN(dots_4_2), LARGE(dots_8_2), NULL},
    {FN(dots_1_4), FN(dots_2_4), LARGE(dots_4_4), NULL, NULL},
};
#undef TILE
#undef LARGE

/* C (m, n): element (i, j) at c + i * ci + j * cj, from the rows of a (m, k) and of b (n, k). */
static void FN(dot_block)(void *c_, ptrdiff_t ci, ptrdiff_t cj, const void *a_, ptrdiff_t lda, const void *b_, ptrdiff_t ldb,
                          const void *bias_, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    real *c = c_;
    const real *a = a_, *b = b_, *bias = bias_;
    for (ptrdiff_t j = 0; j < n;) {
        const int log_cols = n - j >= 4 ? 2 : n - j >= 2 ? 1 : 0;
        /* sixteen rows of one or two sets of L1 drive each other out of it: four are twice as fast */
        const int alike = lda * (ptrdiff_t)sizeof(real) % 2048 == 0;
        const int most = alike && DOTS >> log_cols > ALIKE_ROWS ? ALIKE_ROWS : DOTS >> log_cols;
        int log_rows = 0;
        while (most >> (log_rows + 1) && m >> (log_rows + 1)) log_rows++;
        for (ptrdiff_t i = 0, rows; i < m; i += rows) {
            while (log_rows && m - i <= (ptrdiff_t)1 << (log_rows - 1)) log_rows--;
            rows = (ptrdiff_t)1 << log_rows;
            const ptrdiff_t at = i + rows <= m ? i : m - rows; /* the last tile may overlap the one before */
            FN(dots_of)[log_cols][log_rows](c + at * ci + j * cj, ci, cj, a + at * lda, lda, b + j * ldb, ldb,
                                            bias ? bias + j : NULL, k);
        }
        j += (ptrdiff_t)1 << log_cols;
    }
}

#undef EDGE_CHUNK
#define EDGE_CHUNK 512
#undef EDGE_ROWS
#define EDGE_ROWS 64

/* Such columns of a row-mode product: C (m, n <= EDGE).  The columns of B are turned round first. */
static void FN(edge_rows)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa, const real *restrict b,
                          ptrdiff_t sb, const real *restrict bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int start) {
    real turned[(EDGE ? EDGE : 1) * EDGE_CHUNK], sums[(EDGE ? EDGE : 1) * EDGE_ROWS];
    for (ptrdiff_t p = 0, steps; p < k; p += steps, start = FNN_FROM_C) {
        steps = k - p < EDGE_CHUNK ? k - p : EDGE_CHUNK;
        for (ptrdiff_t q = 0; q < steps; q++)
            for (ptrdiff_t j = 0; j < n; j++) turned[j * steps + q] = b[(p + q) * sb + j];
        if (start != FNN_FROM_C) {
            FN(dot_block)(c, ldc, 1, a + p, sa, turned, steps, start == FNN_FROM_BIAS ? bias : NULL, m, n, steps);
            continue;
        }
        for (ptrdiff_t i0 = 0; i0 < m; i0 += EDGE_ROWS) {
            const ptrdiff_t rows = m - i0 < EDGE_ROWS ? m - i0 : EDGE_ROWS;
            FN(dot_block)(sums, n, 1, a + i0 * sa + p, sa, turned, steps, NULL, rows, n, steps);
            for (ptrdiff_t i = 0; i < rows; i++)
                for (ptrdiff_t j = 0; j < n; j++) c[(i0 + i) * ldc + j] += sums[i * n + j];
        }
    }
}

#undef SLAB
#define SLAB 8 /* rows of B that go past while they are in L1 */
#undef FETCHES
#define FETCHES (FNN_VBYTES == 32) /* the next SLAB of a far B: pays on a Zen 3, from two rows on */

/* C (rows, n) += A (rows, steps) @ B (steps, n); A[i][p] = a[i + p * sa] if column_mode, else a[i * sa + p]. */
INLINE void FN(stream)(const int rows, const int steps, const int column_mode, const int fetch, real *restrict c,
                       ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa, const real *restrict b, ptrdiff_t ldb,
                       ptrdiff_t n) {
    vec av[4][8], acc[4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int p = 0; p < steps; p++) av[i][p] = v_set1(column_mode ? a[i + p * sa] : a[i * sa + p]);
#define STEP(LOAD, STORE)                                                                             \
    do {                                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < rows; i++) acc[i] = LOAD(c + i * ldc + j);          \
        _Pragma("GCC unroll 8") for (int p = 0; p < steps; p++) {                                     \
            const vec bv = LOAD(b + p * ldb + j);                                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < rows; i++) acc[i] = v_fma(av[i][p], bv, acc[i]); \
        }                                                                                             \
        _Pragma("GCC unroll 4") for (int i = 0; i < rows; i++) STORE(c + i * ldc + j, acc[i]);          \
    } while (0)
    ptrdiff_t j = 0;
    for (; j + VL <= n; j += VL) {
        if (fetch && j % LINE == 0)
#pragma GCC unroll 8
            for (int p = 0; p < steps; p++) __builtin_prefetch(b + (p + SLAB) * ldb + j, 0, 3);
        STEP(v_load, v_store);
    }
    if (j < n) {
        const int left = (int)(n - j);
#define LOAD_LEFT(at) v_load_part(at, left)
#define STORE_LEFT(at, v) v_store_part(at, v, left)
        STEP(LOAD_LEFT, STORE_LEFT);
#undef LOAD_LEFT
#undef STORE_LEFT
    }
#undef STEP
}

/* The same for n of a few vectors and all of k: C stays in registers, and where that leaves some free, as
 * several sums for each element, of every SPLIT-th step. */
INLINE void FN(stream_narrow)(const int rows, const int nv, const int column_mode, real *restrict c, ptrdiff_t ldc,
                              const real *restrict a, ptrdiff_t sa, const real *restrict b, ptrdiff_t ldb, int n, ptrdiff_t k) {
    vec acc[SPLIT(1)][4][ONE_ROW];
    const int last = n - (nv - 1) * VL, split = SPLIT(nv);
#pragma GCC unroll 4
    for (int q = 0; q < split; q++)
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
            for (int v = 0; v < nv; v++) acc[q][i][v] = (vec){0};
#define STEP(q, p)                                                                                             \
    do {                                                                                                       \
        vec bv[ONE_ROW];                                                                                        \
        _Pragma("GCC unroll 8") for (int v = 0; v < nv - 1; v++) bv[v] = v_load(b + (p)*ldb + v * VL);           \
        bv[nv - 1] = v_load_part(b + (p)*ldb + (nv - 1) * VL, last);                                           \
        _Pragma("GCC unroll 4") for (int i = 0; i < rows; i++) {                                               \
            const vec av = v_set1(column_mode ? a[i + (p)*sa] : a[i * sa + (p)]);                                                         \
            _Pragma("GCC unroll 8") for (int v = 0; v < nv; v++) acc[q][i][v] = v_fma(av, bv[v], acc[q][i][v]); \
        }                                                                                                      \
    } while (0)
    ptrdiff_t p = 0;
    for (; p + split <= k; p += split)
#pragma GCC unroll 4
        for (int q = 0; q < split; q++) STEP(q, p + q);
    for (; p < k; p++) STEP(0, p);
#undef STEP
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) {
            vec sum = acc[0][i][v];
#pragma GCC unroll 4
            for (int q = 1; q < split; q++) sum += acc[q][i][v];
            real *to = c + i * ldc + v * VL;
            const int width = v < nv - 1 ? VL : last;
            v_store_part(to, v_load_part(to, width) + sum, width);
        }
}

#undef STEPS
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define STEPS(rows) ((rows) < 3 ? 8 : 4) /* scalars of A in registers: 16 of 32 */
#else
#define STEPS(rows) ((rows) < 2 ? 8 : (rows) < 3 ? 4 : 2) /* 8 of 16 */
#endif
#undef FEW_VECTORS
/* vectors of columns, up to which C is better kept in registers, a part at a time: one row of 8 floats a vector reads
 * B too thinly for that (forward 1x2048x128) */
#define FEW_VECTORS(rows) ((rows) == 1 && FNN_VBYTES == 32 ? 8 : 512 / FNN_VBYTES)
#undef STREAM_BYTES
#define STREAM_BYTES 16384 /* of C that stay in L1 */
#undef FETCH_B_BYTES
#define FETCH_B_BYTES (1 << 21) /* of B that do not stay in L2: up to twice an L2 the caches' own prefetchers do as well */

/* Up to 4 rows of C, n columns: all of k, or SLAB steps of it, or one. */
#define STREAM(rows, column_mode)                                                                                             \
    static void FN(stream_##rows##_##column_mode)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa,      \
                                                  const real *restrict b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, int far) { \
        const ptrdiff_t ap = column_mode ? sa : 1;                                                                            \
        if (n <= VL) FN(stream_narrow)(rows, 1, column_mode, c, ldc, a, sa, b, ldb, (int)n, k);                               \
        else if (n <= 2 * VL) FN(stream_narrow)(rows, 2, column_mode, c, ldc, a, sa, b, ldb, (int)n, k);                      \
        else if (n <= (NARROW - 1) * VL) FN(stream_narrow)(rows, NARROW - 1, column_mode, c, ldc, a, sa, b, ldb, (int)n, k);  \
        else if (n <= NARROW * VL) FN(stream_narrow)(rows, NARROW, column_mode, c, ldc, a, sa, b, ldb, (int)n, k);            \
        else if (rows == 1 && ONE_ROW > NARROW && n > (ONE_ROW - 1) * VL && n <= ONE_ROW * VL)                                  \
            FN(stream_narrow)(rows, ONE_ROW, column_mode, c, ldc, a, sa, b, ldb, (int)n, k);                                   \
        else if (k == 1) FN(stream)(rows, 1, column_mode, 0, c, ldc, a, sa, b, ldb, n);                                       \
        else if (FETCHES && rows > 1 && far)                                                                                  \
            for (int q = 0; q < SLAB; q += STEPS(rows))                                                                       \
                FN(stream)(rows, STEPS(rows), column_mode, 1, c, ldc, a + q * ap, sa, b + q * ldb, ldb, n);                   \
        else                                                                                                                  \
            for (int q = 0; q < SLAB; q += STEPS(rows))                                                                       \
                FN(stream)(rows, STEPS(rows), column_mode, 0, c, ldc, a + q * ap, sa, b + q * ldb, ldb, n);                   \
    }
STREAM(1, 0) STREAM(2, 0) STREAM(3, 0) STREAM(4, 0)
STREAM(1, 1) STREAM(2, 1) STREAM(3, 1) STREAM(4, 1)
#undef STREAM
typedef void FN(stream_fn)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa,
                           const real *restrict b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, int far);
static FN(stream_fn) *const FN(streams)[2][4] = { /* [column mode][rows - 1] */
    {FN(stream_1_0), FN(stream_2_0), FN(stream_3_0), FN(stream_4_0)},
    {FN(stream_1_1), FN(stream_2_1), FN(stream_3_1), FN(stream_4_1)},
};

/* C (m, n) = A (m, k) @ B (k, n) [+ bias]; A[i][p] = a[i + p * sa] if column_mode, else a[i * sa + p]. */
static void FN(stream_block)(void *c_, ptrdiff_t ldc, const void *a_, ptrdiff_t sa, int column_mode, const void *b_,
                             ptrdiff_t ldb, const void *bias_, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    real *c = c_;
    const real *a = a_, *b = b_, *bias = bias_;
    const ptrdiff_t ai = column_mode ? 1 : sa, ap = column_mode ? sa : 1;
    const int narrow = n <= FEW_VECTORS(m) * VL, far = k * ldb * (ptrdiff_t)sizeof(real) > FETCH_B_BYTES;
    const ptrdiff_t in_row = m == 1 && n > (ONE_ROW - 1) * VL ? ONE_ROW : NARROW;
    const ptrdiff_t chunk = narrow ? in_row * VL : STREAM_BYTES / (ptrdiff_t)sizeof(real) / m / VL * VL;
    for (ptrdiff_t i = 0; i < m; i++)
        if (bias) memcpy(c + i * ldc, bias, (size_t)n * sizeof(real));
        else memset(c + i * ldc, 0, (size_t)n * sizeof(real));
    for (ptrdiff_t j = 0; j < n; j += chunk) {
        const ptrdiff_t width = n - j < chunk ? n - j : chunk;
        for (ptrdiff_t p = 0, steps; p < k; p += steps) {
            steps = narrow ? k : k - p >= SLAB ? SLAB : 1;
            for (ptrdiff_t i = 0; i < m; i += 4)
                FN(streams)[column_mode][m - i < 4 ? m - i - 1 : 3](
                    c + i * ldc + j, ldc, a + i * ai + p * ap, sa, b + p * ldb + j, ldb, width, steps, far);
        }
    }
}

#undef TALL
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define TALL 4 /* vectors of rows: sums of 4 columns in 16 of 32 registers */
#else
#define TALL 2 /* in 8 of 16 */
#endif

/* A (VL rows, k <= VL), read by rows that are sa apart, turned: vector p holds column p. */
INLINE void FN(turn_rows)(vec *restrict r, const real *restrict a, ptrdiff_t sa, int rows, int k) {
    if (sa == k && rows == VL && k == 2) { /* whole vectors of them */
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) r[p] = v_load(a + p * VL);
        FN(deinterleave)(r, 2);
        return;
    }
#if FNN_VBYTES * 8 / FNN_REAL_BITS >= 4
    if (sa == k && rows == VL && k == 4) {
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) r[p] = v_load(a + p * VL);
        FN(deinterleave)(r, 4);
        return;
    }
#endif
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) r[i] = i < rows ? v_load_part(a + i * sa, k) : (vec){0};
    FN(transpose)(r);
}

/* C (rows, cols) of tall vectors of rows, the last one of `last` lanes; A[i][p] = a[i + p * sa] if column_mode, else
 * a[i * sa + p], with tall 1; B[p][j] = b[p * bp + j * bj]. */
INLINE void FN(narrow)(const int tall, const int cols, const int column_mode, real *restrict c, ptrdiff_t ldc,
                       const real *restrict a, ptrdiff_t sa, const real *restrict b, ptrdiff_t bp, ptrdiff_t bj,
                       const real *restrict bias, int last, ptrdiff_t k) {
    vec acc[TALL][4];
#pragma GCC unroll 4
    for (int v = 0; v < tall; v++)
#pragma GCC unroll 4
        for (int j = 0; j < cols; j++) acc[v][j] = v_set1(bias ? bias[j] : 0);
    if (column_mode) {
#define STEP(LAST)                                                                                               \
    do {                                                                                                         \
        vec av[TALL];                                                                                            \
        _Pragma("GCC unroll 4") for (int v = 0; v < tall; v++) av[v] = v < tall - 1 ? v_load(a + v * VL) : LAST; \
        _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++) {                                                 \
            const vec bv = v_set1(b[j * bj]);                                                                    \
            _Pragma("GCC unroll 4") for (int v = 0; v < tall; v++) acc[v][j] = v_fma(av[v], bv, acc[v][j]);      \
        }                                                                                                        \
    } while (0)
        if (last == VL)
            for (ptrdiff_t p = 0; p < k; p++, a += sa, b += bp) STEP(v_load(a + (tall - 1) * VL));
        else
            for (ptrdiff_t p = 0; p < k; p++, a += sa, b += bp) STEP(v_load_part(a + (tall - 1) * VL, last));
#undef STEP
    } else {
        for (ptrdiff_t p0 = 0; p0 < k; p0 += VL, a += VL) {
            vec r[VL];
            const int steps = k - p0 < VL ? (int)(k - p0) : VL;
            FN(turn_rows)(r, a, sa, last, steps);
            for (int p = 0; p < steps; p++, b += bp)
#pragma GCC unroll 4
                for (int j = 0; j < cols; j++) acc[0][j] = v_fma(r[p], v_set1(b[j * bj]), acc[0][j]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < tall; v++, c += VL * ldc) {
        FN(interleave)(acc[v], cols);
        if (ldc == cols && (v < tall - 1 || last == VL)) {
#pragma GCC unroll 4
            for (int j = 0; j < cols; j++) v_store(c + j * VL, acc[v][j]);
        } else {
            real rows[4 * VL] = {0}; /* (gcc does not see that all it reads is written) */
#pragma GCC unroll 4
            for (int j = 0; j < cols; j++) v_store(rows + j * VL, acc[v][j]);
            for (int i = 0; i < (v < tall - 1 ? VL : last); i++)
                for (int j = 0; j < cols; j++) c[i * ldc + j] = rows[i * cols + j];
        }
    }
}

#define NARROW_COLUMNS(cols)                                                                                                \
    static void FN(narrow_##cols)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa, int column_mode,   \
                                  const real *restrict b, ptrdiff_t bp, ptrdiff_t bj, const real *restrict bias,            \
                                  ptrdiff_t m, ptrdiff_t k) {                                                               \
        ptrdiff_t i = 0;                                                                                                    \
        if (!column_mode)                                                                                                   \
            for (; i < m; i += VL)                                                                                          \
                FN(narrow)(1, cols, 0, c + i * ldc, ldc, a + i * sa, sa, b, bp, bj, bias, m - i < VL ? (int)(m - i) : VL, k); \
        for (; i + TALL * VL <= m; i += TALL * VL)                                                                          \
            FN(narrow)(TALL, cols, 1, c + i * ldc, ldc, a + i, sa, b, bp, bj, bias, VL, k);                                 \
        for (; i < m; i += VL)                                                                                              \
            FN(narrow)(1, cols, 1, c + i * ldc, ldc, a + i, sa, b, bp, bj, bias, m - i < VL ? (int)(m - i) : VL, k);        \
    }
NARROW_COLUMNS(1) NARROW_COLUMNS(2) NARROW_COLUMNS(4)
#undef NARROW_COLUMNS

/* C (m, n) = A (m, k) @ B (k, n) [+ bias]; A[i][p] = a[i + p * sa] if column_mode, else a[i * sa + p];
 * B[p][j] = b[p * bp + j * bj]. */
static void FN(narrow_block)(void *c_, ptrdiff_t ldc, const void *a_, ptrdiff_t sa, int column_mode, const void *b_,
                             ptrdiff_t bp, ptrdiff_t bj, const void *bias_, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    real *c = c_;
    const real *b = b_, *bias = bias_;
    for (ptrdiff_t j = 0, cols; j < n; j += cols) {
        cols = n - j >= 4 ? 4 : n - j >= 2 ? 2 : 1;
        (cols == 4 ? FN(narrow_4) : cols == 2 ? FN(narrow_2) : FN(narrow_1))(c + j, ldc, a_, sa, column_mode, b + j * bj, bp, bj,
                                                                              bias ? bias + j : NULL, m, k);
    }
}

#undef OUTER_VECTORS
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define OUTER_VECTORS(rows) ((rows) < 4 ? 8 : 6) /* of columns: sums of 3 or 4 rows in 24 of 32 registers */
#else
#define OUTER_VECTORS(rows) ((rows) < 4 ? 4 : 3) /* in 12 of 16 */
#endif
#undef LOW_VECTORS
#undef LOW_ROWS
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define LOW_VECTORS 3 /* of columns at most for LOW_ROWS at a time */
#define LOW_ROWS(nv) ((nv) < 3 ? 8 : 6)
#elif FNN_VBYTES == 32
#define LOW_VECTORS 3
#define LOW_ROWS(nv) ((nv) < 2 ? 8 : (nv) < 3 ? 5 : 4)
#else
#define LOW_VECTORS 0 /* not worth the code */
#define LOW_ROWS(nv) 4
#endif
#undef EDGE_DOTS
#define EDGE_DOTS(columns) ((columns) < 3 ? 8 : 32) /* steps of k from which rows of A are not turned for those left */
#undef OUTER_ROWS
#define OUTER_ROWS 3 /* at a time, but for the last: a fourth, left alone, would have B go past again */
#undef OUTER_BYTES
#define OUTER_BYTES 16384 /* of B that stay in L1 */

/* C (rows, nv vectors, of the last one `last` lanes) = A (rows, k) @ B (k, ...) [+ bias]: wide and low, as most
 * of the time goes into writing C, which then happens in long runs.  (Tiles of gemm.h write 128 bytes of
 * 14 rows: twice as slow at 500 x 128 from 4.) */
INLINE void FN(outer)(const int rows, const int nv, real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t ai,
                      ptrdiff_t ap, const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t k,
                      const int last) {
    vec acc[LOW_ROWS(1)][OUTER_VECTORS(1)];
#define WHOLE(v) ((v) < nv - 1 || (__builtin_constant_p(last) && last == VL)) /* known here: no branches */
#define LOAD(v, at) (WHOLE(v) ? v_load(at) : v_load_part(at, last))
#pragma GCC unroll 8
    for (int v = 0; v < nv; v++) {
        vec s = {0};
        if (bias) s = LOAD(v, bias + v * VL);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) acc[i][v] = s;
    }
    for (ptrdiff_t p = 0; p < k; p++, a += ap, b += ldb) {
        vec av[LOW_ROWS(1)];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) av[i] = v_set1(a[i * ai]);
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) {
            const vec bv = LOAD(v, b + v * VL);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) acc[i][v] = v_fma(av[i], bv, acc[i][v]);
        }
    }
#undef LOAD
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++)
            if (WHOLE(v)) v_store(c + i * ldc + v * VL, acc[i][v]);
            else v_store_part(c + i * ldc + v * VL, acc[i][v], last);
#undef WHOLE
}

/* A few rows of C, n columns. */
#define OUTER(rows)                                                                                                           \
    static void FN(outer_##rows)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t ai, ptrdiff_t ap,         \
                                 const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t n,               \
                                 ptrdiff_t k) {                                                                               \
        ptrdiff_t j = 0;                                                                                                      \
        for (; j + OUTER_VECTORS(rows) * VL <= n; j += OUTER_VECTORS(rows) * VL)                                              \
            FN(outer)(rows, OUTER_VECTORS(rows), c + j, ldc, a, ai, ap, b + j, ldb, bias ? bias + j : NULL, k, VL);           \
        for (; j + 2 * VL <= n; j += 2 * VL)                                                                                  \
            FN(outer)(rows, 2, c + j, ldc, a, ai, ap, b + j, ldb, bias ? bias + j : NULL, k, VL);                             \
        for (; j < n; j += VL)                                                                                                \
            FN(outer)(rows, 1, c + j, ldc, a, ai, ap, b + j, ldb, bias ? bias + j : NULL, k, (int)(n - j < VL ? n - j : VL)); \
    }
OUTER(1) OUTER(2) OUTER(3) OUTER(4)
#undef OUTER
typedef void FN(outer_fn)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t ai, ptrdiff_t ap,
                          const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t n, ptrdiff_t k);
static FN(outer_fn) *const FN(outers)[4] = {FN(outer_1), FN(outer_2), FN(outer_3), FN(outer_4)}; /* [rows - 1] */

/* All rows of C, of nv vectors of columns: as many at a time as registers hold.  (Tiles of gemm.h leave lanes empty:
 * half as fast at 2048 x 10 from 4, two thirds at 2048 x 33 from 10.)  Of 33 columns the last is made on its own: as a
 * third vector it would take half as long as the other two. */
#if LOW_VECTORS
#define OUTER_LOW(nv)                                                                                                   \
    static void FN(outer_low_##nv)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t ai, ptrdiff_t ap, \
                                   const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t m,       \
                                   ptrdiff_t n, ptrdiff_t k) {                                                          \
        const int last = (int)(n - (nv - 1) * VL);                                                                      \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + LOW_ROWS(nv) <= m; i += LOW_ROWS(nv))                                                                \
            FN(outer)(LOW_ROWS(nv), nv, c + i * ldc, ldc, a + i * ai, ai, ap, b, ldb, bias, k, last);                   \
        for (; i < m; i++) FN(outer)(1, nv, c + i * ldc, ldc, a + i * ai, ai, ap, b, ldb, bias, k, last);               \
    }
OUTER_LOW(1) OUTER_LOW(2) OUTER_LOW(3)
#undef OUTER_LOW
typedef void FN(outer_low_fn)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t ai, ptrdiff_t ap,
                              const real *restrict b, ptrdiff_t ldb, const real *restrict bias, ptrdiff_t m, ptrdiff_t n,
                              ptrdiff_t k);
static FN(outer_low_fn) *const FN(outers_low)[LOW_VECTORS] = {FN(outer_low_1), FN(outer_low_2), FN(outer_low_3)}; /* [nv - 1] */
#endif

/* C (m, n) = A (m, k) @ B (k, n) [+ bias]; A[i][p] = a[i + p * sa] if column_mode, else a[i * sa + p]. */
static void FN(outer_block)(void *c_, ptrdiff_t ldc, const void *a_, ptrdiff_t sa, int column_mode, const void *b_,
                            ptrdiff_t ldb, const void *bias_, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    real *c = c_;
    const real *a = a_, *b = b_, *bias = bias_;
    const ptrdiff_t ai = column_mode ? 1 : sa, ap = column_mode ? sa : 1;
#if LOW_VECTORS
    if (n <= LOW_VECTORS * VL) {
        const ptrdiff_t edge = n > 2 * VL && n - 2 * VL <= EDGE && k >= 4 ? n - 2 * VL : 0, at_edge = n - edge;
        FN(outers_low)[(at_edge - 1) / VL](c, ldc, a, ai, ap, b, ldb, bias, m, at_edge, k);
        if (edge && !column_mode && k >= EDGE_DOTS(edge))
            FN(edge_rows)(c + at_edge, ldc, a, sa, b + at_edge, ldb, bias ? bias + at_edge : NULL, m, edge, k,
                          bias ? FNN_FROM_BIAS : FNN_FROM_ZERO);
        else if (edge)
            FN(narrow_block)(c + at_edge, ldc, a, sa, column_mode, b + at_edge, ldb, 1, bias ? bias + at_edge : NULL, m, edge, k);
        return;
    }
#endif
    const ptrdiff_t whole = 3 * OUTER_VECTORS(1) * VL; /* a multiple of OUTER_VECTORS(4), too */
    const ptrdiff_t fit = OUTER_BYTES / (ptrdiff_t)sizeof(real) / (k ? k : 1) / whole * whole;
    const ptrdiff_t chunk = fit ? fit : whole;
    for (ptrdiff_t j = 0; j < n; j += chunk) {
        const ptrdiff_t width = n - j < chunk ? n - j : chunk;
        for (ptrdiff_t i = 0, rows; i < m; i += rows) {
            rows = m - i <= 4 ? m - i : OUTER_ROWS;
            FN(outers)[rows - 1](c + i * ldc + j, ldc, a + i * ai, ai, ap, b + j, ldb, bias ? bias + j : NULL, width, k);
        }
    }
}
