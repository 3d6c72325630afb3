/* Softmax and log-softmax over the columns of x (rows, cols), and their gradients.
 *   y = exp(x - max) / sum(exp(x - max))          log y = x - max - log(sum(exp(x - max)))
 *   dx = y (dy - sum(dy y))                       dx = dy - exp(log y) sum(dy)
 * The shift by the row's maximum keeps exp from overflowing; log y is never taken of a rounded y, so
 * small probabilities keep their digits.  y may be x, dx may be dy.  Rows may lie apart (ld elements).  Split
 * over threads by rows; down the columns (the end of this file), by columns.
 */

/* Highest value of a row, -infinity where the row is padded. */
INLINE real FN(row_highest)(const real *x, ptrdiff_t cols) {
    vec highest = v_set1(-(real)__builtin_inf());
    ptrdiff_t j = 0;
    for (; j + VL <= cols; j += VL) highest = v_max(highest, v_load(x + j));
    if (j < cols) {
        const int n = (int)(cols - j);
        highest = v_max(highest, v_sel(v_first(n), v_load_part(x + j, n), highest));
    }
    return v_highest(highest);
}

/* Sums of a row stay in vectors for 64 steps, then they are added up in double: a float that has grown to 2^24
 * takes no more ones. */
#undef ROW_CHUNK
#define ROW_CHUNK (64 * VL)

/* y = exp(x - shift) where y is wanted; returns the sum. */
INLINE double FN(row_exp)(real *y, const real *x, real shift, ptrdiff_t cols) {
    double total = 0;
    for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
        const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
        vec sum = {0};
        ptrdiff_t j = j0;
        for (; j + VL <= end; j += VL) {
            const vec e = v_exp_down(v_load(x + j) - shift);
            sum += e;
            if (y) v_store(y + j, e);
        }
        if (j < end) {
            const int n = (int)(end - j);
            const vec e = v_exp_down(v_load_part(x + j, n) - shift);
            sum += v_sel(v_first(n), e, (vec){0});
            if (y) v_store_part(y + j, e, n);
        }
        total += v_sum(sum);
    }
    return total;
}

/* sum(x), or sum(x y) where there is a y. */
INLINE double FN(row_sum)(const real *x, const real *y, ptrdiff_t cols) {
    double total = 0;
    for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
        const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
        vec sum = {0}, other = {0}; /* two, as an addition waits for the one before */
        ptrdiff_t j = j0;
        for (; j + 2 * VL <= end; j += 2 * VL) {
            const vec v = v_load(x + j), w = v_load(x + j + VL);
            sum = y ? v_fma(v, v_load(y + j), sum) : sum + v;
            other = y ? v_fma(w, v_load(y + j + VL), other) : other + w;
        }
        for (; j < end; j += VL) {
            const int n = end - j < VL ? (int)(end - j) : VL;
            const vec v = v_load_part(x + j, n);
            sum = y ? v_fma(v, v_load_part(y + j, n), sum) : sum + v;
        }
        total += v_sum(sum + other);
    }
    return total;
}

/* statement for each vector of a row, n lanes from column j on: whole ones, for which the parts come to nothing, and
 * the last one. */
#undef ALONG
#define ALONG(statement)                                                         \
    {                                                                            \
        ptrdiff_t j = 0;                                                         \
        for (; j + VL <= cols; j += VL) {                                        \
            enum { n = VL };                                                     \
            statement;                                                           \
        }                                                                        \
        if (j < cols) {                                                          \
            const int n = (int)(cols - j);                                       \
            statement;                                                           \
        }                                                                        \
    }

/* y = a x + b for a row */
INLINE void FN(row_affine)(real *y, const real *x, real a, real b, ptrdiff_t cols) {
    ALONG(v_store_part(y + j, v_fma(v_load_part(x + j, n), v_set1(a), v_set1(b)), n))
}

/* Of few columns, rows are taken a vector at a time and turned round, so that each has a lane: maximum and
 * sum of sixteen rows of ten classes then take ten operations, not sixteen times those across lanes. */
