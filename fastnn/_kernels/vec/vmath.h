/* Elementary functions of vectors.  Each opens with its method, its domain and its worst error: in ulp of
 * the result, of float / double on the worst instruction set, as measured by benchmarks/accuracy.py (docs/accuracy.md).
 *
 * What makes an error of one ulp possible without a second precision: sums are kept as a rounded value and
 * what it lost (Fast2Sum: for |a| >= |b|, s = a + b has lost exactly b - (s - a)), products likewise
 * (v_lost), and scaling by 2^n comes last, so that a subnormal result is rounded once. */
#define v_exp FN(v_exp)
#define v_exp_down FN(v_exp_down)
#define v_expm1_down FN(v_expm1_down)
#define v_log FN(v_log)
#define v_log1p FN(v_log1p)
#define v_abs FN(v_abs)
#define v_copysign FN(v_copysign)

/* |x|, and |x| with the sign of s. */
INLINE vec v_abs(vec x) { return (vec)((ivec)x & ~(ivec)v_set1((real)-0.0)); }
INLINE vec v_copysign(vec x, vec s) {
    const ivec sign = (ivec)v_set1((real)-0.0);
    return (vec)(((ivec)x & ~sign) | ((ivec)s & sign));
}

/* c[0] + c[1] x + ... by Horner's rule.  One chain of dependent multiply-adds would be waited for: it is cut into two or
 * four that run side by side, or left whole where the loops mix vectors and have 16 registers for them: there a
 * second chain of few terms costs more in registers than it saves. */
INLINE vec FN(poly)(vec x, const real *c, int terms) {
    const int chains = FNN_VBYTES == 64 ? (terms > 8 ? 4 : 2) : terms > 12 ? 2 : 1;
    const vec x2 = x * x, step = chains == 4 ? x2 * x2 : chains == 2 ? x2 : x;
    vec sum[4];
#pragma GCC unroll 4
    for (int j = 0; j < chains; j++) {
        const int last = (terms - 1 - j) / chains * chains + j;
        sum[j] = v_set1(c[last]);
#pragma GCC unroll 24
        for (int i = last - chains; i >= 0; i -= chains) sum[j] = v_fma(sum[j], step, v_set1(c[i]));
    }
    if (chains == 1) return sum[0];
    const vec low = v_fma(sum[1], x, sum[0]);
    return chains == 2 ? low : v_fma(v_fma(sum[3], x, sum[2]), x2, low);
}
#define POLY(x, c) FN(poly)(x, c, sizeof(c) / sizeof *(c))

#if FNN_TABLES
/* The same with coefficients of each lane's own, those of column i mod FNN_TABLES: what takes a long polynomial takes a
 * short one in each of so many intervals.  In one chain, for the fewest instructions: vectors are mixed by the loops. */
INLINE vec FN(table_poly)(vec x, const real (*c)[FNN_TABLES], int terms, ivec i) {
    vec sum = v_lookup(c[terms - 1], i);
#pragma GCC unroll 16
    for (int k = terms - 2; k >= 0; k--) sum = v_fma(sum, x, v_lookup(c[k], i));
    return sum;
}
#endif

/* exp(x) = 2^n (1 + p) for finite x; returns p = exp(r) - 1.
 * Method: x = n ln2 + r with |r| <= ln2 / 2 (Cody and Waite: ln2 in two parts, the first short enough for
 * n * ln2_high to be exact), p = r + r^2 P(r), P minimax to 2^-28 (float) or 2^-57 (double) of exp(r).
 *
 * n is what adding `whole_magic` leaves in the low bits; with the exponent's bias added as well, and a lift that the
 * caller may ask for, one shift makes 2^(n + lift) of it.  A lift keeps the power a normal number where the result
 * may be a subnormal one: the caller multiplies by 2^-lift last, and rounds once. */
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
    static const real c[] = {0.49999994f, 0.16666521f, 0.04166839f, 0.0083687454f, 0.001381454f};
#else
    static const real c[] = {0.5000000000000011,     0.16666666666666408,   0.04166666666653004,
                             0.008333333333497055,   0.001388888894370441,  0.00019841269501773734,
                             2.480149299023174e-05,  2.755758996886263e-06, 2.76302959117413e-07,
                             2.4999128393097792e-08};
#endif
    return POLY(r, c);
}
INLINE vec FN(power_of_two)(int n) { /* of one n for all lanes, in the normal range */
    return (vec)((ivec){0} + ((ireal)(n + FNN_BIAS) << FNN_MANTISSA));
}
INLINE vec FN(whole_times)(vec x, real factor, int lift, vec *power) { /* n, the whole number next to x * factor */
    const vec magic = v_set1(FN(whole_magic) + (real)(FNN_BIAS + lift)), shifted = v_fma(x, v_set1(factor), magic);
    *power = (vec)((FN(fnn_bits))shifted << FNN_MANTISSA);
    return shifted - magic;
}
INLINE vec FN(exp_whole)(vec x, int lift, vec *power) { return FN(whole_times)(x, LOG2E, lift, power); }
INLINE vec FN(exp_rest)(vec x, vec n) { return v_fma(n, v_set1(-LN2_LOW), v_fma(n, v_set1(-LN2_HIGH), x)); }
INLINE vec FN(exp_reduced)(vec x, int lift, vec *power) { /* p */
    const vec r = FN(exp_rest)(x, FN(exp_whole)(x, lift, power));
    return v_fma(FN(exp_poly)(r), r * r, r);
}
/* The same for x + low with |low| << |x|; *lost (where asked for) is what p has lost by rounding. */
INLINE vec FN(exp_reduced_low)(vec x, vec low, int lift, vec *power, vec *lost) {
    const vec n = FN(exp_whole)(x, lift, power);
    const vec head = v_fma(n, v_set1(-LN2_HIGH), x), tail = v_fma(n, v_set1(-LN2_LOW), low);
    const vec r = head + tail, square = r * r, c = FN(exp_poly)(r), p = v_fma(c, square, r);
    if (lost) *lost = v_lost(c, square, p - r) + (tail - (r - head));
    return p;
}

