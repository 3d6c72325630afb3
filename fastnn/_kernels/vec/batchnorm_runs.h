/* Batch normalisation of x (rows, channels, inner), each channel a run of `inner` contiguous elements: images
 * (N, C, H, W) are (N, C, H W).  The formulas, the accuracy and what may alias what stand in batchnorm.h; the
 * vectors lie along a run here, the last one masked; most activations go the way of batchnorm_long.h.  `ld`: from one row to the next, in elements.
 * Split over threads by channels, or by blocks of rows whose statistics are merged in order.
 */
#define RUN 1024 /* elements whose sums are taken in the type of x: of several rows where runs are short */
#define LONG 4096 /* and of one run at most */
#define START 64  /* elements whose mean is the first origin */
#define SUMS 4    /* vectors side by side: independent sums hide the adder's latency */

/* The vectors of `rows` runs; v: which of the SUMS, at: of its first element in the run.  `lead`: elements up to
 * an aligned one, where the result of an element does not depend on its place in a vector. */
#define EACH_VECTOR(lead, body)                                           \
    for (ptrdiff_t i = 0; i < rows; i++) {                                \
        ptrdiff_t at = 0;                                                 \
        if ((lead) > 0) {                                                 \
            const int whole = 0, n = (lead), v = 0;                       \
            (void)v;                                                      \
            body                                                          \
            at += n;                                                      \
        }                                                                 \
        while (at + SUMS * VL <= inner)                                   \
            _Pragma("GCC unroll 4") for (int v = 0; v < SUMS; v++) {      \
                const int whole = 1, n = VL;                              \
                (void)v;                                                  \
                body                                                      \
                at += VL;                                                 \
            }                                                             \
        _Pragma("GCC unroll 4") for (int v = 0; v < SUMS - 1; v++)        \
            if (at + VL <= inner) {                                       \
                const int whole = 1, n = VL;                              \
                (void)v;                                                  \
                body                                                      \
                at += VL;                                                 \
            }                                                             \
        if (at < inner) {                                                 \
            const int whole = 0, n = (int)(inner - at), v = SUMS - 1;     \
            (void)v;                                                      \
            body                                                          \
        }                                                                 \
    }
#define GET(p, ld) (whole ? v_load((p) + i * (ld) + at) : v_load_part((p) + i * (ld) + at, n))
#define ONLY(a) (whole ? (a) : v_sel(v_first(n), a, (vec){0})) /* lanes past the run are no elements */
#define TOTAL(s) ((double)v_sum((s[0] + s[1]) + (s[2] + s[3])))

/* The mean of some runs, rounded on the way. */
INLINE real FN(mean_of_runs)(const real *restrict x, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t inner) {
    const vec first = v_set1(*x);
    vec sum[SUMS] = {{0}};
    EACH_VECTOR(0, sum[v] += ONLY(GET(x, ld) - first);)
    return *x + (real)(TOTAL(sum) / (double)(rows * inner));
}

/* Merge `rows` runs of one channel into its mean and M2, of which `before` elements are in already: around the
 * mean of these, or around that of START elements where there are none yet (see batchnorm.h). */
INLINE void FN(merge_runs)(double *mean, double *m2, const real *restrict x, ptrdiff_t ld, ptrdiff_t rows,
                           ptrdiff_t inner, double before) {
    real centre = (real)*mean;
    if (before == 0) {
        const ptrdiff_t few = inner < START ? START / inner : 1;
        centre = FN(mean_of_runs)(x, ld, rows < few ? rows : few, inner < START ? inner : START);
    }
    const vec origin = v_set1(centre);
    vec sum[SUMS] = {{0}}, square[SUMS] = {{0}};
    EACH_VECTOR(0, const vec d = ONLY(GET(x, ld) - origin); sum[v] += d; square[v] = v_fma(d, d, square[v]);)
    const double count = (double)(rows * inner), share = count / (before + count);
    const double total = TOTAL(sum), offset = total / count, inside = TOTAL(square) - total * offset;
    const double delta = centre - *mean + offset;
    *mean += delta * share;
    *m2 += (inside < 0 ? 0 : inside) + delta * delta * before * share;
}

/* Rows that are summed together, so that what a sum costs at its end is shared by RUN elements. */
INLINE ptrdiff_t FN(rows_together)(ptrdiff_t inner) { return inner >= RUN ? 1 : RUN / inner; }

static void FN(batchnorm_run_statistics)(double *mean, double *m2, const void *x_, ptrdiff_t ld, ptrdiff_t rows,
                                         ptrdiff_t channels, ptrdiff_t inner) {
    const ptrdiff_t together = FN(rows_together)(inner);
    for (ptrdiff_t c = 0; c < channels; c++) mean[c] = m2[c] = 0;
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += together) {
        const ptrdiff_t n = rows - i0 < together ? rows - i0 : together;
        for (ptrdiff_t c = 0; c < channels; c++) {
            const real *x = (const real *)x_ + i0 * ld + c * inner;
            for (ptrdiff_t k = 0; k < inner; k += LONG)
                FN(merge_runs)(mean + c, m2 + c, x + k, ld, n, inner - k < LONG ? inner - k : LONG,
                               (double)(i0 * inner + k));
        }
    }
    for (ptrdiff_t c = 0; c < channels; c++)
        if (!__builtin_isfinite(m2[c]))
            FN(moments_in_double)(mean + c, m2 + c, (const real *)x_ + c * inner, ld, rows, inner);
}

