/* Elementary functions of vectors.  Each opens with its method, its domain and its worst error: in ulp of
 * the result, as measured on avx512 / avx2 / baseline by benchmarks/accuracy.py.
 *
 * What makes an error of one ulp possible without a second precision: sums are kept as a rounded value and
 * what it lost (Fast2Sum: for |a| >= |b|, s = a + b has lost exactly b - (s - a)), products likewise
 * (v_lost), and scaling by 2^n comes last, so that a subnormal result is rounded once. */
#define v_exp FN(v_exp)
#define v_expm1_down FN(v_expm1_down)
#define v_log FN(v_log)
#define v_abs FN(v_abs)
#define v_copysign FN(v_copysign)

/* |x|, and |x| with the sign of s. */
INLINE vec v_abs(vec x) { return (vec)((ivec)x & ~(ivec)v_set1((real)-0.0)); }
INLINE vec v_copysign(vec x, vec s) {
    const ivec sign = (ivec)v_set1((real)-0.0);
    return (vec)(((ivec)x & ~sign) | ((ivec)s & sign));
}

/* c[0] + c[1] x + ... by Horner's rule, cut into two or four chains that run side by side: one chain of
 * dependent multiply-adds would be waited for. */
INLINE vec FN(poly)(vec x, const real *c, int terms) {
    const int chains = terms > 8 ? 4 : 2;
    const vec x2 = x * x, step = chains == 4 ? x2 * x2 : x2;
    vec sum[4];
#pragma GCC unroll 4
    for (int j = 0; j < chains; j++) {
        const int last = (terms - 1 - j) / chains * chains + j;
        sum[j] = v_set1(c[last]);
#pragma GCC unroll 16
        for (int i = last - chains; i >= 0; i -= chains) sum[j] = v_fma(sum[j], step, v_set1(c[i]));
    }
    const vec low = v_fma(sum[1], x, sum[0]);
    return chains == 2 ? low : v_fma(v_fma(sum[3], x, sum[2]), x2, low);
}
#define POLY(x, c) FN(poly)(x, c, sizeof(c) / sizeof *(c))

/* exp(x) = 2^n (1 + p) for finite x; returns p = exp(r) - 1.
 * Method: x = n ln2 + r with |r| <= ln2 / 2 (Cody and Waite: ln2 in two parts, the first short enough for
 * n * ln2_high to be exact), p = r + r^2 P(r), P minimax to 2^-34 (float) or 2^-57 (double) of exp(r). */
#if FNN_REAL_BITS == 32
#define LOG2E 1.44269504f
#define LN2_HIGH 0.693145752f
#define LN2_LOW 1.42860677e-6f
#else
#define LOG2E 1.4426950408889634074
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#endif
INLINE vec FN(exp_poly)(vec r) {
#if FNN_REAL_BITS == 32
    static const real c[] = {0.5f, 0.16666666f, 0.041666295f, 0.008333499f, 0.0013944695f, 0.00019789777f};
#else
    static const real c[] = {0.5000000000000011,     0.16666666666666408,   0.04166666666653004,
                             0.008333333333497055,   0.001388888894370441,  0.00019841269501773734,
                             2.480149299023174e-05,  2.755758996886263e-06, 2.76302959117413e-07,
                             2.4999128393097792e-08};
#endif
    return POLY(r, c);
}
INLINE vec FN(whole_powers)(vec x) {
    return v_fma(x, v_set1(LOG2E), v_set1(FN(whole_magic))) - FN(whole_magic);
}
INLINE vec FN(exp_reduction)(vec x, vec *n) { /* r */
    *n = FN(whole_powers)(x);
    return v_fma(*n, v_set1(-LN2_LOW), v_fma(*n, v_set1(-LN2_HIGH), x));
}
INLINE vec FN(exp_reduced)(vec x, vec *n) { /* p */
    const vec r = FN(exp_reduction)(x, n);
    return v_fma(FN(exp_poly)(r), r * r, r);
}
/* The same for x + low with |low| << |x|; *lost (where asked for) is what p has lost by rounding. */
INLINE vec FN(exp_reduced_low)(vec x, vec low, vec *n, vec *lost) {
    *n = FN(whole_powers)(x);
    const vec head = v_fma(*n, v_set1(-LN2_HIGH), x), tail = v_fma(*n, v_set1(-LN2_LOW), low);
    const vec r = head + tail, square = r * r, c = FN(exp_poly)(r), p = v_fma(c, square, r);
    if (lost) *lost = v_lost(c, square, p - r) + (tail - (r - head));
    return p;
}