#undef FEW
#define FEW (VL > 2 ? 3 * VL : VL) /* columns at most */

/* Columns t (cols, VL) of n <= VL rows of x; the other lanes get zeros.  Returns the highest of each row.
 * noinline: one copy of the many shuffles serves all. */
static __attribute__((noinline)) vec FN(rows_to_lanes)(real *t, const real *x, ptrdiff_t ldx, int n, ptrdiff_t cols) {
    vec highest = v_set1(-(real)__builtin_inf());
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const int width = cols - j < VL ? (int)(cols - j) : VL;
        vec r[VL];
        if (n == VL) {
#pragma GCC unroll 16
            for (int q = 0; q < VL; q++) r[q] = v_load_part(x + q * ldx + j, width);
        } else {
            for (int q = 0; q < VL; q++) r[q] = q < n ? v_load_part(x + q * ldx + j, width) : (vec){0};
        }
        FN(transpose)(r);
        for (int q = 0; q < width; q++) {
            highest = v_max(highest, r[q]);
            v_store(t + (j + q) * VL, r[q]);
        }
    }
    return highest;
}

/* And back: y gets the columns of t. */
static __attribute__((noinline)) void FN(lanes_to_rows)(real *y, ptrdiff_t ldy, const real *t, int n, ptrdiff_t cols) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const int width = cols - j < VL ? (int)(cols - j) : VL;
        vec r[VL];
#pragma GCC unroll 16
        for (int q = 0; q < VL; q++) r[q] = q < width ? v_load(t + (j + q) * VL) : (vec){0};
        FN(transpose)(r);
        if (n == VL) {
#pragma GCC unroll 16
            for (int q = 0; q < VL; q++) v_store_part(y + q * ldy + j, r[q], width);
        } else {
            for (int q = 0; q < n; q++) v_store_part(y + q * ldy + j, r[q], width);
        }
    }
}

static void FN(softmax_of_few)(real *y, ptrdiff_t ldy, const real *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                               int logarithm) {
    real t[FEW * VL] __attribute__((aligned(64)));
    for (ptrdiff_t i = 0; i < rows; i += VL) {
        const int n = rows - i >= VL ? VL : (int)(rows - i);
        const vec highest = FN(rows_to_lanes)(t, x + i * ldx, ldx, n, cols);
        vec sum = {0};
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec e = v_exp_down(v_load(t + j * VL) - highest);
            sum += e;
            if (!logarithm) v_store(t + j * VL, e);
        }
        const vec log_sum = logarithm ? v_sel(v_eq(sum, sum), v_log(sum), sum) : sum; /* v_log knows numbers only */
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec v = v_load(t + j * VL);
            v_store(t + j * VL, logarithm ? v - highest - log_sum : v / sum);
        }
        FN(lanes_to_rows)(y + i * ldy, ldy, t, n, cols);
    }
}

static void FN(softmax_forward)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, ptrdiff_t rows,
                                ptrdiff_t cols, int logarithm) {
    real *y = y_;
    const real *x = x_;
    if (cols <= FEW) {
        FN(softmax_of_few)(y, ldy, x, ldx, rows, cols, logarithm);
        return;
    }
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy) {
        const real highest = FN(row_highest)(x, cols);
        const real sum = (real)FN(row_exp)(logarithm ? NULL : y, x, highest, cols);
        if (logarithm) {
            const real log_sum = sum == sum ? v_log(v_set1(sum))[0] : sum; /* v_log knows numbers only */
            /* two subtractions, not one of the sum: x - highest is exact where it matters */
            ALONG(v_store_part(y + j, v_load_part(x + j, n) - highest - log_sum, n))
        } else {
            ALONG(v_store_part(y + j, v_load_part(y + j, n) / sum, n))
        }
    }
}

