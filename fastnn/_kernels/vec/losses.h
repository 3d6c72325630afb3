/* Losses: each returns the (unscaled, double) sum over its rows and writes the gradient in one pass.
 * The gradient may be written over the scores or predictions.  Rows may lie apart (ld elements); targets
 * of a width are contiguous.  w: weights of the rows, or NULL for ones.  Sums of vectors are kept short
 * (64 terms) and added up in double.  Split over threads by rows; the caller adds the sums up in order.
 * `right_` gets the sum of the weights of the rows that are right: whose first highest score is that of their class. */

/* Where the first element of this value stands; cols where there is none (of a NaN there never is). */
INLINE ptrdiff_t FN(first_of)(const real *x, real value, ptrdiff_t cols) {
    const vec wanted = v_set1(value), one = v_set1(1), zero = {0};
    ptrdiff_t j = 0;
    for (; j + 4 * VL <= cols; j += 4 * VL) {
        vec found = zero;
        for (int q = 0; q < 4; q++) found += v_sel(v_eq(v_load(x + j + q * VL), wanted), one, zero);
        if (v_sum(found) > 0) break;
    }
    while (j < cols && x[j] != value) j++;
    return j;
}

/* Whether x[label] is the first of the highest values of a row: what argmax finds. */
INLINE int FN(is_first_highest)(const real *x, int64_t label, real highest, ptrdiff_t cols) {
    return x[label] == highest && FN(first_of)(x, highest, cols) == label;
}

/* How the kernels of labels take log sum_j exp(x_j) and the gradient at the label, 1 - p: as log(1 + rest) and
 * rest / sum, where `rest` is the sum without the label's 1 if the label is the highest.  A row that is sure of
 * its label keeps its loss of 1e-20, where 1 + 1e-20 has none.
 * A row of weight 0 adds nothing and has no gradient, whatever it holds. */

/* Without class weights and of few columns, a row in each lane (softmax.h): W = 1. */
static double FN(cross_entropy_of_few)(real *d, ptrdiff_t ldd, const real *x, ptrdiff_t ldl, const int64_t *labels,
                                       const real *weights, double smoothing, double scale, ptrdiff_t rows,
                                       ptrdiff_t cols, double *right_) {
    const vec even = v_set1((real)(smoothing / (double)cols)), peak = v_set1((real)(1 - smoothing)), zero = {0};
    real t[FEW * VL] __attribute__((aligned(64))), label_of[VL] = {0}, weight_of[VL];
    double total = 0;
    double right = 0;
    for (int q = 0; q < VL; q++) weight_of[q] = 1;
    for (ptrdiff_t i = 0; i < rows; i += VL) {
        const int n = rows - i >= VL ? VL : (int)(rows - i);
        const vec highest = FN(rows_to_lanes)(t, x + i * ldl, ldl, n, cols);
        if (n == VL)
            for (int q = 0; q < VL; q++) label_of[q] = (real)labels[i + q];
        else
            for (int q = 0; q < n; q++) label_of[q] = (real)labels[i + q];
        if (weights) memcpy(weight_of, weights + i, (size_t)n * sizeof(real));
        const vec label = v_load(label_of), weight = v_load(weight_of), factor = weight * (real)scale;
        const vmask counted = v_gt(weight, zero);
        vec rest = zero, label_exp = zero, at_label = zero, flat = zero, first = v_set1(-1);
        for (ptrdiff_t j = cols; j-- > 0;) {
            const vec v = v_load(t + j * VL), down = v - highest, e = v_exp_down(down), here = v_set1((real)j);
            const vmask wanted = v_eq(here, label);
            first = v_sel(v_eq(v, highest), here, first);
            at_label = v_sel(wanted, down, at_label);
            label_exp = v_sel(wanted, e, label_exp);
            rest += v_sel(wanted, zero, e);
            flat += down;
            v_store(t + j * VL, e);
        }
        const vec sum = rest + label_exp, share = factor / sum, less = -factor * even;
        /* p - 1 at the label; with smoothing q is less, and nothing cancels */
        const vec at = smoothing > 0 ? v_fma(label_exp, share, less - factor * peak) : -share * rest;
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec v = v_fma(v_load(t + j * VL), share, less);
            v_store(t + j * VL, v_sel(counted, v_sel(v_eq(v_set1((real)j), label), at, v), zero));
        }
        FN(lanes_to_rows)(d + i * ldd, ldd, t, n, cols);
        /* What is not asked for adds 0, also where it is infinite. */
        vec lost = v_log1p(v_sel(v_eq(at_label, zero), rest, sum - 1));
        lost = v_fma(-peak, v_sel(v_eq(peak, zero), zero, at_label), lost);
        if (smoothing > 0) lost = v_fma(-even, flat, lost);
        if (weights) lost = v_sel(counted, lost * weight, zero);
        total += v_sum(v_sel(v_first(n), lost, zero));
        const vec hit = v_sel(v_eq(first, label), weight, zero);
        if (weights)
            for (int q = 0; q < n; q++) right += hit[q];
        else
            right += v_sum(v_sel(v_first(n), hit, zero));
    }
    *right_ = right;
    return total;
}