/* exp(x) for every x: NaN stays, overflow gives infinity, underflow passes through the subnormals to 0. */
#if FNN_REAL_BITS == 32
#define LOWEST -104.0f /* exp is 0 below, infinity above HIGHEST, whatever the rounding */
#define HIGHEST 89.0f
#else
#define LOWEST -746.0
#define HIGHEST 710.0
#endif
INLINE vec v_exp(vec x) {
    vec n;
    x = v_max(v_set1(LOWEST), x); /* the constant first: NaN must come through */
    x = v_min(v_set1(HIGHEST), x);
    const vec r = FN(exp_reduction)(x, &n), s = r + 1; /* what s lost joins the small terms: half an ulp saved */
    return v_scale(s + v_fma(FN(exp_poly)(r), r * r, r - (s - 1)), n);
}

/* exp(x) - 1 for x <= 0 (and NaN; above, some number or other), without cancellation:
 * 2^n (exp(r) - 1) + (2^n - 1), in which the second part is exact down to where the result is -1; `lost` is
 * what their sum has lost. */
INLINE vec FN(expm1_down_low)(vec x, vec *lost) {
    vec n;
    x = v_max(v_set1(FNN_REAL_BITS == 32 ? (real)-30 : (real)-50), x);
    const vec p = FN(exp_reduced)(x, &n), scale = v_power(n), rest = scale - 1;
    const vec y = v_fma(scale, p, rest);
    *lost = v_fma(scale, p, rest - y); /* scale * p is exact, and not above rest except where that is 0 */
    return y;
}
INLINE vec v_expm1_down(vec x) {
    vec lost;
    return FN(expm1_down_low)(x, &lost);
}

/* The logistic gate 1 / (1 + exp(-x)) and one minus it, 1 / (1 + exp(x)): the smaller of the two is its value
 * here times 2^n, the larger one is its value here.
 *
 * Method: exp(-x) = 2^k (1 + p).  For k > 0 the gate is 2^-k / (2^-k + 1 + p), else 1 / (1 + 2^k (1 + p)):
 * with s = 2^-|k| either way a power of two over d = 1 + (s + q p), q = 1 or s.  What d lost by rounding
 * goes into one Newton step for 1 / d, so that p's error and one rounding are all that is left. */
typedef struct {
    vec gate, other, n;
    vmask low; /* where the gate is the smaller one */
} FN(logistic);
INLINE FN(logistic) FN(logistic_from)(vec p, vec k) {
    const vec one = v_set1(1), n = -v_abs(k), s = v_power(v_max(v_set1(-120), n));
    const vmask low = v_lt((vec){0}, k);
    const vec q = v_sel(low, one, s), e = v_fma(q, p, s);
    const vec d = one + e, lost = e - (d - one);
    const vec y = v_near_reciprocal(d), off = v_fma(lost, y, v_lost(d, y, one));
    FN(logistic) result = {.gate = v_fma(-off, y, y), .n = n, .low = low};
    result.other = result.gate * (p + 1);
    return result;
}
/* a gate and a (1 - gate): scaled last, so that a subnormal result is rounded once. */
INLINE vec FN(times_gate)(vec a, FN(logistic) s) {
    const vec y = a * s.gate;
    return v_sel(s.low, v_scale(y, s.n), y);
}
INLINE vec FN(times_other)(vec a, FN(logistic) s) {
    const vec y = a * s.other;
    return v_sel(s.low, y, v_scale(y, s.n));
}
INLINE vec FN(logistic_range)(vec x) { /* outside, the one is 1 and the other 0, also when multiplied with x */
    const real most = FNN_REAL_BITS == 32 ? 115 : 760;
    return v_min(v_set1(most), v_max(v_set1(-most), x));
}
INLINE FN(logistic) FN(logistic_of)(vec x) {
    vec k;
    const vec p = FN(exp_reduced)(-FN(logistic_range)(x), &k);
    return FN(logistic_from)(p, k);
}
INLINE FN(logistic) FN(logistic_of_low)(vec x, vec low) { /* of x + low, |low| << |x| */
    vec k;
    const vec p = FN(exp_reduced_low)(-FN(logistic_range)(x), -low, &k, 0);
    return FN(logistic_from)(p, k);
}

/* log(x) for positive normal x (all that softmax asks for).
 * Method: x = m 2^e with m in [sqrt(1/2), sqrt(2)), f = (m - 1) / (m + 1), log m = 2 artanh(f) by its
 * series in f^2 <= 0.0295, and e ln2 in two parts. */