/* exp(x) for every x: NaN stays, overflow gives infinity, underflow passes through the subnormals to 0.
 * 0.84 / 0.89 ulp. */
#undef LIFT
#if FNN_REAL_BITS == 32
#define LIFT 48
#define LOWEST -104.0f /* exp is 0 below, infinity above HIGHEST, whatever the rounding */
#define HIGHEST 89.0f
#else
#define LIFT 128
#define LOWEST -746.0
#define HIGHEST 710.0
#endif
INLINE vec FN(exp_times)(vec r) { /* exp(r): what the sum with 1 lost joins the small terms, half an ulp saved */
    const vec s = r + 1;
    return s + v_fma(FN(exp_poly)(r), r * r, r - (s - 1));
}
INLINE vec v_exp(vec x) {
    vec power;
    x = v_max(v_set1(LOWEST), x); /* the constant first: NaN must come through */
    x = v_min(v_set1(HIGHEST), x);
    const vec n = FN(exp_whole)(x, 0, &power);
    return v_scale(FN(exp_times)(FN(exp_rest)(x, n)), n);
}
/* The same for x <= 0 (and NaN; above, some number or other), the power in one shift. */
INLINE vec v_exp_down(vec x) {
    vec power;
    x = v_max(v_set1(LOWEST), x);
    const vec n = FN(exp_whole)(x, LIFT, &power);
    return FN(exp_times)(FN(exp_rest)(x, n)) * power * FN(power_of_two)(-LIFT);
}

/* exp(x) - 1 for x <= 0 (and NaN; above, some number or other), without cancellation:
 * 2^n (exp(r) - 1) + (2^n - 1), in which the second part is exact down to where the result is -1; `lost` is
 * what their sum has lost.  As ELU 0.99 / 1.17 ulp. */
INLINE vec FN(expm1_down_low)(vec x, vec *lost) {
    vec scale;
    x = v_max(v_set1(FNN_REAL_BITS == 32 ? (real)-30 : (real)-50), x);
    const vec p = FN(exp_reduced)(x, 0, &scale), rest = scale - 1;
    const vec y = v_fma(scale, p, rest);
    *lost = v_fma(scale, p, rest - y); /* scale * p is exact, and not above rest except where that is 0 */
    return y;
}
INLINE vec v_expm1_down(vec x) {
    vec lost;
    return FN(expm1_down_low)(x, &lost);
}

/* 1 / a from an estimate y and off = a y - 1: in y (1 - off + off^2) only the last operation rounds by more than a
 * trifle. */
INLINE vec FN(corrected)(vec y, vec off) { return v_fma(v_fma(off, off, -off), y, y); }
/* 1 / (d + low) for a rounded sum d > 0, a normal number as 1 / d is, and what it lost. */
INLINE vec FN(reciprocal)(vec d, vec low) {
    const vec y = v_near_reciprocal(d);
    return FN(corrected)(y, v_fma(low, y, v_lost(d, y, v_set1(1))));
}
/* 1 / (most + least) for most >= |least|, likewise.  In float, with fused multiply-adds, the sum is wanted for the
 * estimate alone: most y - 1 is rounded instead, by a quarter of the result's last place, and two operations less are
 * made.  (In double SiLU would come to 1.92 ulp of 2.) */
INLINE vec FN(reciprocal_of_sum)(vec most, vec least) {
    const vec d = most + least;
#if FNN_REAL_BITS == 32 && (defined(__FMA__) || defined(__aarch64__))
    const vec y = v_near_reciprocal(d);
    return FN(corrected)(y, v_fma(least, y, v_lost(most, y, v_set1(1))));
#else
    return FN(reciprocal)(d, least - (d - most));
#endif
}

/* The logistic gate 1 / (1 + exp(-x)) times 2^LIFT, and one minus the gate, 1 / (1 + exp(x)).
 *
 * Method: exp(-x) = 2^k (1 + p); of 1 and 2^k, with `most` the larger, the gate is 1 / (most + (least + 2^k p)), a
 * sum that is not rounded before it is inverted, so that little more than p's error and one rounding are left.  All is divided
 * by 2^LIFT, which keeps 2^k a normal number where the gate is a subnormal one.  As sigmoid 1.22 / 1.07 ulp. */
