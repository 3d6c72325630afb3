/* Batch normalisation with activations that take long, in pieces that stay in L1: what stands around the activation
 * is done by the kernels of `identity`, the activation by its own loop, which mixes several vectors. That is as fast
 * as one loop of both, or faster, and a fifth of the code.
 * The formulas, the layouts and what may alias what stand in batchnorm.h and batchnorm_runs.h.
 *
 * Columns: pieces are PIECE_ROWS rows of up to PIECE_COLS columns. Runs: some channels of one row, or a part of a
 * run.  What is summed together does not depend on how many rows, columns or channels a caller asks for, so sums have
 * the same bits however threads share the work.
 */
#define PIECE ((int)(4096 / sizeof(real))) /* elements */
#define PIECE_ROWS 8
#define PIECE_COLS (PIECE / PIECE_ROWS)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
/* noinline: one copy serves all activations */
#define LONG static __attribute__((noinline))

/* What is not in the lists of batchnorm.h. */
#define FNN_LONG_FORWARD_LIST(X) \
    X(elu, OUTPUT)               \
    X(sigmoid, OUTPUT)           \
    X(tanh, OUTPUT)              \
    X(selu, OUTPUT)              \
    FNN_LONG_BACKWARD_LIST(X)
#define FNN_LONG_BACKWARD_LIST(X) \
    X(softplus, OUTPUT)           \
    X(silu, INPUT)                \
    X(gelu, INPUT)                \
    X(gelu_tanh, INPUT)           \
    X(hard_swish, INPUT)
#define FNN_LONG_RUN_LIST(X)  \
    FNN_LONG_FORWARD_LIST(X)  \
    X(relu6, OUTPUT)          \
    X(hard_tanh, OUTPUT)      \
    X(hard_sigmoid, OUTPUT)

typedef void FN(activation_loop)(void *y, const void *x, ptrdiff_t n, const double *params, int past);
typedef void FN(gradient_loop)(void *dx, const void *dy, const void *saved, ptrdiff_t n, const double *params,
                                int past);

/* One activation, as far as its gradient goes. */
typedef struct {
    FN(gradient_loop) *loop;
    int saves;
    const double *params;
} FN(gradient);

/* dx = dy f'(saved), row by row, or as one where the rows lie one behind the other; dx is (rows, cols). */
INLINE void FN(gradient_rows)(FN(gradient) f, real *dx, const real *dy, ptrdiff_t lddy, const real *saved, ptrdiff_t lds,
                              ptrdiff_t rows, ptrdiff_t cols) {
    if (lddy == cols && lds == cols) cols *= rows, rows = 1;
    for (ptrdiff_t r = 0; r < rows; r++) f.loop(dx + r * cols, dy + r * lddy, saved + r * lds, cols, f.params, 0);
}

/* --- channels that are columns ------------------------------------------------------------------ */

LONG void FN(apply_long)(FN(activation_loop) *loop, real *y, ptrdiff_t ldy, const real *x, ptrdiff_t ldx, const real *mean,
                         const real *scale, const real *shift, ptrdiff_t rows, ptrdiff_t cols, const double *params) {
    const ptrdiff_t wide = LEAST(cols, PIECE), most = wide ? PIECE / wide : 1;
    for (ptrdiff_t j = 0; j < cols; j += wide)
        for (ptrdiff_t i = 0; i < rows; i += most) {
            const ptrdiff_t high = LEAST(rows - i, most), n = LEAST(cols - j, wide);
            real *to = y + i * ldy + j;
            FN(batchnorm_apply_identity)(to, ldy, x + i * ldx + j, ldx, mean + j, scale + j, shift + j, high, n, 0, params);
            if (ldy == n)
                loop(to, to, high * n, params, 0);
            else
                for (ptrdiff_t r = 0; r < high; r++) loop(to + r * ldy, to + r * ldy, n, params, 0);
        }
}

