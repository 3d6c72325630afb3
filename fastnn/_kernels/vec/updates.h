/* Parameter updates on flat buffers, in one pass, and what guards them: clipping, norms, finiteness.
 *
 * w (parameters) and the state a, b are changed, dw is read; none may overlap.  All updates take the same
 * arguments; what a kernel has no state for is not touched and may be NULL.  Split over threads by ranges
 * of elements.  Before anything else the gradient is clipped, then what pulls at the weights is added:
 *   g = min(max(dw, -clip_value), clip_value) clip_scale + decay w + pull sign(w)
 * (decay: weight decay and the L2 penalty; pull: the L1 penalty, whose derivative at 0 is taken as 0)
 * and then
 *   sgd                w -= lr g
 *   momentum           a = momentum a + g;  w -= lr a                            (Polyak 1964)
 *   nesterov           a = momentum a + g;  w -= lr (g + momentum a)             (Sutskever et al. 2013)
 *   adagrad            a = a + g^2;  w -= lr g / (sqrt(a) + eps)                 (Duchi et al. 2011)
 *   rmsprop            a = rho a + (1 - rho) g^2;  w -= lr g / (sqrt(a) + eps)   (Tieleman and Hinton 2012)
 *   rmsprop_momentum   the same a;  b = momentum b + g / (sqrt(a) + eps);  w -= lr b
 *   adam               a = momentum a + (1 - momentum) g;  b = rho b + (1 - rho) g^2
 *                      w = keep w - lr a / (root sqrt(b) + eps)                  (Kingma and Ba 2015)
 * Adam's bias correction is in lr and root, the decoupled decay of AdamW (Loshchilov and Hutter 2019) in
 * keep: the caller makes them anew for each step, in double.
 *
 * An average that decays becomes 0 below the smallest normal number: that of a dead unit would go on
 * into the subnormals and stay there, and arithmetic on those is many times slower (seen: steps of a small
 * network at a third of their speed after some epochs).
 * Accuracy: a few roundings of each result; square root and division are exact ones (in memory they
 * cost nothing, the arrays come more slowly than they go). */

#undef update_rates
#define update_rates FN(fnn_update_rates)
typedef struct {
    int scaled, clipped, decayed, pulled;
    vec clip_value, clip_scale[2], decay, pull, keep, lr, momentum, new_a, rho, new_b, root, eps, tiny;
} update_rates;

INLINE update_rates FN(rates_of)(const fnn_update *u) {
    const int scaled = u->clip_scale[0] != 1 || u->clip_scale[1] != 1;
    const update_rates r = {
        .scaled = scaled,
        .clipped = u->clip_value < __builtin_inf() || scaled,
        .decayed = u->decay != 0,
        .pulled = u->pull != 0,
        .clip_value = v_set1((real)u->clip_value),
        .clip_scale = {v_set1((real)u->clip_scale[0]), v_set1((real)u->clip_scale[1])},
        .decay = v_set1((real)u->decay),
        .pull = v_set1((real)u->pull),
        .keep = v_set1((real)u->keep),
        .lr = v_set1((real)u->lr),
        .momentum = v_set1((real)u->momentum),
        .new_a = v_set1((real)(1 - u->momentum)),
        .rho = v_set1((real)u->rho),
        .new_b = v_set1((real)(1 - u->rho)),
        .root = v_set1((real)u->root),
        .eps = v_set1((real)u->eps),
        .tiny = v_set1(FNN_REAL_BITS == 32 ? (real)1.17549435e-38 : (real)2.2250738585072014e-308),
    };
    return r;
}

/* NaN passes: v_min and v_max return their second operand. */
INLINE vec FN(clipped)(vec g, const update_rates *r) {
    return v_min(r->clip_value, v_max(-r->clip_value, g)) * r->clip_scale[0] * r->clip_scale[1];
}
/* pull sign(w). */
INLINE vec FN(pulled)(vec w, const update_rates *r) {
    return v_sel(v_gt(w, (vec){0}), r->pull, v_sel(v_lt(w, (vec){0}), -r->pull, (vec){0}));
}
INLINE vec FN(settled)(vec average, const update_rates *r) {
    return v_sel(v_lt(v_abs(average), r->tiny), (vec){0}, average);
}