#define X(name, saves)                                                                               \
    static void FN(batchnorm_run_apply_##name)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, \
                                               const void *mean_, const void *scale_, const void *shift_, \
                                               ptrdiff_t all_rows, ptrdiff_t channels, ptrdiff_t inner, \
                                               const double *params) {                               \
        const real *mean = mean_, *scale = scale_, *shift = shift_;                                  \
        const act_params p = FN(spread)(params);                                                     \
        const ptrdiff_t rows = 1;                                                                    \
        for (ptrdiff_t row = 0; row < all_rows; row++)                                               \
            for (ptrdiff_t c = 0; c < channels; c++) {                                               \
                real *y = (real *)y_ + row * ldy + c * inner;                                        \
                const real *x = (const real *)x_ + row * ldx + c * inner;                            \
                const vec m = v_set1(mean[c]), a = v_set1(scale[c]), b = v_set1(shift[c]);           \
                const int lead = inner < 8 * VL ? 0 : FN(lead_of)(y, inner);                         \
                EACH_VECTOR(lead, const vec z = v_fma(GET(x, 0) - m, a, b);                          \
                            PUT(y, FN(name)(z, p));)                                                 \
            }                                                                                        \
    }                                                                                                \
    static void FN(batchnorm_run_backward_sums_##name)(                                              \
        double *sum_g, double *sum_gx, double *sum_xc, const void *dy_, ptrdiff_t lddy, const void *x_, ptrdiff_t ldx, \
        const void *saved_, ptrdiff_t lds, const void *mean_, const void *scale_, const void *shift_, \
        ptrdiff_t all_rows, ptrdiff_t channels, ptrdiff_t run, const double *params) {               \
        const real *mean = mean_;                                                                    \
        (void)scale_, (void)shift_;                                                                  \
        const act_params p = FN(spread)(params);                                                     \
        const ptrdiff_t together = FN(rows_together)(run);                                           \
        for (ptrdiff_t c = 0; c < channels; c++) sum_g[c] = sum_gx[c] = sum_xc[c] = 0;               \
        for (ptrdiff_t i0 = 0; i0 < all_rows; i0 += together)                                        \
            for (ptrdiff_t c = 0; c < channels; c++) {                                               \
                const ptrdiff_t rows = all_rows - i0 < together ? all_rows - i0 : together;          \
                const vec m = v_set1(mean[c]);                                                       \
                for (ptrdiff_t k0 = 0; k0 < run; k0 += LONG) {                                       \
                    const ptrdiff_t inner = run - k0 < LONG ? run - k0 : LONG;                       \
                    const real *dy = (const real *)dy_ + i0 * lddy + c * run + k0;                   \
                    const real *x = (const real *)x_ + i0 * ldx + c * run + k0;                      \
                    const real *s = (const real *)saved_ + i0 * lds + c * run + k0;                  \
                    vec total[SUMS] = {{0}}, total_x[SUMS] = {{0}}, total_c[SUMS] = {{0}};           \
                    (void)s;                                                                         \
                    EACH_VECTOR(0, const vec xc = ONLY(GET(x, ldx) - m);                             \
                                const vec g = ONLY(FN(name##_grad)(GET(dy, lddy), GET(s, lds), p));  \
                                total[v] += g; total_x[v] = v_fma(g, xc, total_x[v]); total_c[v] += xc;) \
                    sum_g[c] += TOTAL(total);                                                        \
                    sum_gx[c] += TOTAL(total_x);                                                     \
                    sum_xc[c] += TOTAL(total_c);                                                     \
                }                                                                                    \
            }                                                                                        \
    }                                                                                                \
    static void FN(batchnorm_run_backward_apply_##name)(                                             \
        void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const void *x_, ptrdiff_t ldx,   \
        const void *saved_, ptrdiff_t lds, const void *mean_, const void *scale_, const void *shift_, \
        const void *c_g_, const void *c_x_, const void *c_1_, ptrdiff_t all_rows, ptrdiff_t channels, \
        ptrdiff_t inner, const double *params) {                                                     \
        const real *mean = mean_, *c_g = c_g_, *c_x = c_x_, *c_1 = c_1_;                             \
        (void)scale_, (void)shift_;                                                                  \
        const act_params p = FN(spread)(params);                                                     \
        const ptrdiff_t rows = 1;                                                                    \
        for (ptrdiff_t row = 0; row < all_rows; row++)                                               \
            for (ptrdiff_t c = 0; c < channels; c++) {                                               \
                real *dx = (real *)dx_ + row * lddx + c * inner;                                     \
                const real *dy = (const real *)dy_ + row * lddy + c * inner;                         \
                const real *x = (const real *)x_ + row * ldx + c * inner;                            \
                const real *s = (const real *)saved_ + row * lds + c * inner;                        \
                const vec m = v_set1(mean[c]);                                                       \
                const vec by_g = v_set1(c_g[c]), by_x = v_set1(c_x[c]), by_1 = v_set1(c_1[c]);       \
                const int lead = inner < 8 * VL ? 0 : FN(lead_of)(dx, inner);                        \
                const vmask none = v_first(c_x[c] == 0 ? VL : 0);                                    \
                (void)s;                                                                             \
                EACH_VECTOR(lead, const vec xc = v_sel(none, by_x, GET(x, 0) - m);                   \
                            const vec g = FN(name##_grad)(GET(dy, 0), GET(s, 0), p);                 \
                            PUT(dx, v_fma(g, by_g, v_fma(xc, by_x, by_1)));)                         \
            }                                                                                        \
    }
#define PUT(p, value) (whole ? v_store((p) + at, value) : v_store_last((p) + at, value, n))
FNN_SHORT_RUN_LIST(X)
#undef X
#undef PUT
#undef EACH_VECTOR
#undef GET
#undef ONLY
#undef TOTAL
#undef RUN
#undef LONG
#undef SUMS
#undef START