#undef GATE_LEAST
#undef GATE_MOST
#if FNN_REAL_BITS == 32
#define GATE_LEAST -115.0f   /* below, the gate is 0 also when multiplied with x; */
#define GATE_MOST 31.999998f /* above, it is 1; the last number below a power of two (see `gated` in activations.h) */
#else
#define GATE_LEAST -760.0
#define GATE_MOST 63.99999999999999
#endif
typedef struct {
    vec gate, other;
} FN(logistic);
INLINE FN(logistic) FN(logistic_from)(vec p, vec power) { /* power: 2^(k - LIFT) */
    const vec one = FN(power_of_two)(-LIFT), most = v_max(power, one), least = v_min(power, one);
    FN(logistic) s = {.gate = FN(reciprocal_of_sum)(most, v_fma(power, p, least))};
    s.other = v_fma(power, p, power) * s.gate;
    return s;
}
#if FNN_TABLES == 32
/* exp(x) = power (1 + p) in steps of sixteenths, for 3 of 17 multiply-adds less, which are what sigmoid waits for:
 * x = m ln2 / 16 + r with m = 16 n + j and |r| <= ln2 / 32, power = 2^(n + lift) 2^(j / 16).  The root is one of 16
 * numbers, in bits that add up with those of m as they come from the one shift; what it lost by rounding, relatively,
 * joins r.  P minimax to 2^-29. */
INLINE vec FN(exp_sixteenths)(vec x, int lift, vec *power) {
    static const int32_t roots[16] __attribute__((aligned(64))) = {
        0,       -152893, -289342, -408621, -509968, -592590, -655657, -698305,
        -719629, -718684, -694486, -646004, -572163, -471841, -343865, -187011,
    };
    static const real lost[16] __attribute__((aligned(64))) = {
        0.0f,          4.6285471e-08f, -1.1992157e-08f, 4.7297824e-08f,  3.1934182e-08f,  3.6210572e-08f,
        -3.099072e-08f, -7.4752133e-09f, 1.7114271e-08f, -3.0476834e-08f, 5.2333342e-09f, 6.1075918e-09f,
        -1.4719605e-08f, -5.2587952e-09f, -6.1282597e-09f, 5.1406093e-09f,
    };
    const vec magic = v_set1(FN(whole_magic) + (real)(16 * (FNN_BIAS + lift))), shifted = v_fma(x, v_set1(16 * LOG2E), magic);
    const vec root = v_permute(v_load((const real *)roots), (ivec)shifted), m = shifted - magic;
    *power = (vec)(((ivec)shifted << (FNN_MANTISSA - 4)) + (ivec)root);
    const vec r = v_fma(m, v_set1(-LN2_LOW / 16), v_fma(m, v_set1(-LN2_HIGH / 16), x));
    return v_fma(v_fma(r, v_set1(0.16667038f), v_set1(0.5000162f)), r * r, r + v_permute(v_load(lost), (ivec)shifted));
}
#endif
/* For x between GATE_LEAST and GATE_MOST. */
INLINE FN(logistic) FN(logistic_of)(vec x) {
    vec power;
#if FNN_TABLES == 32
    const vec p = FN(exp_sixteenths)(-x, -LIFT, &power);
#else
    const vec p = FN(exp_reduced)(-x, -LIFT, &power);
#endif
    return FN(logistic_from)(p, power);
}
INLINE FN(logistic) FN(logistic_of_low)(vec x, vec low) { /* of x + low, |low| << |x| */
    vec power;
    const vec p = FN(exp_reduced_low)(-x, -low, -LIFT, &power, 0);
    return FN(logistic_from)(p, power);
}
INLINE vec FN(logistic_range)(vec x) { return v_min(v_set1(GATE_MOST), v_max(v_set1(GATE_LEAST), x)); }
/* a times the gate: the lift goes last, so that a subnormal result is rounded once. */
INLINE vec FN(times_gate)(vec a, FN(logistic) s) { return a * s.gate * FN(power_of_two)(-LIFT); }

/* log(x) for positive normal x (all that softmax asks for).
 * Method: x = m 2^e with m in [sqrt(1/2), sqrt(2)), f = (m - 1) / (m + 1), log m = 2 artanh(f) by its
 * series in f^2 <= 0.0295, and e ln2 in two parts.  From 1 to 2^40 1.95 / 1.98 ulp (no operation shows it
 * bare: measured against long double). */
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

/* log(1 + z) for z >= 0, NaN where z is: log u of the rounded u = 1 + z, times z / (u - 1) for what the
 * rounding took (Kahan's way).  3.8 / 3.8 ulp: for the logarithm of a sum, a loss, which is added up with others. */
INLINE vec v_log1p(vec z) {
    const vec u = 1 + z, rounded = u - 1;
    const vec near = v_sel(v_eq(rounded, (vec){0}), z, v_log(u) * (z / rounded));
    return v_sel(v_lt(u, v_set1((real)__builtin_inf())), near, u);
}

/* log(1 + exp(-a)) for a >= 0 (and NaN), as 2^n times what is returned.
 * Method: e = exp(-a) = 2^n (1 + p) is in [0, 1], where log(1 + e) = e (1 - 3/8 e - e R(e)); R is minimax to
 * 2^-29 / 2^-58 of the result, in powers of e - centre (those of e would cancel; the centre is one that
 * rounds the coefficients well).  1 + p and 1 - 3/8 e are each a rounded value and what it lost, and
 * 2^n is left to the caller.  As softplus 1.33 / 1.38 ulp. */