/* Each returns the new w. */
INLINE vec FN(sgd)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    (void)a, (void)b;
    return v_fma(-r->lr, g, w);
}
INLINE vec FN(momentum)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    (void)b;
    *a = FN(settled)(v_fma(r->momentum, *a, g), r);
    return v_fma(-r->lr, *a, w);
}
INLINE vec FN(nesterov)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    (void)b;
    *a = FN(settled)(v_fma(r->momentum, *a, g), r);
    return v_fma(-r->lr, v_fma(r->momentum, *a, g), w);
}
INLINE vec FN(adagrad)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    (void)b;
    *a = v_fma(g, g, *a);
    return v_fma(-r->lr, g / (v_sqrt(*a) + r->eps), w);
}
INLINE vec FN(rmsprop)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    (void)b;
    *a = FN(settled)(v_fma(r->rho, *a, r->new_b * (g * g)), r);
    return v_fma(-r->lr, g / (v_sqrt(*a) + r->eps), w);
}
INLINE vec FN(rmsprop_momentum)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    *a = FN(settled)(v_fma(r->rho, *a, r->new_b * (g * g)), r);
    *b = FN(settled)(v_fma(r->momentum, *b, g / (v_sqrt(*a) + r->eps)), r);
    return v_fma(-r->lr, *b, w);
}
INLINE vec FN(adam)(vec w, vec g, vec *a, vec *b, const update_rates *r) {
    *a = FN(settled)(v_fma(r->momentum, *a, r->new_a * g), r);
    *b = FN(settled)(v_fma(r->rho, *b, r->new_b * (g * g)), r);
    return v_fma(-r->lr, *a / v_fma(r->root, v_sqrt(*b), r->eps), w * r->keep);
}

#undef LOAD
#undef STORE
#define LOAD(p) (m == VL ? v_load(p) : v_load_part(p, m))
#define STORE(p, v) (m == VL ? v_store(p, v) : v_store_last(p, v, m))
#define X(name, states)                                                                              \
    INLINE void FN(name##_at)(real *w, const real *dw, real *a, real *b, int m, const update_rates *r) { \
        vec wi = LOAD(w), g = LOAD(dw), ai = {0}, bi = {0};                                          \
        if (states > 0) ai = LOAD(a);                                                                \
        if (states > 1) bi = LOAD(b);                                                                \
        if (r->clipped) g = FN(clipped)(g, r);                                                       \
        if (r->decayed) g = v_fma(r->decay, wi, g);                                                  \
        if (r->pulled) g += FN(pulled)(wi, r);                                                       \
        wi = FN(name)(wi, g, &ai, &bi, r);                                                           \
        STORE(w, wi);                                                                                \
        if (states > 0) STORE(a, ai);                                                                \
        if (states > 1) STORE(b, bi);                                                                \
    }                                                                                                \
    static void FN(name##_update)(void *w_, const void *dw_, void *a_, void *b_, ptrdiff_t n,        \
                                  const fnn_update *u) {                                             \
        real *restrict w = w_, *restrict a = states > 0 ? a_ : w_, *restrict b = states > 1 ? b_ : w_; \
        const real *restrict dw = dw_;                                                               \
        const update_rates r = FN(rates_of)(u);                                                      \
        ptrdiff_t i = 0;                                                                             \
        for (; i + VL <= n; i += VL) FN(name##_at)(w + i, dw + i, a + i, b + i, VL, &r);             \
        if (i < n) FN(name##_at)(w + i, dw + i, a + i, b + i, (int)(n - i), &r);                     \
    }
FNN_UPDATE_LIST(X)
#undef X

/* The clipping alone: dw in place. */
static void FN(clip)(void *dw_, ptrdiff_t n, const fnn_update *u) {
    real *dw = dw_;
    const update_rates r = FN(rates_of)(u);
    ptrdiff_t i = 0;
    if (!r.scaled) /* the clipping by value, which leaves time for what memory brings */
        for (; i + 4 * VL <= n; i += 4 * VL) {
            vec v[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) v[j] = v_min(r.clip_value, v_max(-r.clip_value, v_load(dw + i + j * VL)));
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) v_store(dw + i + j * VL, v[j]);
        }
    for (; i < n; i += VL) {
        const int m = n - i >= VL ? VL : (int)(n - i);
        STORE(dw + i, FN(clipped)(LOAD(dw + i), &r));
    }
}
#undef LOAD
#undef STORE

/* 1 if no element is NaN or infinite: x - x is 0 for a finite x, NaN for the rest. */
static int FN(all_finite)(const void *x_, ptrdiff_t n) {
    const real *x = x_;
    vec bad = {0};
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec v = n - i >= VL ? v_load(x + i) : v_load_part(x + i, (int)(n - i));
        bad += v - v;
    }
    return v_sum(bad) == 0;
}

