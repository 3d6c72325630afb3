/* Elementary functions of vectors.  Each opens with its method, its domain and its worst error. */
#define v_exp FN(v_exp)
#define v_expm1_down FN(v_expm1_down)
#define v_log FN(v_log)
#define v_abs FN(v_abs)
#define v_copysign FN(v_copysign)

/* 2^n for whole n in the normal range, by writing the exponent. */
INLINE vec FN(exp2_whole)(ivec n) {
#if FNN_REAL_BITS == 32
    return (vec)((n + 127) << 23);
#else
    return (vec)((n + 1023) << 52);
#endif
}

/* |x|, and |x| with the sign of s. */
INLINE vec v_abs(vec x) { return (vec)((ivec)x & ~(ivec)v_set1((real)-0.0)); }
INLINE vec v_copysign(vec x, vec s) {
    const ivec sign = (ivec)v_set1((real)-0.0);
    return (vec)(((ivec)x & ~sign) | ((ivec)s & sign));
}

/* The reduction that exp and expm1 share: x = n ln2 + r with |r| <= ln2 / 2 (Cody and Waite: ln2 in two
 * parts, the first short enough for n * ln2_high to be exact), and exp(r) - 1 by its Taylor polynomial,
 * whose truncation is below an eighth of an ulp. */
#if FNN_REAL_BITS == 32
#define LOWEST -104.0f /* exp is 0 below, infinity above HIGHEST, whatever the rounding */
#define HIGHEST 89.0f
#else
#define LOWEST -746.0
#define HIGHEST 710.0
#endif
INLINE vec FN(reduced_expm1)(vec x, ivec *whole) {
#if FNN_REAL_BITS == 32
    const real log2e = 1.44269504f, magic = 12582912.0f; /* 1.5 * 2^23 */
    const real ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
    static const real c[] = {1.98412698e-4f, 1.38888889e-3f, 8.33333333e-3f, 4.16666667e-2f, 1.66666667e-1f, 0.5f};
#else
    const real log2e = 1.4426950408889634074, magic = 6755399441055744.0; /* 1.5 * 2^52 */
    const real ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static const real c[] = {1.60590438368216146e-10, 2.08767569878680990e-9, 2.50521083854417188e-8,
                             2.75573192239858907e-7,  2.75573192239858907e-6, 2.48015873015873016e-5,
                             1.98412698412698413e-4,  1.38888888888888889e-3, 8.33333333333333333e-3,
                             4.16666666666666667e-2,  1.66666666666666667e-1, 0.5};
#endif
    const vec t = v_fma(x, v_set1(log2e), v_set1(magic));
    const vec n = t - magic;
    *whole = (ivec)t - (ivec)v_set1(magic);
    vec r = v_fma(n, v_set1(-ln2_high), x);
    r = v_fma(n, v_set1(-ln2_low), r);
    vec p = v_set1(c[0]);
#pragma GCC unroll 16
    for (size_t i = 1; i < sizeof c / sizeof *c; i++) p = v_fma(p, r, v_set1(c[i]));
    return v_fma(p, r * r, r);
}

/* exp(x) for every x: NaN stays, overflow gives infinity, underflow passes through the subnormals to 0.
 * Method: the reduction above, and 2^n in two factors so that neither leaves the normal range. */
INLINE vec v_exp(vec x) {
    ivec whole;
    x = v_max(v_set1(LOWEST), x); /* the constant first: NaN must come through */
    x = v_min(v_set1(HIGHEST), x);
    const vec p = FN(reduced_expm1)(x, &whole) + 1;
    const ivec half = whole >> 1;
    return p * FN(exp2_whole)(half) * FN(exp2_whole)(whole - half);
}

/* exp(x) - 1 for x <= 0 (and NaN), without cancellation: 2^n (exp(r) - 1) + (2^n - 1), in which the
 * second part is exact down to where the result is -1. */
INLINE vec v_expm1_down(vec x) {
    ivec whole;
    x = v_max(v_set1(FNN_REAL_BITS == 32 ? (real)-30 : (real)-50), x);
    const vec p = FN(reduced_expm1)(x, &whole), scale = FN(exp2_whole)(whole);
    return v_fma(scale, p, scale - 1);
}
#undef LOWEST
#undef HIGHEST

/* log(x) for positive normal x (all that softmax asks for).
 * Method: x = m 2^e with m in [sqrt(1/2), sqrt(2)), f = (m - 1) / (m + 1), log m = 2 artanh(f) by its
 * series in f^2 <= 0.0295, and e ln2 in two parts. */
INLINE vec v_log(vec x) {
#if FNN_REAL_BITS == 32
    const ivec root_half = (ivec)v_set1(0.70710678f);
    const ireal mantissa = 0x007fffff;
    const int bits = 23;
    const real ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
    static const real c[] = {2 / 11.f, 2 / 9.f, 2 / 7.f, 2 / 5.f, 2 / 3.f};
#else
    const ivec root_half = (ivec)v_set1(0.70710678118654752440);
    const ireal mantissa = 0x000fffffffffffff;
    const int bits = 52;
    const real ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static const real c[] = {2 / 23., 2 / 21., 2 / 19., 2 / 17., 2 / 15., 2 / 13.,
                             2 / 11., 2 / 9.,  2 / 7.,  2 / 5.,  2 / 3.};
#endif
    const ivec shifted = (ivec)x - root_half;
    const vec e = __builtin_convertvector(shifted >> bits, vec);
    const vec m = (vec)((shifted & mantissa) + root_half);
    const vec f = (m - 1) / (m + 1), s = f * f;
    vec p = v_set1(c[0]);
    for (size_t i = 1; i < sizeof c / sizeof *c; i++) p = v_fma(p, s, v_set1(c[i]));
    return v_fma(e, v_set1(ln2_high), v_fma(e, v_set1(ln2_low), v_fma(p * s, f, f + f)));
}