INLINE vec FN(log1p_exp_from)(vec p, vec power) { /* of exp(-a) = power (1 + p) */
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
    const vec m = p + 1, m_low = p - (m - 1), e = m * power;
    const vec f = v_fma(slope, e, one), f_low = v_lost(slope, e, f - one);
    const vec rest = v_fma(-e, POLY(e - centre, c), f_low);
    return v_fused(m, f, v_fma(m, rest, m_low * f));
}
#if FNN_TABLES == 32
/* The same for one function alone: with a = n ln2 + r, |r| <= ln2 / 2, 2^n log(1 + exp(-a)) is a
 * polynomial in r for each n, minimax to 2^-25, and exp(-r) from n = 24 on.  As softplus 1.33 ulp. */
INLINE vec FN(log1p_exp)(vec a) {
    /* column j: n = -j mod 32; powers of r upwards */
    static const real c[7][32] __attribute__((aligned(64))) = {
        {0.6931472f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 0.99999994f, 0.9999999f, 0.99999976f,
         0.9999995f, 0.99999905f, 0.9999981f, 0.9999962f, 0.9999924f, 0.99998474f, 0.9999695f, 0.99993896f,
         0.9998779f, 0.9997559f, 0.999512f, 0.9990247f, 0.99805194f, 0.99611396f, 0.99226797f, 0.98469305f,
         0.96999395f, 0.94226426f, 0.8925742f, 0.8109302f},
        {-0.50000036f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -0.99999994f, -0.99999994f, -0.9999998f,
         -0.9999996f, -0.9999991f, -0.99999815f, -0.99999624f, -0.99999243f, -0.9999848f, -0.99996954f,
         -0.99993896f, -0.9998779f, -0.9997559f, -0.99951196f, -0.9990244f, -0.9980507f, -0.99610895f, -0.99224806f,
         -0.9846154f, -0.96969694f, -0.9411764f, -0.88888884f, -0.8f, -0.6666666f},
        {0.12501155f, 0.49999994f, 0.4999999f, 0.49999988f, 0.49999985f, 0.4999996f, 0.49999893f, 0.49999788f,
         0.49999577f, 0.49999994f, 0.49999982f, 0.49999958f, 0.4999991f, 0.49999815f, 0.49999624f, 0.49999243f,
         0.4999848f, 0.4999696f, 0.49993896f, 0.49987823f, 0.49975836f, 0.4995145f, 0.49902725f, 0.4980548f,
         0.49611697f, 0.49228072f, 0.48472998f, 0.47015965f, 0.44290656f, 0.39506528f, 0.3200019f, 0.2222251f},
        {-1.3827837e-04f, -0.16666521f, -0.16666518f, -0.16666515f, -0.16666509f, -0.1666652f, -0.16666505f,
         -0.16666403f, -0.16666451f, -0.16666318f, -0.16666311f, -0.16666295f, -0.16666263f, -0.166662f,
         -0.16666073f, -0.16665818f, -0.1666531f, -0.166643f, -0.16662465f, -0.16658452f, -0.1665041f, -0.16634162f,
         -0.16601714f, -0.16537014f, -0.16408458f, -0.16154931f, -0.1566048f, -0.14722337f, -0.13026987f,
         -0.10242735f, -0.06399997f, -0.024693068f},
        {-0.004455016f, 0.041668262f, 0.0416687f, 0.041669127f, 0.041669328f, 0.041673526f, 0.041689113f,
         0.041710544f, 0.041754145f, 0.041664284f, 0.041664246f, 0.041664165f, 0.041664008f, 0.041663688f,
         0.041663058f, 0.041661795f, 0.04165929f, 0.041652735f, 0.041647296f, 0.041622814f, 0.041540895f,
         0.041459657f, 0.041298144f, 0.040978562f, 0.04037491f, 0.03908008f, 0.03679887f, 0.032201607f,
         0.024649741f, 0.013340759f, 0.0010281394f, -0.006226257f},
        {-0.0018978617f, -0.008368671f, -0.008368859f, -0.008369048f, -0.008369423f, -0.008368119f, -0.008368277f,
         -0.00837806f, -0.00837771f, -0.00838185f, -0.008381783f, -0.008381802f, -0.008381687f, -0.00838161f,
         -0.008381303f, -0.008380848f, -0.008379796f, -0.008377033f, -0.008359632f, -0.008347338f, -0.008319397f,
         -0.008286509f, -0.008221355f, -0.008093467f, -0.007845189f, -0.007335127f, -0.0064278105f, -0.004730138f,
         -0.0021398845f, 0.0010023403f, 0.0029414142f, 0.0020547444f},
        {0.0021409215f, 0.001382104f, 0.0013801977f, 0.0013783594f, 0.0013781335f, 0.0013581915f, 0.0012719004f,
         0.0011600793f, 9.3213783e-04f, 0.00140849f, 0.0014084692f, 0.0014084738f, 0.0014084374f, 0.0014084108f,
         0.0014082794f, 0.0014080381f, 0.0014074062f, 0.0014154998f, 0.0013814912f, 0.0013956673f, 0.0015913247f,
         0.0015809034f, 0.001557472f, 0.0015027159f, 0.0012485315f, 0.0013035998f, 3.8618344e-04f, 6.3864485e-04f,
         -3.751259e-04f, -5.039981e-04f, -4.4549402e-04f, 4.1607843e-04f}
    };
    const vec magic = v_set1(FN(whole_magic)), far = v_min(v_set1(-LOWEST), a);
    const vec shifted = v_fma(far, v_set1(-LOG2E), magic);
    const vec n = shifted - magic, r = v_fma(n, v_set1(LN2_LOW), v_fma(n, v_set1(LN2_HIGH), far));
    return v_scale(FN(table_poly)(r, c, 7, (ivec)v_max(magic - 31, shifted)), n);
}
#else
INLINE vec FN(log1p_exp)(vec a) {
    vec power; /* inside the logarithm the smallest ones no longer count: cut, so that numbers stay normal */
    const vec p = FN(exp_reduced)(-v_min(v_set1(-LOWEST), a), LIFT, &power), down = FN(power_of_two)(-LIFT);
    return FN(log1p_exp_from)(p, v_max(FN(power_of_two)(LIFT - 120), power) * down) * power * down;
}
#endif
#undef LOWEST
#undef HIGHEST

