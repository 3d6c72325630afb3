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

/* x 2^n in two factors, so that neither leaves the normal range. */
INLINE vec FN(scale_by)(vec x, ivec whole) {
    const ivec half = whole >> 1;
    return x * FN(exp2_whole)(half) * FN(exp2_whole)(whole - half);
}

/* |x|, and |x| with the sign of s. */
INLINE vec v_abs(vec x) { return (vec)((ivec)x & ~(ivec)v_set1((real)-0.0)); }
INLINE vec v_copysign(vec x, vec s) {
    const ivec sign = (ivec)v_set1((real)-0.0);
    return (vec)(((ivec)x & ~sign) | ((ivec)s & sign));
}

/* The reduction that exp and expm1 share: x = n ln2 + r with |r| <= ln2 / 2 (Cody and Waite: ln2 in two
 * parts, the first short enough for n * ln2_high to be exact), and exp(r) - 1 by its Taylor polynomial,
 * whose truncation is below an eighth of an ulp.  `low` is what x is short of: x + low is meant. */
#if FNN_REAL_BITS == 32
#define LOWEST -104.0f /* exp is 0 below, infinity above HIGHEST, whatever the rounding */
#define HIGHEST 89.0f
#else
#define LOWEST -746.0
#define HIGHEST 710.0
#endif
INLINE vec FN(reduced_expm1)(vec x, vec low, ivec *whole) {
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
    r = v_fma(n, v_set1(-ln2_low), r) + low;
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
    const vec p = FN(reduced_expm1)(x, (vec){0}, &whole) + 1;
    return FN(scale_by)(p, whole);
}

/* exp(x) - 1 for x <= 0 (and NaN), without cancellation: 2^n (exp(r) - 1) + (2^n - 1), in which the
 * second part is exact down to where the result is -1. */
INLINE vec v_expm1_down(vec x) {
    ivec whole;
    x = v_max(v_set1(FNN_REAL_BITS == 32 ? (real)-30 : (real)-50), x);
    const vec p = FN(reduced_expm1)(x, (vec){0}, &whole), scale = FN(exp2_whole)(whole);
    return v_fma(scale, p, scale - 1);
}
#undef LOWEST
#undef HIGHEST

/* The tail P(X > a) of a normal X for a >= 0, and exp(-a^2 / 2), both as value * 2^whole: what is
 * multiplied with them comes first, and underflow last.
 * Method: P = exp(-a^2 / 2) erfcx(z) / 2 with z = a / sqrt(2); erfcx(z) (1 + 2 z) is a polynomial of
 * t = (z - 4) / (z + 4) (fitted to Chebyshev nodes; error 1e-9 for float, 1e-17 for double).  a^2 / 2
 * is taken in two parts, since exp magnifies what rounding would take from it. */
INLINE vec FN(normal_tail)(vec a, vec *density, ivec *whole) {
#if FNN_REAL_BITS == 32
    const real most = 15, root_half = 0.707106781f;
    const ireal high_bits = ~(ireal)0xfff;
    static const real c[] = {
        -0.0006483392729f, -0.001154507247f, 0.00503052675f, -0.01601870925f, 0.03723113359f,
        -0.06635375587f, 0.09371948458f, -0.1010381598f, 0.06809796643f, 0.01537965165f,
        -0.1396211336f, 1.232995119f};
#else
    const real most = 39, root_half = 0.70710678118654752440;
    const ireal high_bits = ~(ireal)0x7ffffff;
    static const real c[] = {
        -1.8697909852778527612e-9, -1.3830047546437634836e-8, -7.7588716349817456664e-9,
        1.1570573063291135546e-7, 6.301873591913902797e-8, -8.3546553717904429358e-7,
        3.00930048774871261e-7, 5.7179944816568198791e-6, -0.000011224507834230548884,
        -0.000024403167082174330471, 0.00015062213454889496626, -0.00019925552215263570243,
        -0.00075777331555370152494, 0.0050319697609467636172, -0.016197734062804019505,
        0.037167515561691456678, -0.06633036581122782426, 0.09373283499685661797,
        -0.10103906603636469536, 0.068097054254735221396, 0.015379652102620946398,
        -0.13962111684056287351, 1.2329951186255525062};
#endif
    a = v_min(v_set1(most), a); /* exp(-a^2 / 2) is 0 from here on */
    const vec z = a * root_half, t = (z - 4) / (z + 4);
    vec q = v_set1(c[0]);
#pragma GCC unroll 32
    for (size_t i = 1; i < sizeof c / sizeof *c; i++) q = v_fma(q, t, v_set1(c[i]));
    const vec high = (vec)((ivec)a & high_bits);
    *density = FN(reduced_expm1)(high * high * (real)-0.5, (high - a) * (high + a) * (real)0.5, whole) + 1;
    return *density * q / (2 + 4 * z);
}
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

/* log(1 + e) for 0 <= e <= 1 (and NaN): the rounding error of 1 + e, divided by it, is put back. */
INLINE vec FN(log1p_unit)(vec e) {
    const vec u = e + 1;
    const vec y = v_log(u) + (e - (u - 1)) / u;
    return v_sel(v_le(e, v_set1(1)), y, e);
}