/* g = dy act'(z) of a piece, (rows, cols) without gaps; z: room for as much. */
INLINE void FN(piece_gradient)(FN(gradient) f, real *g, real *z, const real *dy, ptrdiff_t lddy, const real *x, ptrdiff_t ldx,
                               const real *saved, ptrdiff_t lds, const real *mean, const real *scale, const real *shift,
                               ptrdiff_t rows, ptrdiff_t cols) {
    if (f.saves == FNN_SAVES_INPUT) {
        FN(batchnorm_apply_identity)(z, cols, x, ldx, mean, scale, shift, rows, cols, 0, f.params);
        FN(gradient_rows)(f, g, dy, lddy, z, cols, rows, cols);
    } else
        FN(gradient_rows)(f, g, dy, lddy, saved, lds, rows, cols);
}

LONG void FN(backward_sums_long)(FN(gradient) f, double *restrict sum_g, double *restrict sum_gx,
                                 double *restrict sum_xc, const real *dy, ptrdiff_t lddy, const real *x, ptrdiff_t ldx,
                                 const real *saved, ptrdiff_t lds, const real *mean, const real *scale,
                                 const real *shift, ptrdiff_t rows, ptrdiff_t cols) {
    const act_params none = FN(spread)(f.params);
    real g[PIECE], z[PIECE], part[3][PIECE_COLS]; /* of CHUNK rows, as in batchnorm.h */
    for (ptrdiff_t j = 0; j < cols; j++) sum_g[j] = sum_gx[j] = sum_xc[j] = 0;
    for (ptrdiff_t j = 0; j < cols; j += PIECE_COLS)
        for (ptrdiff_t i = 0; i < rows; i += PIECE_ROWS) {
            const ptrdiff_t high = LEAST(rows - i, PIECE_ROWS), n = LEAST(cols - j, PIECE_COLS);
            const real *xs = x + i * ldx + j;
            if (i % CHUNK == 0) memset(part, 0, sizeof part);
            FN(piece_gradient)(f, g, z, dy + i * lddy + j, lddy, xs, ldx, saved + i * lds + j, lds, mean + j, scale + j,
                               shift + j, high, n);
            if (high == PIECE_ROWS) /* as many as the compiler knows, and keeps apart */
                FN(backward_sum_rows_identity)(part[0], part[1], part[2], g, n, xs, ldx, g, n, mean + j, scale + j,
                                               shift + j, PIECE_ROWS, n, 0, none);
            else
                FN(backward_sum_rows_identity)(part[0], part[1], part[2], g, n, xs, ldx, g, n, mean + j, scale + j,
                                               shift + j, (int)high, n, 0, none);
            if ((i + high) % CHUNK == 0 || i + high == rows)
                for (ptrdiff_t c = 0; c < n; c++)
                    sum_g[j + c] += part[0][c], sum_gx[j + c] += part[1][c], sum_xc[j + c] += part[2][c];
        }
}

LONG void FN(backward_apply_long)(FN(gradient) f, real *dx, ptrdiff_t lddx, const real *dy, ptrdiff_t lddy, const real *x,
                                  ptrdiff_t ldx, const real *saved, ptrdiff_t lds, const real *mean, const real *scale,
                                  const real *shift, const real *c_g, const real *c_x, const real *c_1, ptrdiff_t rows,
                                  ptrdiff_t cols) {
    real g[PIECE], z[PIECE];
    for (ptrdiff_t j = 0; j < cols; j += PIECE_COLS)
        for (ptrdiff_t i = 0; i < rows; i += PIECE_ROWS) {
            const ptrdiff_t high = LEAST(rows - i, PIECE_ROWS), n = LEAST(cols - j, PIECE_COLS);
            const real *xs = x + i * ldx + j;
            FN(piece_gradient)(f, g, z, dy + i * lddy + j, lddy, xs, ldx, saved + i * lds + j, lds, mean + j, scale + j,
                               shift + j, high, n);
            FN(batchnorm_backward_apply_identity)(dx + i * lddx + j, lddx, g, n, xs, ldx, g, n, mean + j, scale + j,
                                                  shift + j, c_g + j, c_x + j, c_1 + j, high, n, 0, f.params);
        }
}

/* --- channels that are runs --------------------------------------------------------------------- */