/* sum of (scale x)^2 or of |scale x|, all of it in double.  In chunks, so that what is added is never much
 * smaller than what it is added to. */
#undef wide_bits
#define wide_bits FN(fnn_wide_bits)
typedef int64_t wide_bits __attribute__((vector_size(FNN_VBYTES)));
INLINE double FN(sum_of)(const real *x, ptrdiff_t n, double scale, int squares) {
    double total = 0;
    ptrdiff_t i = 0;
    while (n - i >= 4 * WIDE) {
        const ptrdiff_t end = n - i < 8192 ? n : i + 8192;
        FN(fnn_wide) sum[4] = {{0}};
        for (; i + 4 * WIDE <= end; i += 4 * WIDE)
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) {
                const FN(fnn_wide) v = scale * v_wide(x + i + q * WIDE);
                if (squares)
                    sum[q] = v_wide_fma(v, v, sum[q]);
                else
                    sum[q] += (FN(fnn_wide))((wide_bits)v & INT64_MAX); /* without the sign */
            }
        sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        for (int q = 0; q < WIDE; q++) total += sum[0][q];
    }
    for (; i < n; i++) {
        const double v = scale * (double)x[i];
        total += squares ? v * v : __builtin_fabs(v);
    }
    return total;
}
/* The penalty of L2, the norm of a gradient. */
static double FN(sum_of_squares)(const void *x, ptrdiff_t n, double scale) {
    return scale == 1 ? FN(sum_of)(x, n, 1, 1) : FN(sum_of)(x, n, scale, 1);
}
/* The penalty of L1. */
static double FN(sum_of_magnitudes)(const void *x, ptrdiff_t n) { return FN(sum_of)(x, n, 1, 0); }

/* Max-norm (Srivastava et al. 2014, section 5.1): w (rows, cols), rows ld apart; a column, the weights into
 * one unit, whose Euclidean norm is greater than `limit` is scaled to it, in place.  Norms are summed in
 * double.  A column whose norm is NaN or infinite is left as it is: whoever looks for such numbers sees
 * them.  Split over threads by columns, at most FNN_NORM_COLS in a call: their sums stay in L1 while the
 * rows pass by. */
static void FN(max_norm)(void *w_, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t cols, double limit) {
    real *w = w_;
    double squares[FNN_NORM_COLS] = {0};
    real scale[FNN_NORM_COLS];
    int longer = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const real *row = w + i * ld;
        ptrdiff_t j = 0;
        for (; j + WIDE <= cols; j += WIDE) {
            const FN(fnn_wide) v = v_wide(row + j);
            FN(fnn_wide) sum;
            __builtin_memcpy(&sum, squares + j, sizeof sum);
            sum = v_wide_fma(v, v, sum);
            __builtin_memcpy(squares + j, &sum, sizeof sum);
        }
        for (; j < cols; j++) squares[j] += (double)row[j] * (double)row[j];
    }
    for (ptrdiff_t j = 0; j < cols; j++) {
        const double norm = __builtin_sqrt(squares[j]);
        const int over = norm > limit && norm < __builtin_inf();
        scale[j] = over ? (real)(limit / norm) : 1;
        longer |= over;
    }
    if (!longer) return;
    for (ptrdiff_t i = 0; i < rows; i++) {
        real *row = w + i * ld;
        ptrdiff_t j = 0;
        for (; j + VL <= cols; j += VL) v_store(row + j, v_load(row + j) * v_load(scale + j));
        for (; j < cols; j++) row[j] *= scale[j];
    }
}

/* The largest |x|, of numbers that are not NaN. */
static double FN(largest)(const void *x_, ptrdiff_t n) {
    const real *x = x_;
    double largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double size = __builtin_fabs((double)x[i]);
        largest = size > largest ? size : largest;
    }
    return largest;
}
