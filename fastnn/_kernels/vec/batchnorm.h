/* Batch normalisation over the rows of x (rows, cols), one channel a column (Ioffe and Szegedy 2015).
 *   mean = sum(x) / N, var = sum((x - mean)^2) / N, rstd = 1 / sqrt(var + eps)
 *   y = act(z), z = (x - mean) scale + shift,   scale = gamma rstd, shift = beta
 * Backward, with g = dy act'(z) and xh = (x - mean) rstd:
 *   dbeta = sum(g), dgamma = sum(g xh)
 *   training:  dx = gamma rstd (g - dbeta / N - xh dgamma / N)     inference:  dx = gamma rstd g
 * written per channel as dx = c_g g + c_x (x - mean) + c_1.
 * Saved: mean and rstd alone; xh is recomputed.  y may be x, dx may be dy.
 *
 * Accuracy: x - mean is taken before anything is multiplied (never E[x^2] - E[x]^2, never a x + b with
 * a large b), and what rounding takes from the mean the caller puts into `shift`.  Statistics are
 * means and M2 of CHUNK rows, taken from their first row as the origin, and merged in row order in
 * double (Chan, Golub and LeVeque 1979).
 * Split over threads by columns, or by blocks of rows whose statistics are merged in order.
 */
#define CHUNK 32 /* rows: 32 rows of a strip stay in L1 between the two passes over them */
#define STRIP 4  /* vectors of columns: enough independent sums to hide the adder's latency */

/* One strip of `vecs` vectors, the last of which has `last` lanes. */
INLINE void FN(strip_statistics)(const int vecs, double *restrict mean, double *restrict m2,
                                 const real *restrict x, ptrdiff_t ld, ptrdiff_t rows, int last) {
    const ptrdiff_t cols = (vecs - 1) * VL + last;
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += CHUNK) {
        const ptrdiff_t n = rows - i0 < CHUNK ? rows - i0 : CHUNK;
        const real *restrict first = x + i0 * ld;
        vec origin[STRIP], sum[STRIP], square[STRIP];
#define LOAD(p) (v < vecs - 1 || last == VL ? v_load((p) + v * VL) : v_load_part((p) + v * VL, last))
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) origin[v] = LOAD(first), sum[v] = square[v] = (vec){0};
        for (ptrdiff_t i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++) sum[v] += LOAD(first + i * ld) - origin[v];
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) sum[v] = sum[v] * (real)(1.0 / (double)n);
        for (ptrdiff_t i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++) {
                const vec d = LOAD(first + i * ld) - origin[v] - sum[v];
                square[v] = v_fma(d, d, square[v]);
            }
#undef LOAD
        real offset[STRIP * VL] = {0}, chunk_m2[STRIP * VL] = {0};
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) v_store(offset + v * VL, sum[v]), v_store(chunk_m2 + v * VL, square[v]);
        const double share = (double)n / (double)(i0 + n), weight = (double)i0 * share;
        for (ptrdiff_t j = 0; j < cols; j++) {
            const double delta = first[j] - mean[j] + offset[j];
            mean[j] += delta * share;
            m2[j] += chunk_m2[j] + delta * delta * weight;
        }
    }
}

/* mean and M2 = sum((x - mean)^2) of each column. */
static void FN(batchnorm_statistics)(double *mean, double *m2, const void *x_, ptrdiff_t ld, ptrdiff_t rows,
                                     ptrdiff_t cols) {
    const real *x = x_;
    for (ptrdiff_t j = 0; j < cols; j++) mean[j] = m2[j] = 0;
    ptrdiff_t j = 0;
    for (; j + STRIP * VL <= cols; j += STRIP * VL)
        FN(strip_statistics)(STRIP, mean + j, m2 + j, x + j, ld, rows, VL);
    for (; j < cols; j += VL)
        FN(strip_statistics)(1, mean + j, m2 + j, x + j, ld, rows, cols - j >= VL ? VL : (int)(cols - j));
}

/* What the statistics give per channel, in double (plain loops: the compiler makes vectors of them).
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
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = 1 / __builtin_sqrt(m2[j] / rows + eps), a = gamma[j] * r;
        mean[j] = (real)exact_mean[j];
        rstd[j] = (real)r;
        scale[j] = (real)a;
        shift[j] = (real)(beta[j] - (exact_mean[j] - (double)(real)exact_mean[j]) * a);
    }
    if (running_mean)
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
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = 1 / __builtin_sqrt((double)running_var[j] + eps);
        mean[j] = running_mean[j];
        rstd[j] = (real)r;
        scale[j] = (real)(gamma[j] * r);
    }
}

/* dgamma, dbeta and the coefficients of dx from sum(g) and sum(g (x - mean)). */
static void FN(batchnorm_coefficients)(void *dgamma_, void *dbeta_, void *c_g_, void *c_x_, void *c_1_,
                                       const double *restrict sum_g, const double *restrict sum_gx,
                                       const void *gamma_, const void *rstd_, double rows, int training,
                                       ptrdiff_t cols) {
    real *restrict dgamma = dgamma_, *restrict dbeta = dbeta_;
    real *restrict c_g = c_g_, *restrict c_x = c_x_, *restrict c_1 = c_1_;
    const real *restrict gamma = gamma_, *restrict rstd = rstd_;
    const double share = training ? 1 / rows : 0;
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double r = rstd[j], a = gamma[j] * r;
        dgamma[j] = (real)(sum_gx[j] * r);
        dbeta[j] = (real)sum_g[j];
        c_g[j] = (real)a;
        c_x[j] = training ? (real)(-a * r * r * sum_gx[j] * share) : 0; /* not 0 times a sum that is NaN */
        c_1[j] = training ? (real)(-a * sum_g[j] * share) : 0;
    }
}

