/* Matrix product on register tiles: C (m, n) = A (m, k) @ B (k, n) [+ bias | + C].
 *
 * A tile holds MR rows and NV vectors of columns of C in registers.  Per step of k it loads NV
 * vectors of B and broadcasts MR scalars of A.  A is read in place, by strides:
 *   row mode: A[i][k] = a[i * sa + k]     (x @ w: x as it lies; also dy @ w.T)
 *   column mode: A[i][k] = a[i + k * sa]  (x.T @ dy: x as it lies; or an A packed by pack_a)
 * so that no use of a dense layer transposes A.  B is read as rows of vectors, `sb` apart:
 * either in place (row-major B, full panels only) or from panels written by pack_b.
 * In column mode every second row's scalars are read by the multiply-adds themselves (v_fma_from):
 * 39 instructions and 23 loads for 28 multiply-adds instead of 46 and 16, both below what a core can
 * issue in 14 cycles, so that one whose sibling thread is busy still has room: 4 to 6% there, nothing
 * alone.  (All rows: 30 loads do not fit, and 8% are lost.)
 * The edge of C in n is a masked store, or, where it is a column or a few, computed with the lanes laid
 * otherwise (below); the edge in m is a tile with fewer rows (every height has a kernel of its own, so no
 * lane computes what nobody needs).
 *
 * Alignment: none needed.  Aliasing: C must not overlap A, B or bias.
 * Order of summation: k ascending, one accumulator per element (a few in those columns): the same bits
 * whatever the split of m and n, hence for any number of threads.
 * Method: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
 */
#undef MR
#undef NV
#if FNN_VBYTES == 64
#define MR 14 /* 28 accumulators + 2 of B + 1 broadcast of 32 registers */
#define NV 2
#elif defined(__aarch64__)
#define MR 12 /* 24 + 2 + 1 of 32 */
#define NV 2
#else
#define MR 6 /* 12 + 2 + 1 of 16 */
#define NV 2
#endif
#define NR (NV * VL)
/* What gemm.pyx asks of a variant, chosen by `fastnn bench --gemm`: 512 KiB of B on a Cascade Lake (AVX-512, 1 MiB of
 * L2), 256 KiB on a Zen 3 (AVX2, 512 KiB).  Tiles of six rows share a B that is left in place among few, and a packed
 * A of them is written in short pieces: there, packing B pays sooner (33x33x2048), and so does turning round a
 * product of up to 128 columns (dw 2048x500x33). */
#undef BLOCK_BYTES
#undef FLIPPED_COLUMNS
#undef SHARED_ROWS
#undef FAR_B_IN_PLACE
#if FNN_VBYTES == 64
#define BLOCK_BYTES 1024
#define FAR_B_IN_PLACE 1 /* 2% of x @ w, 3% of x.T @ dy at 1000 x 500 from 500 */
#else
#define BLOCK_BYTES 512
#define FAR_B_IN_PLACE 0 /* of panels half as wide in tiles half as high, each row would be multiplied no longer than
                          * its page is looked up: 4 to 28% lost with AVX2 */
#endif
#if FNN_VBYTES == 64 || defined(__aarch64__)
#define FLIPPED_COLUMNS 16
#define SHARED_ROWS 96
#else
#define FLIPPED_COLUMNS 128
#define SHARED_ROWS (MR + 1)
#endif
#undef ALIKE_MR
#define ALIKE_MR (MR > 8 ? MR / 2 : MR) /* where rows of A, read in place, share a set of L1, which holds 8 lines: more of
                                         * them drive each other out at every step, 1.25 to 1.5 times as slow */
#undef SWEEP_A
#undef SWEEP_B
#define SWEEP_A 16 /* rows that are packed side by side: */
#define SWEEP_B 8  /* enough to fill a run of lines in each tile, or panel, few enough for the prefetchers */
#undef WHOLE_A
#define WHOLE_A ((MR + VL - 1) / VL * VL) /* rows of a tile in whole vectors */
#undef FETCHED_STEPS
#define FETCHED_STEPS 128
#undef AHEAD
#define AHEAD 8 /* bytes that a step fetches ahead: a tile of 14 floats is fetched in 7 panels, of 4 the half of it;
                 * 16 gained nothing there */