static void FN(softmax_backward)(void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const void *y_,
                                 ptrdiff_t ldy, ptrdiff_t rows, ptrdiff_t cols, int logarithm) {
    real *dx = dx_;
    const real *dy = dy_, *y = y_;
    for (ptrdiff_t i = 0; i < rows; i++, dx += lddx, dy += lddy, y += ldy) {
        const vec total = v_set1((real)FN(row_sum)(dy, logarithm ? NULL : y, cols));
        if (logarithm)
            ALONG(v_store_part(dx + j, v_fma(-v_exp(v_load_part(y + j, n)), total, v_load_part(dy + j, n)), n))
        else
            ALONG(v_store_part(dx + j, v_load_part(y + j, n) * (v_load_part(dy + j, n) - total), n))
    }
}

/* Along another axis: x (steps, cols) with rows ld apart, a softmax down each column.  Columns have lanes, and go a
 * piece at a time, row after row, so that a piece is in L2 when it is read again.  Where columns are fewer than two
 * vectors and rows lie side by side, some rows are taken as one, and what was found for them is put together. */
#undef ACROSS
#define ACROSS 512         /* columns of a piece at most */
#define ACROSS_PIECE 32768 /* elements of a piece, or so */
#define ACROSS_STEPS 64    /* of which a sum is taken before it joins the others */

typedef struct {
    ptrdiff_t groups, steps, ld, cols, piece, last; /* rows taken as one; columns of the last row of them */
} FN(across);

static FN(across) FN(across_plan)(ptrdiff_t ld, ptrdiff_t steps, ptrdiff_t cols) {
    FN(across) a = {1, steps, ld, cols, cols, cols};
    if (ld == cols && cols < 2 * VL) {
        const ptrdiff_t most = cols < 8 ? 8 / cols * VL : VL;
        a.groups = steps >= most ? most : steps >= VL ? VL : steps;
        a.steps = (steps + a.groups - 1) / a.groups;
        a.ld = a.cols = a.piece = cols * a.groups;
        a.last = steps * cols - (a.steps - 1) * a.cols;
    } else {
        const ptrdiff_t fit = ACROSS_PIECE / steps / VL * VL, least = 4 * VL;
        const ptrdiff_t piece = fit > ACROSS ? ACROSS : fit < least ? least : fit;
        if (piece < cols) a.piece = piece;
    }
    return a;
}

/* sum + rest += part, and part = 0: the rest is what rounding the sum has lost */
static void FN(across_join)(real *sum, real *rest, real *part, ptrdiff_t cols) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const vec a = v_load(sum + j), b = v_load(part + j), both = a + b, of_b = both - a;
        v_store(sum + j, both);
        v_store(rest + j, v_load(rest + j) + ((a - (both - of_b)) + (b - of_b)));
        v_store(part + j, (vec){0});
    }
}

/* sum + rest, of all groups, in each */
static void FN(across_total)(real *sum, const real *rest, ptrdiff_t groups, ptrdiff_t cols) {
    const ptrdiff_t apart = cols / groups;
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const vec s = v_load(sum + j), both = s + v_load(rest + j);
        v_store(sum + j, v_sel(v_eq(both, both), both, s)); /* the rest of an infinite sum is no number */
    }
    if (groups == 1) return;
    for (ptrdiff_t j = 0; j < apart; j++) {
        double total = 0;
        for (ptrdiff_t i = j; i < cols; i += apart) total += sum[i];
        for (ptrdiff_t i = j; i < cols; i += apart) sum[i] = (real)total;
    }
}

INLINE vec FN(across_keep)(vec v, int n, vec other) { return n == VL ? v : v_sel(v_first(n), v, other); }

#define ALL for (ptrdiff_t j = 0; j < n; j += VL)
#define EACH(n) for (int j = 0, k; k = (int)(n) - j < VL ? (int)(n) - j : VL, j < (n); j += VL)
#define EACH_ROW for (ptrdiff_t p = 0, w; w = p + 1 < a.steps ? n : last, p < a.steps; p++)