/* sum_j c_j (x_j - highest), c: weights of the classes or NULL for ones.  A class of weight 0 adds 0, also where
 * its logit is -infinity. */
INLINE double FN(row_below)(const real *x, const real *classes, real highest, ptrdiff_t cols) {
    const vec zero = {0};
    double total = 0;
    for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
        const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
        vec sum = zero;
        for (ptrdiff_t j = j0; j < end; j += VL) {
            const int m = end - j >= VL ? VL : (int)(end - j);
            const vec down = v_load_part(x + j, m) - highest, c = classes ? v_load_part(classes + j, m) : v_set1(1);
            sum += v_sel(v_first(m), v_sel(v_eq(c, zero), zero, c * down), zero);
        }
        total += v_sum(sum);
    }
    return total;
}

/* Softmax cross-entropy of logits x (rows, cols) and whole labels (rows,), with class weights c (cols,) or
 * NULL for ones and smoothing s:
 *   q_j = (1 - s) [j = label] + s / cols     W = sum_j c_j q_j
 *   loss_i = W log sum_j exp(x_j) - sum_j c_j q_j x_j       dlogits_ij = scale w_i (W softmax(x)_j - c_j q_j) */
static double FN(softmax_cross_entropy)(void *dlogits_, ptrdiff_t ldd, const void *logits_, ptrdiff_t ldl,
                                        const int64_t *labels, const void *weights_, const void *classes_,
                                        double smoothing, double scale, ptrdiff_t rows, ptrdiff_t cols,
                                        double *right_) {
    real *d = dlogits_;
    const real *x = logits_, *weights = weights_, *classes = classes_;
    if (cols <= FEW && !classes)
        return FN(cross_entropy_of_few)(d, ldd, x, ldl, labels, weights, smoothing, scale, rows, cols, right_);
    const real even = (real)(smoothing / (double)cols), peak = (real)(1 - smoothing);
    double total = 0, class_sum = (double)cols;
    double right = 0;
    if (classes) {
        class_sum = 0;
        for (ptrdiff_t j = 0; j < cols; j++) class_sum += classes[j];
    }
    const real spread = (real)(class_sum * (smoothing / (double)cols));
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += VL) {
        /* a vector of rows at a time, to take their logarithms together */
        const int n = rows - i0 >= VL ? VL : (int)(rows - i0);
        real rests[VL] = {0}, whole[VL] = {0}, less[VL] = {0};
        for (int q = 0; q < n; q++, x += ldl, d += ldd) {
            const int64_t label = labels[i0 + q];
            const real weight = weights ? weights[i0 + q] : 1, highest = FN(row_highest)(x, cols);
            const int is_right = FN(is_first_highest)(x, label, highest, cols);
            right += is_right ? weight : 0;
            if (weight == 0) {
                memset(d, 0, (size_t)cols * sizeof(real));
                continue;
            }
            const real top = classes ? peak * classes[label] : peak, at_label = x[label] - highest;
            const double flat = smoothing > 0 ? even * FN(row_below)(x, classes, highest, cols) : 0;
            const double sum = FN(row_exp)(d, x, highest, cols);
            const real label_exp = d[label], factor = (real)scale * weight;
            double rest = sum - label_exp;
            if (is_right && rest < 1) {
                d[label] = 0; /* which is written below */
                rest = FN(row_sum)(d, NULL, cols);
            }
            rests[q] = (real)(at_label == 0 ? rest : sum - 1);
            whole[q] = top + spread;
            less[q] = (real)((top == 0 ? 0 : top * at_label) + flat);
            const real share = (real)(factor * whole[q] / sum);
            if (classes && smoothing > 0) {
                for (ptrdiff_t j = 0; j < cols; j += VL) {
                    const int m = cols - j >= VL ? VL : (int)(cols - j);
                    const vec c = v_load_part(classes + j, m);
                    v_store_last(d + j, v_fma(c, v_set1(-factor * even), v_load_part(d + j, m) * share), m);
                }
            } else {
                FN(row_affine)(d, d, share, -factor * even, cols);
            }
            d[label] = smoothing > 0 ? label_exp * share - factor * (top + even * (classes ? classes[label] : 1))
                                     : (real)(-(double)(factor * whole[q]) * rest / sum);
        }
        const vec lost = v_load(whole) * v_log1p(v_load(rests)) - v_load(less);
        for (int q = 0; q < n; q++) total += weights ? (double)weights[i0 + q] * lost[q] : (double)lost[q];
    }
    *right_ = right;
    return total;
}