/* The pieces of one row: c, how many channels; at, from where in the row; n, elements of each. */
#define EACH_PIECE(...)                                                                      \
    for (ptrdiff_t row = 0; row < rows; row++)                                               \
        for (ptrdiff_t c = 0, some; c < channels; c += some) {                               \
            some = LEAST(channels - c, inner < PIECE ? PIECE / inner : 1);                   \
            for (ptrdiff_t k = 0; k < inner; k += PIECE) {                                   \
                const ptrdiff_t n = LEAST(inner - k, PIECE), at = c * inner + k;             \
                __VA_ARGS__                                                                  \
            }                                                                                \
        }

LONG void FN(run_apply_long)(FN(activation_loop) *loop, real *y, ptrdiff_t ldy, const real *x, ptrdiff_t ldx,
                             const real *mean, const real *scale, const real *shift, ptrdiff_t rows, ptrdiff_t channels,
                             ptrdiff_t inner, const double *params) {
    EACH_PIECE(real *to = y + row * ldy + at;
               FN(batchnorm_run_apply_identity)(to, ldy, x + row * ldx + at, ldx, mean + c, scale + c, shift + c, 1, some, n, params);
               loop(to, to, some * n, params, 0);)
}

INLINE void FN(run_gradient)(FN(gradient) f, real *g, real *z, const real *dy, const real *x, const real *saved, const real *mean,
                             const real *scale, const real *shift, ptrdiff_t channels, ptrdiff_t inner) {
    const ptrdiff_t n = channels * inner;
    if (f.saves == FNN_SAVES_INPUT)
        FN(batchnorm_run_apply_identity)(z, n, x, n, mean, scale, shift, 1, channels, inner, f.params);
    f.loop(g, dy, f.saves == FNN_SAVES_INPUT ? z : saved, n, f.params, 0);
}

LONG void FN(run_backward_sums_long)(FN(gradient) f, double *sum_g, double *sum_gx, double *sum_xc, const real *dy,
                                     ptrdiff_t lddy, const real *x, ptrdiff_t ldx, const real *saved, ptrdiff_t lds,
                                     const real *mean, const real *scale, const real *shift, ptrdiff_t rows,
                                     ptrdiff_t channels, ptrdiff_t inner) {
    real g[PIECE], z[PIECE];
    double part_g[PIECE], part_gx[PIECE], part_xc[PIECE];
    for (ptrdiff_t c = 0; c < channels; c++) sum_g[c] = sum_gx[c] = sum_xc[c] = 0;
    EACH_PIECE(const real *xs = x + row * ldx + at;
               FN(run_gradient)(f, g, z, dy + row * lddy + at, xs, saved + row * lds + at, mean + c, scale + c, shift + c, some, n);
               FN(batchnorm_run_backward_sums_identity)(part_g, part_gx, part_xc, g, 0, xs, ldx, g, 0, mean + c, scale + c,
                                                        shift + c, 1, some, n, f.params);
               for (ptrdiff_t q = 0; q < some; q++)
                   sum_g[c + q] += part_g[q], sum_gx[c + q] += part_gx[q], sum_xc[c + q] += part_xc[q];)
}

LONG void FN(run_backward_apply_long)(FN(gradient) f, real *dx, ptrdiff_t lddx, const real *dy, ptrdiff_t lddy, const real *x,
                                      ptrdiff_t ldx, const real *saved, ptrdiff_t lds, const real *mean, const real *scale,
                                      const real *shift, const real *c_g, const real *c_x, const real *c_1, ptrdiff_t rows,
                                      ptrdiff_t channels, ptrdiff_t inner) {
    real g[PIECE], z[PIECE];
    EACH_PIECE(const real *xs = x + row * ldx + at;
               FN(run_gradient)(f, g, z, dy + row * lddy + at, xs, saved + row * lds + at, mean + c, scale + c, shift + c, some, n);
               FN(batchnorm_run_backward_apply_identity)(dx + row * lddx + at, lddx, g, 0, xs, ldx, g, 0, mean + c, scale + c,
                                                         shift + c, c_g + c, c_x + c, c_1 + c, 1, some, n, f.params);)
}

/* --- their names in the table ------------------------------------------------------------------- */