static void FN(softmax_across_forward)(void *y_, const void *x_, ptrdiff_t ld, ptrdiff_t steps, ptrdiff_t cols,
                                       int logarithm) {
    const FN(across) a = FN(across_plan)(ld, steps, cols);
    for (ptrdiff_t j0 = 0; j0 < a.cols; j0 += a.piece) {
        real highest[ACROSS], part[ACROSS], sum[ACROSS], rest[ACROSS];
        const ptrdiff_t n = a.cols - j0 < a.piece ? a.cols - j0 : a.piece, last = a.groups > 1 ? a.last : n;
        const real *x = (const real *)x_ + j0;
        real *y = (real *)y_ + j0;
        ALL {
            v_store(highest + j, v_set1(-(real)__builtin_inf()));
            v_store(part + j, (vec){0});
            v_store(sum + j, (vec){0});
            v_store(rest + j, (vec){0});
        }
        EACH_ROW EACH(w) {
            const vec h = v_load(highest + j);
            v_store(highest + j, v_max(h, FN(across_keep)(v_load_part(x + p * a.ld + j, k), k, h)));
        }
        for (ptrdiff_t j = 0; j < cols && a.groups > 1; j++) {
            real most = highest[j];
            for (ptrdiff_t i = j; i < n; i += cols) most = highest[i] > most ? highest[i] : most;
            for (ptrdiff_t i = j; i < n; i += cols) highest[i] = most;
        }
        EACH_ROW {
            EACH(w) {
                const vec e = v_exp_down(v_load_part(x + p * a.ld + j, k) - v_load(highest + j));
                v_store(part + j, v_load(part + j) + FN(across_keep)(e, k, (vec){0}));
                if (!logarithm) v_store_part(y + p * a.ld + j, e, k);
            }
            if ((p + 1) % ACROSS_STEPS == 0 || p + 1 == a.steps) FN(across_join)(sum, rest, part, n);
        }
        FN(across_total)(sum, rest, a.groups, n);
        if (logarithm) ALL {
            const vec s = v_load(sum + j);
            v_store(sum + j, v_sel(v_eq(s, s), v_log(s), s)); /* v_log knows numbers only */
        }
        EACH_ROW EACH(w) {
            const vec v = v_load_part((logarithm ? x : y) + p * a.ld + j, k), s = v_load(sum + j);
            v_store_part(y + p * a.ld + j, logarithm ? v - v_load(highest + j) - s : v / s, k);
        }
    }
}

static void FN(softmax_across_backward)(void *dx_, const void *dy_, const void *y_, ptrdiff_t ld, ptrdiff_t steps,
                                        ptrdiff_t cols, int logarithm) {
    const FN(across) a = FN(across_plan)(ld, steps, cols);
    for (ptrdiff_t j0 = 0; j0 < a.cols; j0 += a.piece) {
        real part[ACROSS], sum[ACROSS], rest[ACROSS];
        const ptrdiff_t n = a.cols - j0 < a.piece ? a.cols - j0 : a.piece, last = a.groups > 1 ? a.last : n;
        const real *dy = (const real *)dy_ + j0, *y = (const real *)y_ + j0;
        real *dx = (real *)dx_ + j0;
        ALL {
            v_store(part + j, (vec){0});
            v_store(sum + j, (vec){0});
            v_store(rest + j, (vec){0});
        }
        EACH_ROW {
            EACH(w) {
                const vec g = v_load_part(dy + p * a.ld + j, k), s = v_load(part + j);
                v_store(part + j, logarithm ? s + g : v_fma(g, v_load_part(y + p * a.ld + j, k), s));
            }
            if ((p + 1) % ACROSS_STEPS == 0 || p + 1 == a.steps) FN(across_join)(sum, rest, part, n);
        }
        FN(across_total)(sum, rest, a.groups, n);
        EACH_ROW EACH(w) {
            const vec g = v_load_part(dy + p * a.ld + j, k), s = v_load_part(y + p * a.ld + j, k);
            const vec total = v_load(sum + j);
            v_store_part(dx + p * a.ld + j, logarithm ? v_fma(-v_exp(s), total, g) : s * (g - total), k);
        }
    }
}
#undef ALL
#undef EACH
#undef EACH_ROW