/* tanh(x) for every x. */
#if FNN_TABLES == 32
/* Method: one of 32 intervals of |x|, narrow ones first, in each a polynomial in |x| - c[0], minimax to 2^-26.7 of
 * tanh; centres where tanh is nearly a float, and 0.  0.996 ulp. */
INLINE vec FN(v_tanh)(vec x) {
    static const real c[7][32] __attribute__((aligned(64))) = {
        {0.e+00f, 0.18028489f, 0.3629473f, 0.548547f, 0.7373088f, 0.929273f, 1.124602f, 1.3234578f, 1.5260097f,
         1.7332733f, 1.9439521f, 2.1590743f, 2.3798199f, 2.6058471f, 2.837319f, 3.0734408f, 3.3169267f, 3.567545f,
         3.8264368f, 4.0922604f, 4.3552856f, 4.6186304f, 4.9326324f, 5.2483487f, 5.529784f, 5.960751f, 6.3140974f,
         6.7610087f, 7.1921234f, 7.624764f, 8.114879f, 8.664718f},
        {0.e+00f, 0.1783567f, 0.34780744f, 0.49943045f, 0.62751645f, 0.73025477f, 0.8091637f, 0.86764127f,
         0.90973926f, 0.93944156f, 0.9598462f, 0.97370136f, 0.9830082f, 0.9891543f, 0.99315965f, 0.99572885f,
         0.9973733f, 0.99840796f, 0.9990511f, 0.9994423f, 0.9996704f, 0.99980533f, 0.9998961f, 0.99994475f,
         0.9999685f, 0.9999867f, 0.99999344f, 0.9999973f, 0.99999887f, 0.9999995f, 0.9999998f, 0.99999994f},
        {1.0f, 0.9681889f, 0.87903f, 0.7505692f, 0.6062231f, 0.46672797f, 0.34525412f, 0.24719863f, 0.17237449f,
         0.11744955f, 0.078695275f, 0.051905666f, 0.033694867f, 0.021573812f, 0.013633906f, 0.0085240565f,
         0.0052465345f, 0.0031815455f, 0.0018969114f, 0.0011151301f, 6.5911893e-04f, 3.8929968e-04f, 2.0777092e-04f,
         1.1050406e-04f, 6.294146e-05f, 2.6583468e-05f, 1.3112993e-05f, 5.364401e-06f, 2.2649597e-06f,
         9.5339686e-07f, 3.5773866e-07f, 1.191193e-07f},
        {5.9600342e-08f, -0.17268161f, -0.30573115f, -0.3748559f, -0.38041493f, -0.34083095f, -0.27936786f,
         -0.21448027f, -0.15681615f, -0.110337086f, -0.07553524f, -0.05054057f, -0.03312227f, -0.021339776f,
         -0.013540552f, -0.008487612f, -0.005232725f, -0.0031764638f, -0.0018950903f, -0.0011144741f,
         -6.589393e-04f, -3.8922948e-04f, -2.0773237e-04f, -1.10513e-04f, -6.292837e-05f, -2.6578877e-05f,
         -1.3114057e-05f, -5.3630856e-06f, -2.2630322e-06f, -9.3124623e-07f, -3.6341595e-07f, -1.1544721e-07f},
        {-0.33333927f, -0.29193583f, -0.18667899f, -0.06297669f, 0.036641356f, 0.09331677f, 0.11096943f,
         0.103692316f, 0.08520344f, 0.064505525f, 0.046270594f, 0.03190964f, 0.02132792f, 0.013917108f,
         0.008903387f, 0.0056100343f, 0.0034701617f, 0.0021109045f, 0.001261007f, 7.4217306e-04f, 4.3905122e-04f,
         2.594254e-04f, 1.3845341e-04f, 7.368258e-05f, 4.1942436e-05f, 1.7724693e-05f, 8.740425e-06f,
         3.5772728e-06f, 1.5123154e-06f, 6.600033e-07f, 2.3658751e-07f, 7.7056065e-08f},
        {1.7549112e-04f, 0.10901073f, 0.16602659f, 0.15592702f, 0.103780136f, 0.045680605f, 0.0035817449f,
         -0.01829782f, -0.025146434f, -0.023787592f, -0.019243186f, -0.014234508f, -0.009938543f, -0.0066650007f,
         -0.0043423176f, -0.002763922f, -0.0017217299f, -0.0010518262f, -6.307334e-04f, -3.7299944e-04f,
         -2.1766523e-04f, -1.2940253e-04f, -7.0255206e-05f, -3.6277554e-05f, -2.1565473e-05f, -9.046629e-06f,
         -4.358476e-06f, -1.8370165e-06f, -8.1910383e-07f, -7.860135e-07f, -4.5216407e-08f, -7.899614e-08f},
        {0.13160272f, 0.099847876f, 0.024464633f, -0.039884888f, -0.0635688f, -0.05385177f, -0.03207974f,
         -0.013130266f, -0.0016573247f, 0.003444532f, 0.004773995f, 0.004358923f, 0.003394478f, 0.0024234054f,
         0.0016359787f, 0.0010661469f, 6.730412e-04f, 4.1479166e-04f, 2.498322e-04f, 1.4801665e-04f, 8.02265e-05f,
         4.732745e-05f, 2.953035e-05f, 1.2694148e-05f, 9.787527e-06f, 3.3139247e-06f, 1.8221607e-06f, 6.482551e-07f,
         1.5782923e-07f, -8.5181335e-07f, 9.784535e-08f, 6.432654e-08f}
    };
    const vec a = v_min(v_set1(9.015f), v_abs(x));
    const vec k = v_fma(a, v_fma(a, v_set1(-0.2339f), v_set1(5.6f)), v_set1(FN(whole_magic)));
    return v_copysign(FN(table_poly)(a - v_lookup(c[0], (ivec)k), c + 1, 6, (ivec)k), x);
}
#else
/* Method: below 0.65, |x| + |x|^3 P(x^2), P minimax to 2^-27 / 2^-60; above, 1 - 2 / (1 + exp(2|x|)), in
 * which the error of the second term counts at most 0.43.  exp(2|x|) = 2^n (1 + p) as in exp_reduced, with
 * r = |x| - n ln2 / 2 and the powers of 2 in the coefficients (one part of ln2 will do: the second
 * term is below 2^(1 - n)).  1.16 / 1.46 ulp. */