#define X(name, saves)                                                                                                 \
    static void FN(batchnorm_apply_##name)(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx, const void *mean,     \
                                           const void *scale, const void *shift, ptrdiff_t rows, ptrdiff_t cols,       \
                                           int far, const double *params) {                                            \
        (void)far;                                                                                                     \
        FN(apply_long)(FN(name##_forward), y, ldy, x, ldx, mean, scale, shift, rows, cols, params);                    \
    }
FNN_LONG_FORWARD_LIST(X)
#undef X

#define X(name, saves)                                                                                                 \
    static void FN(batchnorm_backward_sums_##name)(                                                                    \
        double *restrict sum_g, double *restrict sum_gx, double *restrict sum_xc, const void *dy, ptrdiff_t lddy,      \
        const void *x, ptrdiff_t ldx, const void *saved, ptrdiff_t lds, const void *mean, const void *scale,           \
        const void *shift, ptrdiff_t rows, ptrdiff_t cols, int far, const double *params) {                            \
        (void)far;                                                                                                     \
        const FN(gradient) f = {FN(name##_backward), FNN_SAVES_##saves, params};                                       \
        FN(backward_sums_long)(f, sum_g, sum_gx, sum_xc, dy, lddy, x, ldx, saved, lds, mean, scale, shift, rows, cols); \
    }                                                                                                                  \
    static void FN(batchnorm_backward_apply_##name)(                                                                   \
        void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy, const void *x, ptrdiff_t ldx, const void *saved,     \
        ptrdiff_t lds, const void *mean, const void *scale, const void *shift, const void *c_g, const void *c_x,       \
        const void *c_1, ptrdiff_t rows, ptrdiff_t cols, int far, const double *params) {                              \
        (void)far;                                                                                                     \
        const FN(gradient) f = {FN(name##_backward), FNN_SAVES_##saves, params};                                       \
        FN(backward_apply_long)(f, dx, lddx, dy, lddy, x, ldx, saved, lds, mean, scale, shift, c_g, c_x, c_1, rows,    \
                                cols);                                                                                 \
    }
FNN_LONG_BACKWARD_LIST(X)
#undef X

#define X(name, saves)                                                                                                 \
    static void FN(batchnorm_run_apply_##name)(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx, const void *mean, \
                                               const void *scale, const void *shift, ptrdiff_t rows,                   \
                                               ptrdiff_t channels, ptrdiff_t inner, const double *params) {            \
        FN(run_apply_long)(FN(name##_forward), y, ldy, x, ldx, mean, scale, shift, rows, channels, inner, params);     \
    }                                                                                                                  \
    static void FN(batchnorm_run_backward_sums_##name)(                                                                \
        double *restrict sum_g, double *restrict sum_gx, double *restrict sum_xc, const void *dy, ptrdiff_t lddy,      \
        const void *x, ptrdiff_t ldx, const void *saved, ptrdiff_t lds, const void *mean, const void *scale,           \
        const void *shift, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t inner, const double *params) {                \
        const FN(gradient) f = {FN(name##_backward), FNN_SAVES_##saves, params};                                       \
        FN(run_backward_sums_long)(f, sum_g, sum_gx, sum_xc, dy, lddy, x, ldx, saved, lds, mean, scale, shift, rows,   \
                                   channels, inner);                                                                   \
    }                                                                                                                  \
    static void FN(batchnorm_run_backward_apply_##name)(                                                               \
        void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy, const void *x, ptrdiff_t ldx, const void *saved,     \
        ptrdiff_t lds, const void *mean, const void *scale, const void *shift, const void *c_g, const void *c_x,       \
        const void *c_1, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t inner, const double *params) {                  \
        const FN(gradient) f = {FN(name##_backward), FNN_SAVES_##saves, params};                                       \
        FN(run_backward_apply_long)(f, dx, lddx, dy, lddy, x, ldx, saved, lds, mean, scale, shift, c_g, c_x, c_1,      \
                                    rows, channels, inner);                                                            \
    }
FNN_LONG_RUN_LIST(X)
#undef X
#undef EACH_PIECE
#undef CHUNK
#undef PIECE
#undef PIECE_ROWS
#undef PIECE_COLS
#undef LEAST
#undef LONG