INLINE void FN(tile)(const int mr, const int nv, const int column_mode, real *restrict c, ptrdiff_t ldc,
                     const real *restrict a, ptrdiff_t sa, const real *restrict b, ptrdiff_t sb,
                     const real *restrict bias, ptrdiff_t k, int width, int start, const char *next, ptrdiff_t next_step) {
    vec acc[MR][NV];
    const int last = width - (nv - 1) * VL; /* lanes used of the last vector */
    /* The lines of C are wanted k steps from now: 2% where they lie beyond L2, and of rows that are no whole
     * lines 4% more for the line that a row ends in: stores across two lines wait for both.  (After few steps
     * the fetches would stand in the way of the stores.) */
    if (k >= FETCHED_STEPS)
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < nv * VL; j += LINE) __builtin_prefetch(c + i * ldc + j, 1, 2);
            __builtin_prefetch(c + i * ldc + nv * VL - 1, 1, 2);
        }
    if (start == FNN_FROM_C) {
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++)
                acc[i][v] = v < nv - 1 || last == VL ? v_load(c + i * ldc + v * VL)
                                                     : v_load_part(c + i * ldc + v * VL, last);
    } else {
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) {
            vec s = {0};
            if (start == FNN_FROM_BIAS)
                s = v < nv - 1 || last == VL ? v_load(bias + v * VL) : v_load_part(bias + v * VL, last);
#pragma GCC unroll 16
            for (int i = 0; i < mr; i++) acc[i][v] = s;
        }
    }
    if (column_mode) {
#pragma GCC unroll 2
        for (ptrdiff_t p = 0; p < k; p++) {
            vec bv[NV];
            __builtin_prefetch(next, 0, 2); /* one more load is cheaper than another loop without it */
            next += next_step;
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) bv[v] = v_load(b + v * VL);
#pragma GCC unroll 16
            for (int i = 0; i < mr; i++)
                if (i % 2) { /* see the comment above: fewer instructions, more loads */
#pragma GCC unroll 4
                    for (int v = 0; v < nv; v++) acc[i][v] = v_fma_from(a + i, bv[v], acc[i][v]);
                } else {
                    const vec av = v_set1(a[i]);
#pragma GCC unroll 4
                    for (int v = 0; v < nv; v++) acc[i][v] = v_fma(av, bv[v], acc[i][v]);
                }
            a += sa;
            b += sb;
        }
    } else {
        /* rows in threes: row 3j + r is pj[r * sa], which x86 addresses without further registers */
        const real *p0 = a, *p3 = a + 3 * sa, *p6 = a + 6 * sa, *p9 = a + 9 * sa, *p12 = a + 12 * sa;
#define STEP(fetch)                                                                    \
    do {                                                                              \
        vec bv[NV];                                                                   \
        _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) bv[v] = v_load(b + v * VL); \
        if (fetch)                                                                    \
            _Pragma("GCC unroll 2") for (int j = 0; j < nv * VL; j += LINE) __builtin_prefetch(b + 8 * sb + j, 0, 3); \
        _Pragma("GCC unroll 16") for (int i = 0; i < mr; i++) {                       \
            const real *row = i < 3 ? p0 : i < 6 ? p3 : i < 9 ? p6 : i < 12 ? p9 : p12; \
            const vec av = v_set1(row[(i % 3) * sa + p]);                             \
            _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[i][v] = v_fma(av, bv[v], acc[i][v]); \
        }                                                                             \
        b += sb;                                                                      \
    } while (0)
        if (next) { /* what the next tile reads goes to L2 meanwhile: 4% where A lies beyond it, */
#pragma GCC unroll 4
            for (ptrdiff_t p = 0; p < k; p++) {
                __builtin_prefetch(next, 0, 2);
                next += next_step;
                STEP(0);
            }
        } else if (sb > NR) { /* B in place, whose rows are apart, is fetched a little ahead: 7% */
#pragma GCC unroll 2
            for (ptrdiff_t p = 0; p < k; p++) STEP(1);
        } else { /* (each of them costs 3% where it is not wanted) */
#pragma GCC unroll 4
            for (ptrdiff_t p = 0; p < k; p++) STEP(0);
        }