INLINE vec FN(v_tanh)(vec x) {
#if FNN_REAL_BITS == 32
    const real most = 9.5f, twice_log2e = 2.88539008f, half_ln2 = 0.346573591f;
    static const real small[] = {-0.33333263f, 0.13330902f, -0.053693105f, 0.020483596f, -0.005528821f};
    static const real c[] = {1.9999998f, 1.3333217f, 0.6666942f, 0.26779985f, 0.08841306f};
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
    vec scale;
    const vec n = FN(whole_times)(far, twice_log2e, 0, &scale), r = v_fma(n, v_set1(-half_ln2), far);
    const vec p = v_fma(POLY(r, c), r * r, r + r), d = v_fma(scale, p, scale + 1);
    const vec y = v_near_reciprocal(d), inverse = FN(corrected)(y, v_lost(d, y, one));
    return v_copysign(v_sel(v_lt(a, v_set1((real)0.65)), near, v_fma(inverse, v_set1(-2), one)), x);
}
#endif

/* The tail of the normal distribution for 0 <= a <= NORMAL_MOST (and NaN), in factors:
 * P(X > a) = tail (1 + more) (1 + p) power and exp(-a^2 / 2) = (1 + p) power, both times 2^LIFT.
 * Method: exp(-a^2 / 2) by exp_reduced, a^2 as its rounded value and what that lost, since exp magnifies it;
 * exp(a^2 / 2) P(X > a) = w Q(w), w = 1 / (1 + a / 4), Q minimax to 2^-29 / 2^-59 in powers of w - centre.
 * What w lost goes into `more`, times how fast w Q(w) grows, to which 3/4 + 2.4 w comes within 4%.
 * As GELU 1.85 / 1.95 ulp. */
