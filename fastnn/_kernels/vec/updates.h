/* Parameter updates on flat buffers, in one pass, and the checks that guard them. */

/* Stochastic gradient descent with momentum (Polyak 1964) and Nesterov's form (Sutskever et al. 2013,
 * as PyTorch writes it), the L2 decay added to the gradient:
 *   g = dw + weight_decay w;   v = momentum v + g;   w -= lr v,   Nesterov: w -= lr (g + momentum v)
 * A velocity below the smallest normal number becomes 0: that of a dead unit would otherwise decay into
 * the subnormals and stay there, and arithmetic on those is many times slower (seen: steps of a small
 * network at a third of their speed after some epochs).
 * v may be NULL where momentum is 0.  w, dw and v must not overlap.  Split by ranges of elements. */
static void FN(sgd_update)(void *w_, const void *dw_, void *v_, ptrdiff_t n, double lr, double momentum,
                           int nesterov, double weight_decay) {
    real *restrict w = w_, *restrict v = v_;
    const real *restrict dw = dw_;
    const vec rate = v_set1((real)-lr), mu = v_set1((real)momentum), decay = v_set1((real)weight_decay);
    const vec tiny = v_set1(FNN_REAL_BITS == 32 ? (real)1.17549435e-38 : (real)2.2250738585072014e-308);
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const int m = n - i >= VL ? VL : (int)(n - i);
        const int whole = m == VL;
        vec wi = whole ? v_load(w + i) : v_load_part(w + i, m);
        vec g = whole ? v_load(dw + i) : v_load_part(dw + i, m);
        if (weight_decay != 0) g = v_fma(decay, wi, g);
        if (v) {
            vec vi = v_fma(mu, whole ? v_load(v + i) : v_load_part(v + i, m), g);
            vi = v_sel(v_lt(v_abs(vi), tiny), (vec){0}, vi);
            if (whole) v_store(v + i, vi);
            else v_store_part(v + i, vi, m);
            g = nesterov ? v_fma(mu, vi, g) : vi;
        }
        wi = v_fma(rate, g, wi);
        if (whole) v_store(w + i, wi);
        else v_store_part(w + i, wi, m);
    }
}

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

/* sum of x^2, in double over blocks: the penalty of L2, the norm of a gradient. */
static double FN(sum_of_squares)(const void *x_, ptrdiff_t n) {
    const real *x = x_;
    double total = 0;
    for (ptrdiff_t i0 = 0; i0 < n; i0 += 64 * VL) {
        const ptrdiff_t end = n - i0 < 64 * VL ? n : i0 + 64 * VL;
        vec sum = {0};
        for (ptrdiff_t i = i0; i < end; i += VL) {
            const vec v = end - i >= VL ? v_load(x + i) : v_load_part(x + i, (int)(end - i));
            sum = v_fma(v, v, sum);
        }
        for (int q = 0; q < VL; q++) total += sum[q];
    }
    return total;
}
