/* Batch normalisation over the rows of x (rows, cols), one channel a column (Ioffe and Szegedy 2015).
 *   mean = sum(x) / N, var = sum((x - mean)^2) / N, rstd = 1 / sqrt(var + eps)
 *   y = act(z), z = (x - mean) scale + shift,   scale = gamma rstd, shift = beta
 * Backward, with g = dy act'(z) and xh = (x - mean) rstd:
 *   dbeta = sum(g), dgamma = sum(g xh)
 *   training:  dx = gamma rstd (g - dbeta / N - xh dgamma / N)     inference:  dx = gamma rstd g
 * written per channel as dx = c_g g + c_x (x - mean) + c_1, where a c_x of 0 takes nothing from an infinite x.
 * Saved: mean and rstd alone; xh is recomputed.  y may be x, dx may be dy.
 *
 * Accuracy: x - mean is taken before anything is multiplied (never E[x^2] - E[x]^2, never a x + b with
 * a large b).  Statistics are means and M2 of CHUNK rows, merged in row order in double (Chan, Golub and LeVeque
 * 1979).  The mean that is subtracted is the saved one, rounded to the type of x: d short of the exact mean, up to
 * 5e-4 for 1e4 in float32, and backward multiplies that by sum(g).  So forward takes d into `shift`, and backward,
 * which finds it again as sum(x - mean) / N, into the coefficients.
 * Range in float32: forward, as long as x - mean is finite; backward, spreads up to 1e18 (c_x holds rstd^2).
 * The square of a spread below 1e-18 is lost, which shows where eps is not larger.
 * Split over threads by columns, or by blocks of rows whose statistics are merged in order.
 * For channels that are runs of several elements see batchnorm_runs.h, for long activations batchnorm_long.h.
 */
#undef PANEL
#define CHUNK 128                           /* rows whose sums are taken in the type of x */
#define START 8                             /* rows whose mean is the first origin */
#define PANEL ((int)(4096 / sizeof(real))) /* columns whose sums stay in L1 */

/* The pieces of a row that every kernel below goes through: `lead` elements up to where a vector is aligned (a store
 * across two cache lines costs twice as much), whole vectors, then the rest. */
#define EACH_VECTOR(lead, body)                    \
    do {                                           \
        ptrdiff_t j = 0;                           \
        for (int n = (lead);; n = (int)(cols - j)) { \
            if (n) {                               \
                const int whole = 0;               \
                body                               \
            }                                      \
            for (j += n; j + VL <= cols; j += VL) { \
                const int whole = 1;               \
                body                               \
            }                                      \
            if (j == cols) break;                  \
        }                                          \
    } while (0)
#define GET(p) (whole ? v_load((p) + j) : v_load_part((p) + j, n))
#define PUT(p, v) (whole ? v_store((p) + j, v) : v_store_last((p) + j, v, n))

/* Where the arrays are `far`, in no cache of the core's own, the rows that come next are asked for beside each vector:
 * the caches' own prefetching does not follow so many rows side by side. 1000 x 500 float32 that were not in L2 are
 * 1.4 to 1.6 times as fast; those in the caches would take 6 to 11% longer. The empty asm keeps the compiler from
 * knowing that `far` does not change: it would make two loops of each. Tried and lost: asking for 256 bytes of all
 * rows at once, by a call (more code, and slower); single rows (backward of tanh: no faster, 20 kB). */
#define WHERE_FAR(...)                                                   \
    if (whole && rows > 1 && !(__builtin_constant_p(far) && far == 0)) { \
        __asm__ volatile("" : "+r"(far));                                \
        if (__builtin_expect(far, 0)) {                                  \
            __VA_ARGS__                                                  \
        }                                                                \
    }
#define ASK_ROWS(p, ld, write) \
    for (int r = 0; r < rows; r++) __builtin_prefetch((p) + r * (ld) + j, write, 2);

/* Elements from p to the next aligned one, `cols` at most. */
INLINE int FN(lead_of)(const real *p, ptrdiff_t cols) {
    const int past = (int)((uintptr_t)p % FNN_VBYTES / sizeof(real)), lead = past ? VL - past : 0;
    return lead < cols ? lead : (int)cols;
}
/* Every how many rows one lies as the first does to the vectors' alignment: 1, 2, 4, ... up to VL. */
INLINE ptrdiff_t FN(alike)(ptrdiff_t ld) {
    ptrdiff_t step = 1;
    while (step * ld % VL) step *= 2;
    return step;
}

