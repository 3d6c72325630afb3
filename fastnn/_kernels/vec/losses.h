/* Losses: each returns the (unscaled, double) sum over its rows and writes the gradient in one pass.
 * dlogits may be logits, dpred may be pred.  Split over threads by rows; the caller adds the sums up
 * in row order. */

/* Softmax cross-entropy of logits (rows, cols) and whole labels (rows,):
 *   loss_i = log sum_j exp(x_ij) - sum_j q_ij x_ij,   q = (1 - s) onehot(label) + s / cols
 *   dlogits_ij = scale w_i (softmax(x_i)_j - q_ij)
 * w: weights (rows,) or NULL for ones; s: smoothing.  `correct` gets the number of rows whose first
 * highest logit is the label's. */
static double FN(softmax_cross_entropy)(void *dlogits_, ptrdiff_t ldd, const void *logits_, ptrdiff_t ldl,
                                        const int64_t *labels, const void *weights_, double smoothing,
                                        double scale, ptrdiff_t rows, ptrdiff_t cols, int64_t *correct) {
    real *d = dlogits_;
    const real *x = logits_, *weights = weights_;
    const real even = (real)(smoothing / (double)cols), peak = (real)(1 - smoothing);
    double total = 0;
    int64_t hits = 0;
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += VL) {
        /* a vector of rows at a time, to take their logarithms together */
        const int n = rows - i0 >= VL ? VL : (int)(rows - i0);
        real sums[VL], rest[VL];
        for (int q = 0; q < VL; q++) sums[q] = 1, rest[q] = 0;
        for (int q = 0; q < n; q++, x += ldl, d += ldd) {
            const int64_t label = labels[i0 + q];
            const real highest = FN(row_highest)(x, cols), at_label = x[label];
            real mean = 0;
            if (smoothing > 0) {
                vec sum = {0};
                for (ptrdiff_t j = 0; j < cols; j += VL) {
                    const int m = cols - j >= VL ? VL : (int)(cols - j);
                    sum += v_sel(v_first(m), v_load_part(x + j, m) - highest, (vec){0});
                }
                mean = v_sum(sum);
            }
            if (at_label == highest) {
                ptrdiff_t j = 0;
                while (x[j] != highest) j++;
                hits += j == label;
            }
            const real w = weights ? weights[i0 + q] : 1, factor = (real)scale * w;
            const real sum = FN(row_exp)(d, x, highest, cols);
            sums[q] = sum;
            rest[q] = -peak * (at_label - highest) - even * mean;
            FN(row_affine)(d, d, factor / sum, -factor * even, cols);
            d[label] -= factor * peak;
        }
        vec lost = v_log(v_load(sums)) + v_load(rest);
        /* v_log knows positive numbers only: a sum that is NaN stays NaN */
        lost = v_sel(v_eq(v_load(sums), v_load(sums)), lost, v_load(sums));
        for (int q = 0; q < n; q++) total += weights ? (double)weights[i0 + q] * lost[q] : (double)lost[q];
    }
    *correct = hits;
    return total;
}

/* The same for targets spread over the classes: t (rows, cols), contiguous, weights already in it.
 *   loss_i = T_i log sum_j exp(x_ij) - sum_j t_ij x_ij,  T_i = sum_j t_ij;   dlogits = scale (T softmax(x) - t)
 * A class of target 0 adds 0, also where its logit is -infinity. */
static double FN(soft_cross_entropy)(void *dlogits_, ptrdiff_t ldd, const void *logits_, ptrdiff_t ldl,
                                     const void *targets_, double scale, ptrdiff_t rows, ptrdiff_t cols) {
    real *d = dlogits_;
    const real *x = logits_, *t = targets_;
    double total = 0;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldl, d += ldd, t += cols) {
        const real highest = FN(row_highest)(x, cols);
        vec sum_t = {0}, sum_tx = {0};
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            const vec tj = v_load_part(t + j, n), zero = {0};
            sum_t += tj;
            sum_tx += v_sel(v_eq(tj, zero), zero, tj * (v_load_part(x + j, n) - highest));
        }
        const real whole = v_sum(sum_t);
        const double dot = v_sum(sum_tx);
        const real sum = FN(row_exp)(d, x, highest, cols);
        const real log_sum = sum == sum ? v_log(v_set1(sum))[0] : sum;
        total += (double)whole * log_sum - dot;
        const vec share = v_set1((real)scale * whole / sum), factor = v_set1((real)-scale);
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            v_store_part(d + j, v_fma(factor, v_load_part(t + j, n), v_load_part(d + j, n) * share), n);
        }
    }
    return total;
}

/* Mean squared error: the sum of (pred - target)^2;  dpred = 2 scale (pred - target). */
static double FN(mean_squared_error)(void *dpred_, const void *pred_, const void *target_, double scale,
                                     ptrdiff_t n) {
    real *d = dpred_;
    const real *pred = pred_, *target = target_;
    const vec twice = v_set1((real)(2 * scale));
    double total = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += 64 * VL) {
        const ptrdiff_t end = n - i0 < 64 * VL ? n : i0 + 64 * VL;
        vec sum = {0};
        for (ptrdiff_t i = i0; i < end; i += VL) {
            const int m = end - i >= VL ? VL : (int)(end - i);
            const vec e = v_load_part(pred + i, m) - v_load_part(target + i, m);
            sum = v_fma(e, e, sum);
            v_store_part(d + i, twice * e, m);
        }
        for (int q = 0; q < VL; q++) total += sum[q];
    }
    return total;
}