#undef STEP
    }
    if (last == VL) {
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) v_store(c + i * ldc + v * VL, acc[i][v]);
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
            for (int v = 0; v < nv - 1; v++) v_store(c + i * ldc + v * VL, acc[i][v]);
            v_store_last(c + i * ldc + (nv - 1) * VL, acc[i][nv - 1], last);
        }
    }
}

typedef void FN(tile_fn)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa,
                         const real *restrict b, ptrdiff_t sb, const real *restrict bias, ptrdiff_t k,
                         int width, int start, const char *next, ptrdiff_t next_step);
#define TILE(mr, nv, mode)                                                                          \
    static void FN(tile_##mr##_##nv##_##mode)(                                                      \
        real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa,                      \
        const real *restrict b, ptrdiff_t sb, const real *restrict bias, ptrdiff_t k, int width,    \
        int start, const char *next, ptrdiff_t next_step) {                                         \
        FN(tile)(mr, nv, mode, c, ldc, a, sa, b, sb, bias, k, width, start, next, next_step);       \
    }
#define TILES(mr) TILE(mr, 1, 0) TILE(mr, 2, 0) TILE(mr, 1, 1) TILE(mr, 2, 1)
#define ROW(mr) {{FN(tile_##mr##_1_0), FN(tile_##mr##_2_0)}, {FN(tile_##mr##_1_1), FN(tile_##mr##_2_1)}}
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#if FNN_VBYTES == 64 || defined(__aarch64__)
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12)
#if FNN_VBYTES == 64
TILES(13) TILES(14)
#endif
#endif
static FN(tile_fn) *const FN(tiles)[MR][2][2] = { /* [rows - 1][column mode][vectors - 1] */
    ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6),
#if FNN_VBYTES == 64 || defined(__aarch64__)
    ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12),
#if FNN_VBYTES == 64
    ROW(13), ROW(14),
#endif
#endif
};
#undef TILE
#undef TILES
#undef ROW

/* Packs B (k, n), or the transposed b (n, k) if `transposed`, into panels of NR columns: row p of
 * panel j, NR elements, begins at panels + j * panel_stride + p * NR; of the columns past n, a number is in
 * those that share a vector with one that is there.
 * b is read along its rows, a few of them at a time: the caches' prefetchers follow rows, and what is
 * written to a panel fills whole lines.  (Panel by panel, read down the columns, a matrix in L3 took
 * twice as long.) */