/* sum += x - origin and square += (x - origin)^2 over some rows: the sums go to L1 and back once for all of
 * them, and memory is read along the rows, which is how it is fast. */
INLINE void FN(sums_around)(real *restrict sum, real *restrict square, const real *restrict origin,
                            const real *restrict x, ptrdiff_t ld, const int rows, ptrdiff_t cols, int far) {
    EACH_VECTOR(0, WHERE_FAR(ASK_ROWS(x + rows * ld, ld, 0))
                const vec o = v_load(origin + j); vec s = v_load(sum + j); vec q = v_load(square + j);
                for (int r = 0; r < rows; r++) {
                    const vec d = GET(x + r * ld) - o;
                    s += d;
                    q = v_fma(d, d, q);
                } v_store(sum + j, s);
                v_store(square + j, q););
}

/* Mean and M2 of one channel, `rows` runs of `inner` elements, all in double: for squares that the type of x does not
 * hold, which is rare, and may be slow. */
static __attribute__((noinline, cold)) void FN(moments_in_double)(double *mean, double *m2, const real *x, ptrdiff_t ld,
                                                                  ptrdiff_t rows, ptrdiff_t inner) {
    double sum = 0, square = 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t k = 0; k < inner; k++) sum += x[i * ld + k];
    const double centre = sum / (double)(rows * inner);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t k = 0; k < inner; k++) {
            const double d = x[i * ld + k] - centre;
            square += d * d;
        }
    *mean = centre, *m2 = square;
}

/* Whether some are infinite or no numbers; without a branch, so that the compiler makes vectors of it. */
INLINE int FN(some_not_finite)(const double *m2, ptrdiff_t n) {
    int found = 0;
    for (ptrdiff_t j = 0; j < n; j++) found |= !__builtin_isfinite(m2[j]);
    return found;
}

/* mean and M2 = sum((x - mean)^2) of each column, in one pass over x: every chunk is summed around an origin,
 * the mean of the rows before it.  M2 = square - sum^2 / n cancels what lies between that origin and the mean of
 * the chunk, but this is no more than twice what the merge then adds to M2 for the same distance.  The first
 * chunk has the mean of its first START rows, which stand apart from the rest by as much: there the loss is
 * CHUNK / START at the very most, and for rows in no particular order nothing. */
static void FN(batchnorm_statistics)(double *restrict mean, double *restrict m2, const void *x_, ptrdiff_t ld,
                                     ptrdiff_t rows, ptrdiff_t all_cols, int far) {
    real origin[PANEL], sum[PANEL], square[PANEL];
    for (ptrdiff_t j = 0; j < all_cols; j++) mean[j] = m2[j] = 0;
    for (ptrdiff_t j0 = 0; j0 < all_cols && rows; j0 += PANEL, mean += PANEL, m2 += PANEL) {
        const ptrdiff_t cols = all_cols - j0 < PANEL ? all_cols - j0 : PANEL;
        const size_t bytes = (size_t)((cols + VL - 1) / VL) * FNN_VBYTES; /* of the sums that are used */
        const real *restrict x = (const real *)x_ + j0;
        const int first = rows < START ? (int)rows : START;
        EACH_VECTOR(0, const vec o = GET(x); vec s = {0};
                    for (int r = 1; r < first; r++) s += GET(x + r * ld) - o;
                    v_store(origin + j, o + s * (real)(1.0 / first)););
        for (ptrdiff_t i0 = 0; i0 < rows; i0 += CHUNK, x += CHUNK * ld) {
            const int n = rows - i0 < CHUNK ? (int)(rows - i0) : CHUNK;
            if (i0)
                for (ptrdiff_t j = 0; j < cols; j++) origin[j] = (real)mean[j];
            memset(sum, 0, bytes);
            memset(square, 0, bytes);
            int i = 0;
            for (; i + 8 <= n; i += 8) FN(sums_around)(sum, square, origin, x + i * ld, ld, 8, cols, far);
            if (i < n) FN(sums_around)(sum, square, origin, x + i * ld, ld, n - i, cols, far);
            const double each = 1.0 / n, share = (double)n / (double)(i0 + n), weight = (double)i0 * share;
            for (ptrdiff_t j = 0; j < cols; j++) {
                const double total = sum[j], offset = total * each, inside = square[j] - total * offset;
                const double delta = origin[j] - mean[j] + offset;
                mean[j] += delta * share;
                m2[j] += (inside < 0 ? 0 : inside) + delta * delta * weight;
            }
        }
        if (FN(some_not_finite)(m2, cols))
            for (ptrdiff_t j = 0; j < cols; j++)
                if (!__builtin_isfinite(m2[j]))
                    FN(moments_in_double)(mean + j, m2 + j, (const real *)x_ + j0 + j, ld, rows, 1);
    }
}