typedef struct {
    vec tail, low, p, more, power; /* low: what `tail` has lost by rounding */
} FN(normal);
#define NORMAL_MOST (FNN_REAL_BITS == 32 ? (real)15 : (real)39) /* a P(X > a) is 0 there */
INLINE FN(normal) FN(normal_tail)(vec a) {
#if FNN_REAL_BITS == 32
    const real centre = 0.50390625f;
    static const real c[] = {0.19001451f,   0.30698997f,   0.39153105f,  0.37682718f,  0.24275905f, 0.059014592f,
                             -0.057301726f, -0.051976513f, 0.0119778495f, 0.027617812f, -0.01153565f};
#else
    const real centre = 0.40625;
    static const real c[] = {
        0.16343951444933327,   0.2404253949089389,    0.2944052441214804,     0.28852516399636025,
        0.2074950786200242,    0.08189615361522425,   -0.021323679519734063,  -0.04962763389145345,
        -0.01425754277738196,  0.021883048173845208,  0.01563551982089138,    -0.010704774333804064,
        -0.01263077988434298,  0.006955706629053179,  0.00999975880407003,    -0.00632246976278166,
        -0.007843905526134967, 0.007224545469319729,  0.005237446343502698,   -0.0087374314872559,
        -0.00034295102913540197, 0.007433056644644673, -0.005567437332383783, 0.0014069342499127204};
#endif
    FN(normal) t;
    const vec one = v_set1(1), square = a * a, half = v_set1((real)-0.5);
    vec lost_p = {0}; /* in float there is room for it */
    t.p = FN(exp_reduced_low)(square * half, v_lost(a, a, square) * half, LIFT, &t.power,
                              FNN_REAL_BITS == 64 ? &lost_p : 0);
    const vec fourth = a * (real)0.25, d = one + fourth, lost = fourth - (d - one), w = FN(reciprocal)(d, lost);
    const vec off = v_fma(lost, w, v_lost(d, w, one)); /* w (1 - off) is what w should be */
    const vec x = w - centre, grows = v_fma(w, v_set1((real)2.4), v_set1((real)0.75));
    t.more = v_fma(-off, grows, lost_p);
    /* the last two steps of Horner's rule, the last one with what it lost, and in double the other one too */
    const vec inner = FN(poly)(x, c + 2, sizeof c / sizeof *c - 2);
    const vec slope = v_fma(x, inner, v_set1(c[1])), q = v_fma(x, slope, v_set1(c[0]));
    vec q_low = v_lost(x, slope, q - c[0]);
    if (FNN_REAL_BITS == 64) q_low = v_fma(x, v_lost(x, inner, slope - c[1]), q_low);
    t.tail = q * w;
    t.low = v_fma(q_low, w, v_lost(q, w, t.tail));
    return t;
}

#if FNN_TABLES
/* P(X > a) for 0 <= a <= NORMAL_NEAR, in a fraction of the instructions.
 * Method: in FNN_TABLES intervals, number k where a (b + c a) rounds to k (so they narrow as a grows, by which the
 * logarithm falls ever faster), a polynomial in a - centre, minimax to 2^-25 of the result.  Of 32 intervals the centres
 * lie within; of 8, at the far ends, so that the terms, mostly of one sign, cannot cancel.  Both are such that the
 * first coefficient is nearly a float.  As GELU 1.71 ulp of 32 intervals, 2.51 of 8. */