static void FN(pack_b)(void *panels_, ptrdiff_t panel_stride, const void *b_, ptrdiff_t ld, int transposed,
                       ptrdiff_t k, ptrdiff_t n) {
    real *restrict panels = panels_;
    const real *restrict b = b_;
    if (!transposed) {
        for (ptrdiff_t p0 = 0; p0 < k; p0 += SWEEP_B) {
            const ptrdiff_t end = k - p0 < SWEEP_B ? k : p0 + SWEEP_B;
            real *restrict to = panels + p0 * NR;
            for (ptrdiff_t j = 0; j < n; j += NR, to += panel_stride) {
                const real *from = b + p0 * ld + j;
                int left[NV]; /* lanes of each vector that there are */
                for (int v = 0; v < NV; v++) left[v] = n - j - v * VL >= VL ? VL : n - j - v * VL > 0 ? (int)(n - j - v * VL) : 0;
                if (left[NV - 1] == VL)
                    for (ptrdiff_t p = 0; p < end - p0; p++) {
#pragma GCC unroll 4
                        for (int v = 0; v < NR; v += LINE) { /* of the next sweep: a quarter where both lie in memory */
                            __builtin_prefetch(from + (p + SWEEP_B) * ld + v, 0, 2);
                            __builtin_prefetch(to + (p + SWEEP_B) * NR + v, 1, 2);
                        }
#pragma GCC unroll 4
                        for (int v = 0; v < NV; v++) v_store(to + p * NR + v * VL, v_load(from + p * ld + v * VL));
                    }
                else
                    for (ptrdiff_t p = 0; p < end - p0; p++)
#pragma GCC unroll 4
                        for (int v = 0; v < NV; v++)
                            v_store(to + p * NR + v * VL, left[v] ? v_load_part(from + p * ld + v * VL, left[v]) : (vec){0});
            }
        }
        return;
    }
    for (ptrdiff_t j = 0; j < n; j += NR, panels += panel_stride)
        for (int v = 0; v < NV; v++) {
            const ptrdiff_t j0 = j + v * VL;
            const int cols = n - j0 >= VL ? VL : n - j0 > 0 ? (int)(n - j0) : 0;
            real *out = panels + v * VL;
            if (cols == 1) /* an edge of one */
                for (ptrdiff_t p = 0; p < k; p++) v_store(out + p * NR, v_load_part(b + j0 * ld + p, 1));
            if (cols <= 1) continue;
            for (ptrdiff_t p = 0; p < k; p += VL) {
                const int depth = k - p >= VL ? VL : (int)(k - p);
                const real *from = b + j0 * ld + p;
                if (cols == VL && depth == VL) {
#pragma GCC unroll 16
                    for (int i = 0; i < VL; i++) { /* of the next panel: 1 to 3% of dx */
                        __builtin_prefetch(from + (NR + i) * ld, 0, 2);
                        __builtin_prefetch(out + panel_stride + (p + i) * NR, 1, 2);
                    }
                    FN(transpose_block)(out + p * NR, NR, from, ld, VL, VL, VL);
                } else {
                    FN(transpose_block)(out + p * NR, NR, from, ld, cols, depth, VL);
                }
            }
        }
}

/* How the rows of a block are cut into tiles: evenly, so that no tile is left with a row or two; the first
 * `longer` of them have a row more than `rows`.  (Divided once: a tile of few steps takes no longer than that.) */
typedef struct {
    ptrdiff_t count, rows, longer;
} FN(fnn_cut);
INLINE FN(fnn_cut) FN(cut_rows)(ptrdiff_t m, const ptrdiff_t most) {
    const ptrdiff_t count = (m + most - 1) / most;
    return (FN(fnn_cut)){count, count ? m / count : 0, count ? m % count : 0};
}

/* Packs A (m, k), read by columns from a (k, m) with rows ld apart, into tiles of MR rows, cut as
 * gemm_block cuts them: step p of tile t begins at tiles + t * tile_stride + p * MR.  a is read along its
 * rows, as in pack_b.  The memory wants VL elements more than the tiles take.
 * All steps but the last are copied in whole vectors: what is too much of them, the next step covers. */
static void FN(pack_a)(void *tiles_, ptrdiff_t tile_stride, const void *a_, ptrdiff_t ld, ptrdiff_t m, ptrdiff_t k) {
    real *restrict tiles = tiles_;
    const real *restrict a = a_;
    const FN(fnn_cut) cut = FN(cut_rows)(m, MR);
    const ptrdiff_t whole = ld >= WHOLE_A ? k - 1 : 0; /* what ends past a row ends within the next one */
    for (ptrdiff_t p0 = 0; p0 < k; p0 += SWEEP_A) {
        const ptrdiff_t end = k - p0 < SWEEP_A ? k : p0 + SWEEP_A, whole_end = end < whole ? end : whole;
        real *restrict out = tiles;
        for (ptrdiff_t t = 0, i0 = 0, rows; t < cut.count; t++, i0 += rows, out += tile_stride) {
            rows = cut.rows + (t < cut.longer);
            ptrdiff_t p = p0;
            for (; p < whole_end; p++)
#pragma GCC unroll 8
                for (int i = 0; i < WHOLE_A; i += VL) v_store(out + p * MR + i, v_load(a + p * ld + i0 + i));
            for (; p < end; p++)
                for (int i = 0; i < rows; i += VL) {
                    const int n = rows - i >= VL ? VL : (int)(rows - i);
                    v_store_part(out + p * MR + i, v_load_part(a + p * ld + i0 + i, n), n);
                }
        }
    }
}