/* What the statistics give per channel, in double.  Plain loops: the compiler makes vectors of them, where it is
 * told that no array overlaps another (it gives up at so many pairs).
 * shift takes up what rounding the mean to `real` loses: (x - mean_rounded) scale + shift is then
 * the exact z to a rounding, even for a mean of 1e4 and a spread of 1.
 * running = (1 - momentum) running + momentum batch, the variance unbiased; NULL: none. */
static void FN(batchnorm_finalize)(void *mean_, void *rstd_, void *scale_, void *shift_,
                                   const double *restrict exact_mean, const double *restrict m2,
                                   const void *gamma_, const void *beta_, void *running_mean_, void *running_var_,
                                   double rows, double momentum, double eps, ptrdiff_t cols) {
    real *restrict mean = mean_, *restrict rstd = rstd_, *restrict scale = scale_, *restrict shift = shift_;
    real *restrict running_mean = running_mean_, *restrict running_var = running_var_;
    const real *restrict gamma = gamma_, *restrict beta = beta_;
    const double each = 1 / rows;
#pragma GCC ivdep
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = 1 / __builtin_sqrt(m2[j] * each + eps), a = gamma[j] * r;
        mean[j] = (real)exact_mean[j];
        rstd[j] = (real)r;
        scale[j] = (real)a;
        shift[j] = (real)(beta[j] - (exact_mean[j] - (double)(real)exact_mean[j]) * a);
    }
    if (running_mean)
#pragma GCC ivdep
        for (ptrdiff_t j = 0; j < cols; j++) {
            running_mean[j] = (real)((1 - momentum) * running_mean[j] + momentum * exact_mean[j]);
            running_var[j] = (real)((1 - momentum) * running_var[j] + momentum * m2[j] / (rows - 1));
        }
}

/* The same from running statistics: inference. */
static void FN(batchnorm_frozen)(void *mean_, void *rstd_, void *scale_, const void *running_mean_,
                                 const void *running_var_, const void *gamma_, double eps, ptrdiff_t cols) {
    real *restrict mean = mean_, *restrict rstd = rstd_, *restrict scale = scale_;
    const real *restrict running_mean = running_mean_, *restrict running_var = running_var_, *restrict gamma = gamma_;
#pragma GCC ivdep
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = 1 / __builtin_sqrt((double)running_var[j] + eps);
        mean[j] = running_mean[j];
        rstd[j] = (real)r;
        scale[j] = (real)(gamma[j] * r);
    }
}

/* dgamma, dbeta and the coefficients of dx from sum(g), sum(g (x - mean)) and sum(x - mean).  In training the exact
 * mean is mean + d, and `inside` is sum(g (x - mean - d)); given statistics are right as they are. */
static void FN(batchnorm_coefficients)(void *dgamma_, void *dbeta_, void *c_g_, void *c_x_, void *c_1_,
                                       const double *restrict sum_g, const double *restrict sum_gx,
                                       const double *restrict sum_xc, const void *gamma_, const void *rstd_,
                                       double rows, int training, ptrdiff_t cols) {
    real *restrict dgamma = dgamma_, *restrict dbeta = dbeta_;
    real *restrict c_g = c_g_, *restrict c_x = c_x_, *restrict c_1 = c_1_;
    const real *restrict gamma = gamma_, *restrict rstd = rstd_;
    const double share = training ? 1 / rows : 0;
#pragma GCC ivdep
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = rstd[j], a = gamma[j] * r, d = training ? sum_xc[j] * share : 0;
        const double inside = training ? sum_gx[j] - d * sum_g[j] : sum_gx[j]; /* not 0 times a sum that is NaN */
        const double by_x = training ? -a * r * r * inside * share : 0;
        dgamma[j] = (real)(inside * r);
        dbeta[j] = (real)sum_g[j];
        c_g[j] = (real)a;
        c_x[j] = (real)by_x;
        c_1[j] = training ? (real)(-a * sum_g[j] * share - by_x * d) : 0;
    }
}