INLINE vec v_log(vec x) {
#if FNN_REAL_BITS == 32
    const ivec root_half = (ivec)v_set1(0.70710678f);
    const ireal mantissa = 0x007fffff;
    static const real c[] = {2 / 3.f, 2 / 5.f, 2 / 7.f, 2 / 9.f, 2 / 11.f};
#else
    const ivec root_half = (ivec)v_set1(0.70710678118654752440);
    const ireal mantissa = 0x000fffffffffffff;
    static const real c[] = {2 / 3.,  2 / 5.,  2 / 7.,  2 / 9.,  2 / 11., 2 / 13.,
                             2 / 15., 2 / 17., 2 / 19., 2 / 21., 2 / 23.};
#endif
    const ivec shifted = (ivec)x - root_half;
    const vec e = __builtin_convertvector(shifted >> FNN_MANTISSA, vec);
    const vec m = (vec)((shifted & mantissa) + root_half);
    const vec f = (m - 1) / (m + 1), s = f * f;
    return v_fma(e, v_set1(LN2_HIGH), v_fma(e, v_set1(LN2_LOW), v_fma(POLY(s, c) * s, f, f + f)));
}

/* log(1 + exp(-a)) for a >= 0 (and NaN), as 2^n times what is returned.
 * Method: e = exp(-a) = 2^n (1 + p) is in [0, 1], where log(1 + e) = e (1 - 3/8 e - e R(e)); R is minimax to
 * 2^-29 / 2^-58 of the result, in powers of e - centre (those of e would cancel; the centre is one that
 * rounds the coefficients well).  1 + p and 1 - 3/8 e are each a rounded value and what it lost, and
 * 2^n is left to the caller. */
INLINE vec FN(log1p_exp_from)(vec p, vec n) { /* of exp(-a) = 2^n (1 + p) */
#if FNN_REAL_BITS == 32
    const real centre = 0.4921875f;
    static const real c[] = {0.0045454777f, -0.18069102f,  0.094438076f, -0.052001357f, 0.029619684f,
                             -0.017215686f, 0.010073476f, -0.0063604494f, 0.0046317563f, -0.0022646647f};
#else
    const real centre = 0.56640625;
    static const real c[] = {
        -0.00836537924141316,   -0.16748623711732702,   0.0837729605492666,     -0.044081512520983725,
        0.02396808414744447,    -0.013335478505393666,  0.0075477937139224625,  -0.004329023980009315,
        0.002509327879392884,   -0.0014671797467700214, 0.0008640384423491282,  -0.0005119681930091909,
        0.000305127188533022,   -0.0001825384232276416, 0.00010848065734173064, -6.589178846193555e-05,
        4.4626467676926594e-05, -2.404844381165836e-05, 3.7498681793979778e-06, -1.129759796546942e-05,
        1.7532162793023064e-05};
#endif
    const vec one = v_set1(1), slope = v_set1((real)-0.375);
    const vec m = p + 1, m_low = p - (m - 1), e = m * v_power(v_max(v_set1(-120), n));
    const vec f = v_fma(slope, e, one), f_low = v_lost(slope, e, f - one);
    const vec rest = v_fma(-e, POLY(e - centre, c), f_low);
    return v_fused(m, f, v_fma(m, rest, m_low * f));
}
INLINE vec FN(log1p_exp)(vec a, vec *n) {
    const vec p = FN(exp_reduced)(-v_min(v_set1(-LOWEST), a), n);
    return FN(log1p_exp_from)(p, *n);
}
#undef LOWEST
#undef HIGHEST

/* tanh(x) for every x.
 * Method: below 0.65, |x| + |x|^3 P(x^2), P minimax to 2^-27 / 2^-60; above, 1 - 2 / (1 + exp(2|x|)), in
 * which the error of the second term counts at most 0.43.  exp(2|x|) = 2^n (1 + p) as in exp_reduced, with
 * r = |x| - n ln2 / 2 and the powers of 2 in the coefficients (one part of ln2 will do: the second
 * term is below 2^(1 - n)). */