/* The same for targets t (rows, cols), one-hot or soft: q_j = (1 - s) t_j + s / cols.  A class of target 0
 * adds 0, also where its logit is -infinity.  Right is a row whose highest logit stands where its highest
 * target does. */
static double FN(soft_cross_entropy)(void *dlogits_, ptrdiff_t ldd, const void *logits_, ptrdiff_t ldl,
                                     const void *targets_, const void *weights_, const void *classes_,
                                     double smoothing, double scale, ptrdiff_t rows, ptrdiff_t cols,
                                     double *right_) {
    real *d = dlogits_;
    const real *x = logits_, *t = targets_, *weights = weights_, *classes = classes_;
    const vec even = v_set1((real)(smoothing / (double)cols)), peak = v_set1((real)(1 - smoothing)), zero = {0};
    double total = 0;
    double right = 0;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldl, d += ldd, t += cols) {
        const real weight = weights ? weights[i] : 1;
        const real highest = FN(row_highest)(x, cols), likeliest = FN(row_highest)(t, cols);
        const ptrdiff_t label = FN(first_of)(t, likeliest, cols);
        right += label < cols && FN(is_first_highest)(x, label, highest, cols) ? weight : 0;
        if (weight == 0) {
            memset(d, 0, (size_t)cols * sizeof(real));
            continue;
        }
        double whole = 0, dot = 0;
        for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
            const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
            vec sum_q = zero, sum_qx = zero;
            for (ptrdiff_t j = j0; j < end; j += VL) {
                const int n = end - j >= VL ? VL : (int)(end - j);
                vec q = v_fma(v_load_part(t + j, n), peak, even);
                if (classes) q *= v_load_part(classes + j, n);
                q = v_sel(v_first(n), q, zero);
                sum_q += q;
                sum_qx += v_sel(v_eq(q, zero), zero, q * (v_load_part(x + j, n) - highest));
            }
            whole += v_sum(sum_q);
            dot += v_sum(sum_qx);
        }
        const double sum = FN(row_exp)(d, x, highest, cols);
        total += (double)weight * (whole * v_log1p(v_set1((real)(sum - 1)))[0] - dot);
        const real factor = (real)scale * weight;
        const vec share = v_set1((real)(factor * whole / sum)), less = v_set1(-factor);
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const int n = cols - j >= VL ? VL : (int)(cols - j);
            vec q = v_fma(v_load_part(t + j, n), peak, even);
            if (classes) q *= v_load_part(classes + j, n);
            v_store_last(d + j, v_fma(less, q, v_load_part(d + j, n) * share), n);
        }
    }
    *right_ = right;
    return total;
}

/* Multi-class hinge of scores x (rows, cols) and labels: with the violations v_j = x_j - x_label + margin
 *   loss_i = sum over j != label of max(0, v_j)
 *   dscores_ij = scale w_i [v_j > 0] for j != label, and minus their sum at the label
 * A violation that is NaN counts as one. */
