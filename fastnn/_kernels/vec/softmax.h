/* Softmax and log-softmax over the columns of x (rows, cols), and their gradients.
 *   y = exp(x - max) / sum(exp(x - max))          log y = x - max - log(sum(exp(x - max)))
 *   dx = y (dy - sum(dy y))                       dx = dy - exp(log y) sum(dy)
 * The shift by the row's maximum keeps exp from overflowing; log y is never taken of a rounded y, so
 * small probabilities keep their digits.  y may be x, dx may be dy.  Rows may lie apart (ld elements).  Split
 * over threads by rows.
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
            const vec e = v_exp(v_load(x + j) - shift);
            sum += e;
            if (y) v_store(y + j, e);
        }
        if (j < end) {
            const int n = (int)(end - j);
            const vec e = v_exp(v_load_part(x + j, n) - shift);
            sum += v_sel(v_first(n), e, (vec){0});
            if (y) v_store_part(y + j, e, n);
        }
        total += v_sum(sum);
    }
    return total;
}

INLINE double FN(row_sum)(const real *x, ptrdiff_t cols) {
    double total = 0;
    for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
        const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
        vec sum = {0};
        for (ptrdiff_t j = j0; j < end; j += VL) sum += v_load_part(x + j, end - j < VL ? (int)(end - j) : VL);
        total += v_sum(sum);
    }
    return total;
}

/* y = a x + b for a row */
INLINE void FN(row_affine)(real *y, const real *x, real a, real b, ptrdiff_t cols) {
    ptrdiff_t j = 0;
    for (; j + VL <= cols; j += VL) v_store(y + j, v_fma(v_load(x + j), v_set1(a), v_set1(b)));
    if (j < cols) {
        const int n = (int)(cols - j);
        v_store_part(y + j, v_fma(v_load_part(x + j, n), v_set1(a), v_set1(b)), n);
    }
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
            const vec e = v_exp(v_load(t + j * VL) - highest);
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
        if (logarithm) {
            const real sum = (real)FN(row_exp)(NULL, x, highest, cols);
            const real log_sum = sum == sum ? v_log(v_set1(sum))[0] : sum; /* v_log knows numbers only */
            /* two subtractions, not one of the sum: x - highest is exact where it matters */
            for (ptrdiff_t j = 0; j < cols; j += VL) {
                const int n = cols - j >= VL ? VL : (int)(cols - j);
                v_store_part(y + j, v_load_part(x + j, n) - highest - log_sum, n);
            }
        } else {
            const real sum = (real)FN(row_exp)(y, x, highest, cols);
            for (ptrdiff_t j = 0; j < cols; j += VL) {
                const int n = cols - j >= VL ? VL : (int)(cols - j);
                v_store_part(y + j, v_load_part(y + j, n) / sum, n);
            }
        }
    }
}

static void FN(softmax_backward)(void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const void *y_,
                                 ptrdiff_t ldy, ptrdiff_t rows, ptrdiff_t cols, int logarithm) {
    real *dx = dx_;
    const real *dy = dy_, *y = y_;
    for (ptrdiff_t i = 0; i < rows; i++, dx += lddx, dy += lddy, y += ldy) {
        double sum = 0;
        for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
            const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
            vec part = {0};
            for (ptrdiff_t j = j0; j < end; j += VL) {
                const int n = end - j >= VL ? VL : (int)(end - j);
                const vec g = v_load_part(dy + j, n);
                part = logarithm ? part + g : v_fma(g, v_load_part(y + j, n), part);
            }
            sum += v_sum(part);
        }
        const vec total = v_set1((real)sum);
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            const vec g = v_load_part(dy + j, n), s = v_load_part(y + j, n);
            v_store_part(dx + j, logarithm ? g - v_exp(s) * total : s * (g - total), n);
        }
    }
}