INLINE vec FN(v_tanh)(vec x) {
#if FNN_REAL_BITS == 32
    const real most = 9.5f, twice_log2e = 2.88539008f, half_ln2 = 0.346573591f;
    static const real small[] = {-0.33333263f, 0.13330902f, -0.053693105f, 0.020483596f, -0.005528821f};
    static const real c[] = {2, 1.3333333f, 0.6666607f, 0.26667196f, 0.08924605f, 0.025330914f};
#else
    const real most = 20, twice_log2e = 2.8853900817779268147, half_ln2 = 0.34657359027997265471;
    static const real small[] = {-0.33333333333333287,  0.13333333333325795,    -0.0539682539639583,
                                 0.021869488413260682,  -0.008863233465520481,  0.0035921058928854027,
                                 -0.0014556752738008765, 0.0005892417154729018, -0.0002364390152345364,
                                 9.057180753443465e-05, -2.921370061275061e-05, 5.62321790110075e-06};
    static const real c[] = {2.0000000000000044,    1.3333333333333126,   0.6666666666644806,
                             0.26666666667190575,   0.08888888923970822,  0.02539682496227038,
                             0.006349182205499325,  0.0014109486064057667, 0.0002829342301362309,
                             5.119821494906428e-05};
#endif
    const vec a = v_abs(x), one = v_set1(1), z = a * a;
    const vec near = v_fma(a * z, POLY(z, small), a);
    const vec far = v_min(v_set1(most), a);
    const vec n = v_fma(far, v_set1(twice_log2e), v_set1(FN(whole_magic))) - FN(whole_magic);
    const vec r = v_fma(n, v_set1(-half_ln2), far), p = v_fma(POLY(r, c), r * r, r + r);
    const vec scale = v_power(n), d = v_fma(scale, p, scale + 1);
    const vec y = v_near_reciprocal(d), inverse = v_fma(-v_lost(d, y, one), y, y);
    return v_copysign(v_sel(v_lt(a, v_set1((real)0.65)), near, v_fma(inverse, v_set1(-2), one)), x);
}

/* The tail of the normal distribution for a >= 0 (and NaN), in factors:
 * P(X > a) = (q + q_low) w 2^n (1 + p + more) and exp(-a^2 / 2) = 2^n (1 + p).
 * Method: exp(-a^2 / 2) by exp_reduced, a^2 as its rounded value and what that lost, since exp magnifies it;
 * exp(a^2 / 2) P(X > a) = w Q(w), w = 1 / (1 + a / 4), Q minimax to 2^-29 / 2^-59 in powers of w - centre.
 * What w lost goes into `more`, times how fast w Q(w) grows, to which 3/4 + 2.4 w comes within 4%. */
typedef struct {
    vec a, q, q_low, w, p, more, n; /* a: as it was given, cut where a P(X > a) is 0 */
} FN(normal);
INLINE FN(normal) FN(normal_tail)(vec a) {
#if FNN_REAL_BITS == 32
    const real most = 15, centre = 0.50390625f;
    static const real c[] = {0.19001451f,   0.30698997f,   0.39153105f,   0.37682718f, 0.24275905f,  0.059014592f,
                             -0.057301726f, -0.051976513f, 0.0119778495f, 0.027617812f, -0.01153565f};
#else
    const real most = 39, centre = 0.40625;
    static const real c[] = {
        0.16343951444933327,   0.2404253949089389,    0.2944052441214804,     0.28852516399636025,
        0.2074950786200242,    0.08189615361522425,   -0.021323679519734063,  -0.04962763389145345,
        -0.01425754277738196,  0.021883048173845208,  0.01563551982089138,    -0.010704774333804064,
        -0.01263077988434298,  0.006955706629053179,  0.00999975880407003,    -0.00632246976278166,
        -0.007843905526134967, 0.007224545469319729,  0.005237446343502698,   -0.0087374314872559,
        -0.00034295102913540197, 0.007433056644644673, -0.005567437332383783, 0.0014069342499127204};
#endif
    FN(normal) t;
    const vec one = v_set1(1);
    t.a = v_min(v_set1(most), a);
    const vec square = t.a * t.a;
    vec lost_p = {0}; /* in float there is room for it */
    t.p = FN(exp_reduced_low)(square * (real)-0.5, v_lost(t.a, t.a, square) * (real)-0.5, &t.n,
                              FNN_REAL_BITS == 64 ? &lost_p : 0);
    const vec fourth = t.a * (real)0.25, d = one + fourth, lost = fourth - (d - one);
    const vec y = v_near_reciprocal(d);
    t.w = v_fma(-v_lost(d, y, one), y, y);
    const vec off = v_fma(lost, t.w, v_lost(d, t.w, one)); /* w (1 - off) is what w should be */
    t.more = lost_p - off * v_fma(t.w, v_set1((real)2.4), v_set1((real)0.75));
    /* the last two steps of Horner's rule, the last one with what it lost */
    const vec x = t.w - centre, inner = FN(poly)(x, c + 2, sizeof c / sizeof *c - 2);
    const vec slope = v_fma(x, inner, v_set1(c[1]));
    t.q = v_fma(x, slope, v_set1(c[0]));
    t.q_low = v_lost(x, slope, t.q - c[0]);
    if (FNN_REAL_BITS == 64) t.q_low = v_fma(x, v_lost(x, inner, slope - c[1]), t.q_low); /* and the last but one */
    return t;
}
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