static double FN(multiclass_hinge)(void *dscores_, ptrdiff_t ldd, const void *scores_, ptrdiff_t lds,
                                   const int64_t *labels, const void *weights_, double margin, double scale,
                                   ptrdiff_t rows, ptrdiff_t cols, double *right_) {
    real *d = dscores_;
    const real *x = scores_, *weights = weights_;
    const vec zero = {0}, one = v_set1(1);
    real counted[VL];
    double total = 0;
    double right = 0;
    for (int q = 0; q < VL; q++) counted[q] = (real)q;
    const vec lane = v_load(counted);
    for (ptrdiff_t i = 0; i < rows; i++, x += lds, d += ldd) {
        const int64_t label = labels[i];
        const real weight = weights ? weights[i] : 1, factor = (real)scale * weight;
        right += FN(is_first_highest)(x, label, FN(row_highest)(x, cols), cols) ? weight : 0;
        if (weight == 0) {
            memset(d, 0, (size_t)cols * sizeof(real));
            continue;
        }
        const vec at_label = v_set1(x[label]), slack = v_set1((real)margin), slope = v_set1(factor);
        double lost = 0, violations = 0;
        for (ptrdiff_t j0 = 0; j0 < cols; j0 += ROW_CHUNK) {
            const ptrdiff_t end = cols - j0 < ROW_CHUNK ? cols : j0 + ROW_CHUNK;
            vec sum = zero, violated = zero;
            for (ptrdiff_t j = j0; j < end; j += VL) {
                const int n = end - j >= VL ? VL : (int)(end - j);
                vec v = v_load_part(x + j, n) - at_label + slack;
                v = v_sel(v_eq(lane, v_set1((real)(label - j))), zero, v);
                v = v_sel(v_first(n), v, zero);
                const vmask kept = v_le(v, zero);
                sum += v_sel(kept, zero, v);
                violated += v_sel(kept, zero, one);
                v_store_last(d + j, v_sel(kept, zero, slope), n);
            }
            lost += v_sum(sum);
            violations += v_sum(violated);
        }
        d[label] = (real)(-(double)factor * violations);
        total += weight * lost;
    }
    *right_ = right;
    return total;
}

/* Losses that compare a prediction x with its target t, element by element; each gives loss and slope.
 * With d = x - t:
 *   mean squared error     d^2                                    2 d
 *   mean absolute error    |d|                                    sign(d), 0 where d is
 *   Huber                  d^2 / 2 up to |d| = delta,             d clipped to +-delta
 *                          then delta (|d| - delta / 2)
 * and for a logit x
 *   binary cross-entropy   -t log s - (1 - t) log(1 - s)          s - t,   s = 1 / (1 + exp(-x))
 * Huber's is c (d - c / 2) on both sides of delta, c being the clipped d.  Cross-entropy is
 * |x| (t or 1 - t) + log(1 + exp(-|x|)), and its slope (1 - t) s - t (1 - s): sums of what has one sign. */
INLINE vec FN(mean_squared_error_of)(vec x, vec t, vec delta, vec *slope) {
    const vec d = x - t;
    (void)delta;
    *slope = d + d;
    return d * d;
}
INLINE vec FN(mean_absolute_error_of)(vec x, vec t, vec delta, vec *slope) {
    const vec d = x - t, zero = {0}, one = v_set1(1);
    (void)delta;
    *slope = v_sel(v_gt(d, zero), one, v_sel(v_lt(d, zero), -one, d));
    return v_abs(d);
}
INLINE vec FN(huber_of)(vec x, vec t, vec delta, vec *slope) {
    const vec d = x - t, c = v_min(delta, v_max(-delta, d)); /* the bound first: NaN must come through */
    *slope = c;
    return c * (d - c * (real)0.5);
}
INLINE vec FN(binary_cross_entropy_of)(vec x, vec t, vec delta, vec *slope) {
    const vec a = v_abs(x), zero = {0}, one = v_set1(1), other_t = 1 - t;
    const vmask up = v_gt(x, zero);
    vec power;
    (void)delta;
    /* exp(-a) no smaller than a normal number: its power of two is then one too */
    const vec p = FN(exp_reduced)(-v_min(v_set1(FNN_REAL_BITS == 32 ? (real)87 : (real)708), a), 0, &power);
    const vec e = v_fma(power, p, power), gate = FN(reciprocal_of_sum)(one, e), other = e * gate;
    const vec high = v_sel(up, gate, other), low = v_sel(up, other, gate);
    *slope = v_fma(other_t, high, -(t * low));
    return v_fma(a, v_sel(up, other_t, t), FN(log1p_exp_from)(p, power) * power);
}