#undef EDGE_STEPS
#define EDGE_STEPS 32 /* of k at least: else the sums across lanes take as long */
/* Column mode: the rows of a tile, C (m <= MR, n <= EDGE), as rows of C.T = B.T @ A.T. */
static void FN(edge_columns)(real *restrict c, ptrdiff_t ldc, const real *restrict a, ptrdiff_t sa, const real *restrict b,
                             ptrdiff_t sb, const real *restrict bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int start) {
    real sums[(EDGE ? EDGE : 1) * 2 * VL];
    for (ptrdiff_t i0 = 0; i0 < m; i0 += 2 * VL) {
        const ptrdiff_t rows = m - i0 < 2 * VL ? m - i0 : 2 * VL;
        for (int q = 0; q < EDGE * 2 * VL; q++) sums[q] = 0;
        FN(streams)[1][n - 1](sums, 2 * VL, b, sb, a + i0, sa, rows, k, 0);
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < n; j++) {
                real *to = c + (i0 + i) * ldc + j;
                *to = sums[j * 2 * VL + i] + (start == FNN_FROM_C ? *to : start == FNN_FROM_BIAS ? bias[j] : 0);
            }
    }
}

/* What is fetched a line a step beside a tile that is the job-th to have its steps free: the rows of A that will be
 * packed next, those of a tile at a time, then whatever else lies in stretches. */
INLINE const char *FN(fetched_beside)(const fnn_ahead *ahead, ptrdiff_t job, FN(fnn_cut) cut, ptrdiff_t k, ptrdiff_t *step) {
    *step = ahead->stride;
    if (ahead->rows && job < cut.count)
        return ahead->rows + (job * cut.rows + (job < cut.longer ? job : cut.longer)) * (ptrdiff_t)sizeof(real);
    if (ahead->rows) job -= cut.count;
    *step = 64;
    for (int q = 0; q < FNN_STRETCHES; q++) {
        const ptrdiff_t jobs = (ahead->stretches[q].bytes + 64 * k - 1) / (64 * k);
        if (job < jobs) return ahead->stretches[q].at + job * 64 * k;
        job -= jobs;
    }
    return NULL;
}

/* C (m, n) from A (m, k) and B (k, n), all of which the caller has cut to fit the caches: a tile of A
 * stays in L1, or a long one in L2, while the panels of B stream past it from L2; or, by_panels, a panel of B stays
 * while all tiles, which then are what L2 holds, go past it.
 * Tile t of A begins at a + t * tile_stride where A is packed (tile_stride > 0), else in place.
 * Panel j of B begins at b + j * panel_stride; B in place wants whole vectors of columns, but for an edge.
 * `ahead` (or NULL) says what to fetch meanwhile.  Row mode with panels past each tile: its rows, which are whole tiles,
 * some bytes a step; else fetched_beside. */