/* The activations that these kernels have inside of them, forward and backward. The others take longer than it takes
 * to go over the elements once more, and are in batchnorm_long.h. */
#define FNN_SHORT_FORWARD_LIST(X) \
    X(identity, OUTPUT)           \
    X(relu, OUTPUT)               \
    X(leaky_relu, OUTPUT)         \
    X(relu6, OUTPUT)              \
    X(hard_tanh, OUTPUT)          \
    X(hard_sigmoid, OUTPUT)
#define FNN_SHORT_BACKWARD_LIST(X) \
    FNN_SHORT_FORWARD_LIST(X)      \
    X(elu, OUTPUT)                 \
    X(sigmoid, OUTPUT)             \
    X(tanh, OUTPUT)                \
    X(selu, OUTPUT)
/* Along runs (batchnorm_runs.h), only those whose code is a few instructions. */
#define FNN_SHORT_RUN_LIST(X) X(identity, OUTPUT) X(relu, OUTPUT) X(leaky_relu, OUTPUT)

/* gcc would make another copy for batchnorm_long.h, which asks for nothing ahead. */
#ifdef __clang__
#define ONE_COPY
#else
#define ONE_COPY __attribute__((noclone))
#endif
#define READS_SAVED(name) (__builtin_strcmp(#name, "identity") != 0)

/* Rows that are done side by side: they share what is loaded per channel, and their operations overlap. Where an
 * activation is seldom used, the code is not worth repeating. */
#define MOST_ABREAST 4
#ifndef FNN_ABREAST
#define FNN_ABREAST
enum {
    FNN_ABREAST_identity = 4, FNN_ABREAST_relu = 4, FNN_ABREAST_leaky_relu = 4, FNN_ABREAST_elu = 1,
    FNN_ABREAST_sigmoid = 1, FNN_ABREAST_tanh = 1, FNN_ABREAST_selu = 1, FNN_ABREAST_relu6 = 1,
    FNN_ABREAST_hard_tanh = 1, FNN_ABREAST_hard_sigmoid = 1
};
#endif