/* The pieces of a row that every kernel below goes through: whole vectors, then the rest. */
#define EACH_VECTOR(body)                                     \
    do {                                                      \
        ptrdiff_t j = 0;                                      \
        for (; j + VL <= cols; j += VL) {                     \
            const int whole = 1, n = VL;                      \
            body                                              \
        }                                                     \
        if (j < cols) {                                       \
            const int whole = 0, n = (int)(cols - j);         \
            body                                              \
        }                                                     \
    } while (0)
#define GET(p) (whole ? v_load((p) + j) : v_load_part((p) + j, n))
#define PUT(p, v) (whole ? v_store((p) + j, v) : v_store_part((p) + j, v, n))

/* What an activation's derivative is taken from: its saved output, or z computed again.  (saved is any
 * matrix of the shape of x where the activation does not read it.) */
#define SAVED_OUTPUT GET(s)
#define SAVED_INPUT v_fma(xc, GET(scale), GET(shift))

#define X(name, saves)                                                                               \
    static void FN(batchnorm_apply_##name)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx,   \
                                           const void *mean_, const void *scale_, const void *shift_, \
                                           ptrdiff_t rows, ptrdiff_t cols, const double *params) {   \
        real *y = y_;                                                                                \
        const real *x = x_, *mean = mean_, *scale = scale_, *shift = shift_;                         \
        const act_params p = FN(spread)(params);                                                     \
        for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy)                                     \
            EACH_VECTOR(PUT(y, FN(name)(v_fma(GET(x) - GET(mean), GET(scale), GET(shift)), p)););    \
    }                                                                                                \
    /* sum_g and sum_gx = sum(g (x - mean)): CHUNK rows in the type of x, those in double */         \
    static void FN(batchnorm_backward_sums_##name)(                                                  \
        double *sum_g, double *sum_gx, const void *dy_, ptrdiff_t lddy, const void *x_, ptrdiff_t ldx, \
        const void *saved_, ptrdiff_t lds, const void *mean_, const void *scale_, const void *shift_, \
        ptrdiff_t rows, ptrdiff_t cols, const double *params) {                                      \
        const real *mean = mean_, *scale = scale_, *shift = shift_;                                  \
        const act_params p = FN(spread)(params);                                                     \
        (void)scale, (void)shift;                                                                    \
        EACH_VECTOR(                                                                                 \
            double total_g[VL]; double total_gx[VL];                                                 \
            for (int q = 0; q < VL; q++) total_g[q] = total_gx[q] = 0;                               \
            for (ptrdiff_t i0 = 0; i0 < rows; i0 += CHUNK) {                                         \
                const ptrdiff_t end = rows - i0 < CHUNK ? rows : i0 + CHUNK;                         \
                const real *dy = (const real *)dy_ + i0 * lddy;                                      \
                const real *x = (const real *)x_ + i0 * ldx;                                         \
                const real *s = (const real *)saved_ + i0 * lds;                                     \
                vec g_sum = {0}; vec gx_sum = {0};                                                   \
                for (ptrdiff_t i = i0; i < end; i++, dy += lddy, x += ldx, s += lds) {               \
                    const vec xc = GET(x) - GET(mean);                                               \
                    const vec g = FN(name##_grad)(GET(dy), SAVED_##saves, p);                        \
                    g_sum += g;                                                                      \
                    gx_sum = v_fma(g, xc, gx_sum);                                                   \
                }                                                                                    \
                for (int q = 0; q < VL; q++) total_g[q] += g_sum[q];                                 \
                for (int q = 0; q < VL; q++) total_gx[q] += gx_sum[q];                               \
            }                                                                                        \
            for (int q = 0; q < n; q++) sum_g[j + q] = total_g[q];                                   \
            for (int q = 0; q < n; q++) sum_gx[j + q] = total_gx[q];                                 \
            (void)whole;);                                                                           \
    }                                                                                                \
    static void FN(batchnorm_backward_apply_##name)(                                                 \
        void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const void *x_, ptrdiff_t ldx,   \
        const void *saved_, ptrdiff_t lds, const void *mean_, const void *scale_, const void *shift_, \
        const void *c_g_, const void *c_x_, const void *c_1_, ptrdiff_t rows, ptrdiff_t cols,        \
        const double *params) {                                                                      \
        real *dx = dx_;                                                                              \
        const real *dy = dy_, *x = x_, *s = saved_, *mean = mean_, *scale = scale_, *shift = shift_; \
        const real *c_g = c_g_, *c_x = c_x_, *c_1 = c_1_;                                            \
        const act_params p = FN(spread)(params);                                                     \
        (void)scale, (void)shift;                                                                    \
        for (ptrdiff_t i = 0; i < rows; i++, dy += lddy, x += ldx, s += lds, dx += lddx)             \
            EACH_VECTOR(const vec xc = GET(x) - GET(mean);                                           \
                        const vec g = FN(name##_grad)(GET(dy), SAVED_##saves, p);                    \
                        PUT(dx, v_fma(g, GET(c_g), v_fma(xc, GET(c_x), GET(c_1)))););                \
    }
FNN_ACTIVATION_LIST(X)
#undef X
#undef EACH_VECTOR
#undef GET
#undef PUT
#undef SAVED_OUTPUT
#undef SAVED_INPUT
#undef CHUNK
#undef STRIP
