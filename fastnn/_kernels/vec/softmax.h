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

/* y = exp(x - shift) where y is wanted; returns the sum. */
INLINE real FN(row_exp)(real *y, const real *x, real shift, ptrdiff_t cols) {
    vec sum = {0};
    ptrdiff_t j = 0;
    for (; j + VL <= cols; j += VL) {
        const vec e = v_exp(v_load(x + j) - shift);
        sum += e;
        if (y) v_store(y + j, e);
    }
    if (j < cols) {
        const int n = (int)(cols - j);
        const vec e = v_exp(v_load_part(x + j, n) - shift);
        sum += v_sel(v_first(n), e, (vec){0});
        if (y) v_store_part(y + j, e, n);
    }
    return v_sum(sum);
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

static void FN(softmax_forward)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, ptrdiff_t rows,
                                ptrdiff_t cols, int logarithm) {
    real *y = y_;
    const real *x = x_;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy) {
        const real highest = FN(row_highest)(x, cols);
        if (logarithm) {
            const real sum = FN(row_exp)(NULL, x, highest, cols);
            const real log_sum = sum == sum ? v_log(v_set1(sum))[0] : sum; /* v_log knows numbers only */
            /* two subtractions, not one of the sum: x - highest is exact where it matters */
            for (ptrdiff_t j = 0; j < cols; j += VL) {
                const int n = cols - j >= VL ? VL : (int)(cols - j);
                v_store_part(y + j, v_load_part(x + j, n) - highest - log_sum, n);
            }
        } else {
            const real sum = FN(row_exp)(y, x, highest, cols);
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
        vec sum = {0};
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            const vec g = v_load_part(dy + j, n);
            sum = logarithm ? sum + g : v_fma(g, v_load_part(y + j, n), sum);
        }
        const vec total = v_set1(v_sum(sum));
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            const vec g = v_load_part(dy + j, n), s = v_load_part(y + j, n);
            v_store_part(dx + j, logarithm ? g - v_exp(s) * total : s * (g - total), n);
        }
    }
}