#define X(name, saves)                                                                               \
    INLINE void FN(apply_rows_##name)(real *y, ptrdiff_t ldy, const real *x, ptrdiff_t ldx, const real *mean, \
                                      const real *scale, const real *shift, const int rows, ptrdiff_t cols, \
                                      int far, ptrdiff_t ahead_y, ptrdiff_t ahead_x, const act_params p) { \
        EACH_VECTOR(FN(lead_of)(y, cols), WHERE_FAR(if (far == 1) ASK_ROWS(y + ahead_y, ldy, 1) ASK_ROWS(x + ahead_x, ldx, 0)) \
                    const vec m = GET(mean); const vec a = GET(scale); const vec b = GET(shift); vec v[MOST_ABREAST]; \
                    for (int r = 0; r < rows; r++) v[r] = FN(name)(v_fma(GET(x + r * ldx) - m, a, b), p); \
                    if (far > 1 && whole) for (int r = 0; r < rows; r++) v_stream(y + r * ldy + j, v[r]); \
                    else for (int r = 0; r < rows; r++) PUT(y + r * ldy, v[r]););                    \
    }                                                                                                \
    static ONE_COPY void FN(batchnorm_apply_##name)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, \
                                                    const void *mean, const void *scale, const void *shift, \
                                                    ptrdiff_t rows, ptrdiff_t cols, int far,         \
                                                    const double *params) {                          \
        real *y = y_;                                                                                \
        const real *x = x_;                                                                          \
        const act_params p = FN(spread)(params);                                                     \
        const ptrdiff_t abreast = FNN_ABREAST_##name, step = FN(alike)(ldy);                         \
        ptrdiff_t i = 0;                                                                             \
        for (; abreast > 1 && i + abreast * step <= rows; i += abreast * step)                       \
            for (ptrdiff_t r = i, next; r < i + step; r++) {                                         \
                next = r + 1 < i + step ? 1 : (abreast - 1) * step + 1; /* how far on they are */    \
                FN(apply_rows_##name)(y + r * ldy, step * ldy, x + r * ldx, step * ldx, mean, scale, shift, \
                                      FNN_ABREAST_##name, cols, far, next * ldy, next * ldx, p);     \
            }                                                                                        \
        for (; i < rows; i++)                                                                        \
            FN(apply_rows_##name)(y + i * ldy, ldy, x + i * ldx, ldx, mean, scale, shift, 1, cols, far, ldy, ldx, p); \
        if (far > 1) v_stream_end();                                                                 \
    }
FNN_SHORT_FORWARD_LIST(X)
#undef X

#define X(name, saves)                                                                               \
    INLINE void FN(backward_sum_rows_##name)(                                                        \
        real *restrict sum_g, real *restrict sum_gx, real *restrict sum_xc, const real *dy, ptrdiff_t lddy, \
        const real *x, ptrdiff_t ldx, const real *s, ptrdiff_t lds, const real *mean, const real *scale, \
        const real *shift, const int rows, ptrdiff_t cols, int far, const act_params p) {            \
        (void)s, (void)lds, (void)scale, (void)shift;                                                \
        EACH_VECTOR(FN(lead_of)(x, cols),                                                            \
                    WHERE_FAR(ASK_ROWS(x + rows * ldx, ldx, 0) ASK_ROWS(dy + rows * lddy, lddy, 0)    \
                              if (READS_SAVED(name)) ASK_ROWS(s + rows * lds, lds, 0))               \
                    const vec m = GET(mean); vec total = GET(sum_g); vec total_x = GET(sum_gx); \
                    vec total_c = GET(sum_xc);                                                       \
                    for (int r = 0; r < rows; r++) {                                                 \
                        const vec xc = GET(x + r * ldx) - m;                                         \
                        const vec g = FN(name##_grad)(GET(dy + r * lddy), GET(s + r * lds), p);      \
                        total += g;                                                                  \
                        total_x = v_fma(g, xc, total_x);                                             \
                        total_c += xc;                                                               \
                    } PUT(sum_g, total);                                                             \
                    PUT(sum_gx, total_x);                                                            \
                    PUT(sum_xc, total_c););                                                          \
    }                                                                                                \
    /* sum_g, sum_gx = sum(g (x - mean)) and sum_xc = sum(x - mean): CHUNK rows in the type of x, those in double */ \
    static void FN(batchnorm_backward_sums_##name)(                                                  \
        double *restrict sum_g, double *restrict sum_gx, double *restrict sum_xc, const void *dy_,   \
        ptrdiff_t lddy, const void *x_, ptrdiff_t ldx, const void *saved_, ptrdiff_t lds, const void *mean_, \
        const void *scale_, const void *shift_, ptrdiff_t rows, ptrdiff_t all_cols, int far, const double *params) { \
        const act_params p = FN(spread)(params);                                                     \
        real room[3][PANEL + VL] __attribute__((aligned(64)));                                       \
        for (ptrdiff_t j = 0; j < all_cols; j++) sum_g[j] = sum_gx[j] = sum_xc[j] = 0;               \
        for (ptrdiff_t j0 = 0; j0 < all_cols; j0 += PANEL) {                                         \
            const ptrdiff_t cols = all_cols - j0 < PANEL ? all_cols - j0 : PANEL;                    \
            const size_t bytes = (size_t)cols * sizeof(real);                                        \
            const int lead = FN(lead_of)((const real *)x_ + j0, cols);                               \
            real *g_sum = room[0] + (lead ? VL - lead : 0), *gx_sum = room[1] + (g_sum - room[0]);   \
            real *xc_sum = room[2] + (g_sum - room[0]);                                              \
            const real *mean = (const real *)mean_ + j0, *scale = (const real *)scale_ + j0;         \
            const real *shift = (const real *)shift_ + j0;                                           \
            for (ptrdiff_t i0 = 0; i0 < rows; i0 += CHUNK) {                                         \
                const ptrdiff_t end = rows - i0 < CHUNK ? rows : i0 + CHUNK;                         \
                memset(g_sum, 0, bytes);                                                             \
                memset(gx_sum, 0, bytes);                                                            \
                memset(xc_sum, 0, bytes);                                                            \
                ptrdiff_t i = i0;                                                                    \
                if (FNN_ABREAST_##name > 1) AT_ROWS(name, FNN_ABREAST_##name)                                              \
                AT_ROWS(name, 1)                                                                     \
                for (ptrdiff_t j = 0; j < cols; j++) sum_g[j0 + j] += g_sum[j];                      \
                for (ptrdiff_t j = 0; j < cols; j++) sum_gx[j0 + j] += gx_sum[j];                    \
                for (ptrdiff_t j = 0; j < cols; j++) sum_xc[j0 + j] += xc_sum[j];                    \
            }                                                                                        \
        }                                                                                            \
    }                                                                                                \
    INLINE void FN(backward_apply_rows_##name)(                                                      \
        real *dx, ptrdiff_t lddx, const real *dy, ptrdiff_t lddy, const real *x, ptrdiff_t ldx, const real *s, \
        ptrdiff_t lds, const real *mean, const real *scale, const real *shift, const real *c_g, const real *c_x, \
        const real *c_1, const int rows, ptrdiff_t cols, int far, ptrdiff_t ahead_dx, ptrdiff_t ahead_dy, \
        ptrdiff_t ahead_x, ptrdiff_t ahead_s, const act_params p) {                                  \
        (void)s, (void)lds, (void)scale, (void)shift;                                                \
        EACH_VECTOR(FN(lead_of)(dx, cols),                                                           \
                    WHERE_FAR(ASK_ROWS(dx + ahead_dx, lddx, 1) ASK_ROWS(dy + ahead_dy, lddy, 0)       \
                              ASK_ROWS(x + ahead_x, ldx, 0)                                          \
                              if (READS_SAVED(name)) ASK_ROWS(s + ahead_s, lds, 0))                  \
                    const vec m = GET(mean); const vec a = GET(c_g); const vec b = GET(c_x);         \
                    const vec c = GET(c_1); vec v[MOST_ABREAST];                                       \
                    const vmask none = v_eq(b, (vec){0});                                            \
                    for (int r = 0; r < rows; r++) {                                                 \
                        const vec xc = v_sel(none, b, GET(x + r * ldx) - m);                         \
                        const vec g = FN(name##_grad)(GET(dy + r * lddy), GET(s + r * lds), p);      \
                        v[r] = v_fma(g, a, v_fma(xc, b, c));                                         \
                    } for (int r = 0; r < rows; r++) PUT(dx + r * lddx, v[r]););                     \
    }                                                                                                \
    static void FN(batchnorm_backward_apply_##name)(                                                 \
        void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const void *x_, ptrdiff_t ldx,   \
        const void *saved_, ptrdiff_t lds, const void *mean, const void *scale, const void *shift,   \
        const void *c_g, const void *c_x, const void *c_1, ptrdiff_t rows, ptrdiff_t cols,           \
        int far, const double *params) {                                                             \
        real *dx = dx_;                                                                              \
        const real *dy = dy_, *x = x_, *s = saved_;                                                  \
        const act_params p = FN(spread)(params);                                                     \
        const ptrdiff_t abreast = FNN_ABREAST_##name, step = FN(alike)(lddx);                        \
        ptrdiff_t i = 0;                                                                             \
        for (; abreast > 1 && i + abreast * step <= rows; i += abreast * step)                       \
            for (ptrdiff_t r = i, next; r < i + step; r++) {                                         \
                next = r + 1 < i + step ? 1 : (abreast - 1) * step + 1; /* how far on they are */    \
                FN(backward_apply_rows_##name)(dx + r * lddx, step * lddx, dy + r * lddy, step * lddy, x + r * ldx, \
                                               step * ldx, s + r * lds, step * lds, mean, scale, shift, c_g, c_x, \
                                               c_1, FNN_ABREAST_##name, cols, far, next * lddx, next * lddy, \
                                               next * ldx, next * lds, p);                           \
            }                                                                                        \
        for (; i < rows; i++)                                                                        \
            FN(backward_apply_rows_##name)(dx + i * lddx, lddx, dy + i * lddy, lddy, x + i * ldx, ldx, s + i * lds, \
                                           lds, mean, scale, shift, c_g, c_x, c_1, 1, cols, far, lddx, lddy, ldx, \
                                           lds, p);                                                  \
    }
#define AT_ROWS(name, at_once)                                                                       \
    for (; i + at_once <= end; i += at_once)                                                         \
        FN(backward_sum_rows_##name)(g_sum, gx_sum, xc_sum, (const real *)dy_ + i * lddy + j0, lddy, \
                                     (const real *)x_ + i * ldx + j0, ldx, (const real *)saved_ + i * lds + j0, lds, \
                                     mean, scale, shift, at_once, cols, far, p);
FNN_SHORT_BACKWARD_LIST(X)
#undef X
#undef AT_ROWS
#undef EACH_VECTOR
#undef GET
#undef PUT
#undef WHERE_FAR
#undef ASK_ROWS
#undef READS_SAVED
#undef ONE_COPY
#undef MOST_ABREAST
#undef START /* batchnorm_long.h takes CHUNK */