/* n of them side by side; weights: one for each, or NULL for `weight` everywhere (above 0). */
#define FNN_ELEMENT_LOSS(name)                                                                              \
    INLINE double FN(name##_run)(real *g, const real *x, const real *t, const real *weights, real weight,   \
                                 real scale, vec delta, ptrdiff_t n) {                                      \
        const vec zero = {0};                                                                               \
        double total = 0;                                                                                   \
        for (ptrdiff_t i0 = 0; i0 < n; i0 += ROW_CHUNK) {                                                   \
            const ptrdiff_t end = n - i0 < ROW_CHUNK ? n : i0 + ROW_CHUNK;                                  \
            vec sum = zero, slope;                                                                          \
            ptrdiff_t i = i0;                                                                               \
            for (; i + VL <= end; i += VL) {                                                                \
                const vec lost = FN(name##_of)(v_load(x + i), v_load(t + i), delta, &slope);                \
                if (weights) {                                                                              \
                    const vec w = v_load(weights + i);                                                      \
                    const vmask none = v_eq(w, zero);                                                       \
                    sum += v_sel(none, zero, w * lost);                                                     \
                    v_store(g + i, v_sel(none, zero, slope * (w * scale)));                                 \
                } else {                                                                                    \
                    sum = v_fma(v_set1(weight), lost, sum);                                                 \
                    v_store(g + i, slope * (weight * scale));                                               \
                }                                                                                           \
            }                                                                                               \
            if (i < end) {                                                                                  \
                const int m = (int)(end - i);                                                               \
                const vec w = weights ? v_load_part(weights + i, m) : v_set1(weight);                       \
                const vec lost = FN(name##_of)(v_load_part(x + i, m), v_load_part(t + i, m), delta, &slope);\
                const vmask none = v_eq(w, zero);                                                           \
                sum += v_sel(v_first(m), v_sel(none, zero, w * lost), zero);                                \
                v_store_last(g + i, v_sel(none, zero, slope * (w * scale)), m);                             \
            }                                                                                               \
            for (int q = 0; q < VL; q++) total += sum[q];                                                   \
        }                                                                                                   \
        return total;                                                                                       \
    }                                                                                                       \
    static double FN(name)(void *gradient_, ptrdiff_t ldg, const void *x_, ptrdiff_t ldx, const void *t_,   \
                           const void *weights_, double delta_, double scale, ptrdiff_t rows,               \
                           ptrdiff_t cols) {                                                                \
        real *g = gradient_;                                                                                \
        const real *x = x_, *t = t_, *weights = weights_;                                                   \
        const vec delta = v_set1((real)delta_);                                                             \
        double total = 0;                                                                                   \
        const int together = rows <= 1 || (ldg == cols && ldx == cols);                                     \
        if (together && (weights == NULL || cols == 1))                                                     \
            return FN(name##_run)(g, x, t, weights, 1, (real)scale, delta, rows * cols);                    \
        for (ptrdiff_t i = 0; i < rows; i++, g += ldg, x += ldx, t += cols) {                               \
            const real weight = weights ? weights[i] : 1;                                                   \
            if (weight == 0) memset(g, 0, (size_t)cols * sizeof(real));                                     \
            else total += FN(name##_run)(g, x, t, NULL, weight, (real)scale, delta, cols);                  \
        }                                                                                                   \
        return total;                                                                                       \
    }
FNN_ELEMENT_LOSS(mean_squared_error)
FNN_ELEMENT_LOSS(mean_absolute_error)
FNN_ELEMENT_LOSS(huber)
FNN_ELEMENT_LOSS(binary_cross_entropy)
#undef FNN_ELEMENT_LOSS

/* Rows of logits x that decide as their targets t do, in every column: x > 0 where t > 1/2; by their weights. */
static double FN(rows_decided)(const void *x_, ptrdiff_t ldx, const void *t_, const void *weights_, ptrdiff_t rows,
                               ptrdiff_t cols) {
    const real *x = x_, *t = t_, *weights = weights_;
    double right = 0;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, t += cols) {
        int wrong = 0;
        for (ptrdiff_t j = 0; j < cols; j++) wrong |= (x[j] > 0) != (t[j] > (real)0.5);
        if (!wrong) right += weights ? weights[i] : 1;
    }
    return right;
}