#define NORMAL_NEAR 5.499f
INLINE vec FN(normal_near)(vec a) {
    /* the centres, then powers of a - centre upwards */
#if FNN_TABLES == 32
    const real by_a = 2, by_square = 0.677686f;
    static const real c[7][32] __attribute__((aligned(64))) = {
        {0.115896195f, 0.42579928f, 0.7831485f, 1.090186f, 1.363875f, 1.6132483f, 1.8438773f, 2.0594685f,
         2.2624707f, 2.4550123f, 2.638438f, 2.8141787f, 2.9828596f, 3.1455681f, 3.3024452f, 3.4544837f, 3.6019204f,
         3.7453253f, 3.884771f, 4.020682f, 4.1531463f, 4.2828794f, 4.4094887f, 4.53354f, 4.655233f, 4.774712f,
         4.8914886f, 5.006561f, 5.119387f, 5.230253f, 5.33915f, 5.4466944f},
        {0.4538674f, 0.33512706f, 0.21676995f, 0.13781561f, 0.08630345f, 0.05334528f, 0.03260051f, 0.01972469f,
         0.011834168f, 0.007043988f, 0.0041644466f, 0.0024451017f, 0.0014278447f, 8.288229e-04f, 4.7922911e-04f,
         2.7567372e-04f, 1.5793757e-04f, 9.008008e-05f, 5.121317e-05f, 2.9014966e-05f, 1.6396749e-05f,
         9.224511e-06f, 5.1807488e-06f, 2.900167e-06f, 1.6180734e-06f, 8.998227e-07f, 5.003811e-07f, 2.7705582e-07f,
         1.5326506e-07f, 8.4639005e-08f, 4.6691692e-08f, 2.5657261e-08f},
        {-0.39627197f, -0.36436793f, -0.2935817f, -0.22020611f, -0.15739195f, -0.10858482f, -0.072884426f,
         -0.04785193f, -0.030859044f, -0.019594992f, -0.012282055f, -0.0076065967f, -0.004665015f, -0.002833513f,
         -0.0017087202f, -0.0010223335f, -6.076851e-04f, -3.5882727e-04f, -2.1078713e-04f, -1.2317803e-04f,
         -7.168346e-05f, -4.1473068e-05f, -2.3921479e-05f, -1.373683e-05f, -7.853625e-06f, -4.471099e-06f,
         -2.542739e-06f, -1.4387093e-06f, -8.12621e-07f, -4.5785515e-07f, -2.5751194e-07f, -1.4418359e-07f},
        {0.02296312f, 0.07757209f, 0.11495821f, 0.120032534f, 0.10733149f, 0.08758723f, 0.06719506f, 0.049274832f,
         0.03490888f, 0.02405299f, 0.016202727f, 0.010703162f, 0.0069575403f, 0.0044565015f, 0.0028214748f,
         0.0017658151f, 0.001094415f, 6.719611e-04f, 4.0942896e-04f, 2.4762924e-04f, 1.4885554e-04f, 8.8811794e-05f,
         5.274057e-05f, 3.1138115e-05f, 1.828016e-05f, 1.0674062e-05f, 6.2188615e-06f, 3.601476e-06f, 2.08005e-06f,
         1.1973428e-06f, 6.874438e-07f, 3.9265979e-07f},
        {0.06515777f, 0.049714204f, 0.0189198f, -0.0069186464f, -0.022563536f, -0.029002283f, -0.029152136f,
         -0.025851188f, -0.021183535f, -0.016417563f, -0.012202935f, -0.008772431f, -0.0061403126f, -0.0042004962f,
         -0.002821145f, -0.0018629443f, -0.0012127243f, -7.7910523e-04f, -4.9505173e-04f, -3.113518e-04f,
         -1.9412782e-04f, -1.1987935e-04f, -7.353473e-05f, -4.4766966e-05f, -2.7058117e-05f, -1.6243534e-05f,
         -9.71632e-06f, -5.7707107e-06f, -3.4141785e-06f, -2.0112088e-06f, -1.1805771e-06f, -6.888916e-07f},
        {-0.0056966534f, -0.018073214f, -0.02275814f, -0.018076519f, -0.010196673f, -0.0029210472f, 0.0022155466f,
         0.0050786543f, 0.006150722f, 0.006060433f, 0.005345698f, 0.0043874816f, 0.003420244f, 0.0025619653f,
         0.0018604714f, 0.0013159553f, 9.10778e-04f, 6.1840453e-04f, 4.1321557e-04f, 2.7216028e-04f, 1.770823e-04f,
         1.1378514e-04f, 7.2426155e-05f, 4.5651508e-05f, 2.8509116e-05f, 1.765336e-05f, 1.0872848e-05f,
         6.6399816e-06f, 4.033991e-06f, 2.437051e-06f, 1.4653888e-06f, 8.7514275e-07f},
        {-0.009600646f, -0.0058073592f, 7.579145e-04f, 0.004983123f, 0.006150612f, 0.0052671125f, 0.0035302313f,
         0.0017691319f, 3.869265e-04f, -5.193584e-04f, -9.917883e-04f, -0.0011531524f, -0.0011153042f,
         -9.797242e-04f, -8.031809e-04f, -6.277372e-04f, -4.7242746e-04f, -3.4498694e-04f, -2.4579227e-04f,
         -1.7147527e-04f, -1.1736318e-04f, -7.9078636e-05f, -5.2403466e-05f, -3.4404922e-05f, -2.2275872e-05f,
         -1.4357021e-05f, -9.108249e-06f, -5.742283e-06f, -3.5937994e-06f, -2.233117e-06f, -1.375687e-06f,
         -8.430669e-07f}
    };
#else
    const real by_a = 0.28759944f, by_square = 0.1953125f;
    static const real c[10][8] __attribute__((aligned(32))) = {
        {1.0253191f, 2.1322916f, 2.9175522f, 3.5615788f, 4.1213098f, 4.6229277f, 5.0818276f, 5.5000243f},
        {0.15260632f, 0.016491443f, 0.0017639528f, 1.8431575e-04f, 1.8836225e-05f, 1.8918084e-06f, 1.8691027e-07f,
         1.8986944e-08f},
        {-0.23584555f, -0.04107843f, -0.00565625f, -7.0215244e-04f, -8.177528e-05f, -9.123393e-06f, -9.842116e-07f,
         -1.0768315e-07f},
        {0.12090821f, 0.043795552f, 0.00825124f, 0.001250381f, 1.6851033e-04f, 2.1088477e-05f, 2.5008208e-06f,
         2.9613443e-07f},
        {-0.0020191555f, -0.024281818f, -0.0070811613f, -0.0013675155f, -2.1787299e-04f, -3.0974134e-05f,
         -4.0715286e-06f, -5.248293e-07f},
        {-0.01965788f, 0.0056491927f, 0.0037942783f, 0.0010082658f, 1.963049e-04f, 3.2308835e-05f, 4.765153e-06f,
         6.7433e-07f},
        {0.00424043f, 0.0012629024f, -0.0011332532f, -5.1826914e-04f, -1.2968176e-04f, -2.5055844e-05f,
         -4.1640533e-06f, -6.4673605e-07f},
        {0.0016739048f, -0.0011101704f, 8.7800756e-05f, 1.570686e-04f, 6.0981605e-05f, 1.5653943e-05f,
         3.1836178e-06f, 5.780346e-07f},
        {-0.0010778682f, 3.4329836e-04f, 1.5265887e-04f, -4.752225e-05f, -2.4192486e-05f, -5.8558508e-06f,
         -1.087746e-06f, -1.7655987e-07f},
        {-3.3248003e-04f, 1.7587497e-04f, -3.1468273e-05f, -2.542459e-05f, 2.209242e-06f, 3.6684094e-06f,
         1.3555413e-06f, 3.5370655e-07f}
    };
#endif
    const vec k = v_fma(a, v_fma(a, v_set1(by_square), v_set1(by_a)), v_set1(FN(whole_magic)));
    return FN(table_poly)(a - v_lookup(c[0], (ivec)k), c + 1, sizeof c / sizeof *c - 1, (ivec)k);
}
#endif
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