static void FN(gemm_block)(void *c_, ptrdiff_t ldc, const void *a_, ptrdiff_t sa, int column_mode,
                           ptrdiff_t tile_stride, const void *b_, ptrdiff_t sb, ptrdiff_t panel_stride,
                           const void *bias_, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int start, int by_panels,
                           const fnn_ahead *ahead) {
    real *c = c_;
    const real *a = a_, *b = b_, *bias = start == FNN_FROM_BIAS ? bias_ : NULL;
    const ptrdiff_t most = !column_mode && sa * (ptrdiff_t)sizeof(real) % 4096 == 0 ? ALIKE_MR : MR;
    const FN(fnn_cut) cut = FN(cut_rows)(m, most);
    const ptrdiff_t edge = n % VL <= EDGE && k >= EDGE_STEPS ? n % VL : 0, at_edge = n - edge;
    const real *edge_b = b + at_edge / NR * panel_stride + at_edge % NR;
    const int in_place = by_panels && sb > NR; /* each panel is fetched beside the one before, by its first tiles */
    n = at_edge;
    for (ptrdiff_t t = 0, i = 0, p = 0, job = 0; t < cut.count && p * NR < n;) {
        const ptrdiff_t rows = cut.rows + (t < cut.longer), j = p * NR;
        const real *at = tile_stride ? a + t * tile_stride : column_mode ? a + i : a + i * sa;
        const int width = n - j >= NR ? NR : (int)(n - j);
        const char *next = NULL;
        ptrdiff_t step = 0;
        if (in_place && t < NR / LINE && j + NR < n) /* by the last byte of a line: what it begins in is there by then */
            next = (const char *)(b + (p + 1) * panel_stride) + 64 * t + 63, step = sb * (ptrdiff_t)sizeof(real);
        else if (ahead && (column_mode || by_panels))
            next = FN(fetched_beside)(ahead, job++, cut, k, &step);
        else if (ahead && ahead->rows && (p + 1) * k * AHEAD <= ahead->stride / MR * most)
            next = ahead->rows + t * (ahead->stride / MR * most) + p * k * AHEAD, step = AHEAD;
        if (ahead && ahead->saved)
            for (ptrdiff_t r = 0; r < rows; r++) {
                const char *row = ahead->saved + (i + r) * ahead->saved_row + j * (ptrdiff_t)sizeof(real);
                for (ptrdiff_t q = 0; q < width; q += LINE) __builtin_prefetch(row + q * (ptrdiff_t)sizeof(real), 0, 2);
            }
        if ((column_mode || by_panels) && !next) next = (const char *)at, step = 0;
        FN(tiles)[rows - 1][column_mode][(width + VL - 1) / VL - 1](
            c + i * ldc + j, ldc, at, sa, b + p * panel_stride, sb, bias ? bias + j : NULL, k, width, start, next, step);
        if (by_panels) {
            t++, i += rows;
            if (t == cut.count) t = i = 0, p++;
        } else {
            p++;
            if (p * NR >= n) p = 0, t++, i += rows;
        }
    }
    if (edge > 0 && column_mode)
        for (ptrdiff_t t = 0, i = 0, rows; t < cut.count; t++, i += rows) {
            rows = cut.rows + (t < cut.longer);
            FN(edge_columns)(c + i * ldc + n, ldc, tile_stride ? a + t * tile_stride : a + i, sa, edge_b, sb,
                             bias ? bias + n : NULL, rows, edge, k, start);
        }
    else if (edge > 0)
        FN(edge_rows)(c + n, ldc, a, sa, edge_b, sb, bias ? bias + n : NULL, m, edge, k, start);
}

/* sums (cols) = x.sum(axis=0), x (rows, cols): the gradient of a bias.  Sums of 64 rows are taken in
 * the type of x and added up in double, so that float32 does not lose accuracy with the batch. */
static void FN(column_sums)(void *sums_, const void *x_, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t cols) {
    real *sums = sums_;
    const real *x = x_;
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const int n = cols - j >= VL ? VL : (int)(cols - j);
        double total[VL];
        for (int q = 0; q < VL; q++) total[q] = 0;
        for (ptrdiff_t i = 0; i < rows; i += 64) {
            const ptrdiff_t end = rows - i < 64 ? rows : i + 64;
            vec s = {0};
            for (ptrdiff_t p = i; p < end; p++)
                s += n == VL ? v_load(x + p * ld + j) : v_load_part(x + p * ld + j, n);
            for (int q = 0; q < VL; q++) total[q] += s[q];
        }
        for (int q = 0; q < n; q++) sums[j + q] = (real)total[q];
    }
}

/* out[i] = x[rows_wanted[i]]: the rows of a shuffled mini-batch. */
static void FN(gather_rows)(void *out_, ptrdiff_t ldo, const void *x_, ptrdiff_t ldx, const int64_t *rows_wanted,
                            ptrdiff_t rows, ptrdiff_t cols) {
    real *out = out_;
    const real *x = x_;
    for (ptrdiff_t i = 0; i < rows; i++)
        memcpy(out + i * ldo, x + rows_wanted[i] * ldx, (size_t)cols * sizeof(real));
}
