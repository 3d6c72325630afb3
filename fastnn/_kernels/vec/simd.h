/* Vectors of one float type on one instruction set: the only place that knows intrinsics.
 *
 * Included twice by body.h, with FNN_REAL_BITS 32 and 64; FNN_VBYTES (16, 32, 64) is set by the
 * wrapper file of the instruction set.  Everything is `static inline`, so that no code compiled
 * for one instruction set can be picked by the linker for another.
 *
 *   real, vec, ivec       scalar, vector, and integer vector of the same lanes
 *   VL, LINE              lanes in a vector, and in a cache line
 *   FN(name)              name_f32 or name_f64
 *   v_load, v_store       any alignment
 *   v_load_part, v_store_part   the first n lanes, 0 < n <= VL; lanes past n read as zero
 *   v_store_last          v_store_part as a call, for the ends of rows: keeps the code short
 *   v_set1, v_fma (a*b+c), v_min, v_max, v_sel, v_lt, v_gt ...
 *   v_fma_from(a, b, c)   *a * b + c, the scalar read by the multiply-add itself where there is such an instruction
 *   v_lost(a, b, p)       a * b - p exactly, for p within some roundings of a * b
 *   v_fused(a, b, c)     a * b + c for |c| below |a * b|, in one rounding (but for a trifle) on every target
 *   v_near_reciprocal(a)  1 / a for normal a and 1 / a, to 2^-11 (float) or 2^-27 (double) at least
 *   v_scale(a, n)         a 2^n for whole n up to +-1000 or so: rounds once, through the subnormals
 *   v_wide(p)             WIDE reals from p on, as doubles (gcc 12 takes a conversion of vectors apart)
 *   v_wide_fma(a, b, c)   a * b + c of those, fused where the target has it
 *   v_permute(a, i)       lane q is lane i[q] of a
 *   v_lookup(t, i)        lane q is t[i[q] mod FNN_TABLES], t aligned, where that is one instruction: FNN_TABLES is not 0
 *   v_any(m)              whether the mask holds for a lane (where there are tables)
 *   v_of_bits(b, from)    the mask of the lanes whose bit of b is set: lane q has bit from + q
 * and, whatever the float type,
 *   fnn_u64               a vector of 64-bit lanes
 *   fnn_product(a, b)     of the lower halves of the lanes
 *   fnn_upper(a)          the upper halves of the lanes as the lower ones; what is above them is left open
 *   fnn_even, fnn_odd     the even (odd) lanes of a and b, in turn
 *
 * v_min and v_max follow the x86 rule on every target: where an operand is NaN the SECOND is
 * returned, so a clamp that must let NaN through is v_max(v_set1(limit), x).
 */
#undef real
#undef vec
#undef ivec
#undef ireal
#undef vmask
#undef FN
#undef VL
#undef VLI
#if FNN_REAL_BITS == 32
#define real float
#define ireal int32_t
#define FN(name) name##_f32
#else
#define real double
#define ireal int64_t
#define FN(name) name##_f64
#endif
#define vec FN(fnn_vec)
#define ivec FN(fnn_ivec)
#define VL ((int)(FNN_VBYTES / sizeof(real)))
#undef LINE
#define LINE ((int)(64 / sizeof(real)))

typedef real vec __attribute__((vector_size(FNN_VBYTES)));
typedef ireal ivec __attribute__((vector_size(FNN_VBYTES)));
typedef real FN(fnn_uvec) __attribute__((vector_size(FNN_VBYTES), aligned(sizeof(real)), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec FN(v_load)(const real *p) { return *(const FN(fnn_uvec) *)p; }
INLINE void FN(v_store)(real *p, vec v) { *(FN(fnn_uvec) *)p = v; }
/* Past the caches, to a whole vector's address: what no cache holds until it is read again need not be fetched before
 * it is written.  Other threads see it after v_stream_end. */
INLINE void FN(v_stream)(real *p, vec v) {
#if FNN_VBYTES == 64
    _mm512_stream_si512((__m512i *)p, (__m512i)v);
#elif FNN_VBYTES == 32
    _mm256_stream_si256((__m256i *)p, (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i *)p, (__m128i)v);
#else
    FN(v_store)(p, v);
#endif
}
INLINE void FN(v_stream_end)(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
INLINE vec FN(v_set1)(real a) { return a - (vec){0}; }
#define v_load FN(v_load)
#define v_store FN(v_store)
#define v_stream FN(v_stream)
#define v_stream_end FN(v_stream_end)
#define v_set1 FN(v_set1)
#define v_load_part FN(v_load_part)
#define v_store_part FN(v_store_part)
#define v_store_last FN(v_store_last)
#define v_fma FN(v_fma)
#define v_fma_from FN(v_fma_from)
#define v_min FN(v_min)
#define v_max FN(v_max)
#define v_sel FN(v_sel)
#define v_lt FN(v_lt)
#define v_gt FN(v_gt)
#define v_eq FN(v_eq)
#define v_le FN(v_le)
#define v_first FN(v_first)
#define v_of_bits FN(v_of_bits)
#define v_sum FN(v_sum)
#define v_highest FN(v_highest)
#define v_sqrt FN(v_sqrt)
#define v_lost FN(v_lost)
#define v_fused FN(v_fused)
#define v_near_reciprocal FN(v_near_reciprocal)
#define v_scale FN(v_scale)
#define v_permute FN(v_permute)
#define v_lookup FN(v_lookup)
#define v_any FN(v_any)
#define v_wide FN(v_wide)
#define v_wide_fma FN(v_wide_fma)

#undef FNN_TABLES
#define FNN_TABLES (FNN_REAL_BITS == 64 ? 0 : FNN_VBYTES == 64 ? 32 : FNN_VBYTES == 32 ? 8 : 0)

/* Adding `whole_magic` to a whole number leaves it in the low bits of the sum. */
#undef FNN_BIAS
#undef FNN_MANTISSA
#if FNN_REAL_BITS == 32
typedef uint32_t FN(fnn_bits) __attribute__((vector_size(FNN_VBYTES)));
static const real FN(whole_magic) = 12582912.0f; /* 1.5 * 2^23 */
#define FNN_BIAS 127
#define FNN_MANTISSA 23
#else
typedef uint64_t FN(fnn_bits) __attribute__((vector_size(FNN_VBYTES)));
static const real FN(whole_magic) = 6755399441055744.0; /* 1.5 * 2^52 */
#define FNN_BIAS 1023
#define FNN_MANTISSA 52
#endif
#if FNN_VBYTES == 64 /* ------------------------------------------------------------- AVX-512 */
#if FNN_REAL_BITS == 32
typedef __mmask16 FN(fnn_mask);
#define P(op) _mm512_##op##_ps
#define PMASK(n) ((__mmask16)_bzhi_u32(0xffff, (unsigned)(n)))
#else
typedef __mmask8 FN(fnn_mask);
#define P(op) _mm512_##op##_pd
#define PMASK(n) ((__mmask8)_bzhi_u32(0xff, (unsigned)(n)))
#endif
#define vmask FN(fnn_mask)
INLINE vmask v_first(int n) { return PMASK(n); }
INLINE vmask v_of_bits(uint32_t b, const int from) { return (vmask)(b >> from); }
INLINE vec v_load_part(const real *p, int n) {
    if (__builtin_constant_p(n) && n == VL) return v_load(p);
    return (vec)P(maskz_loadu)(PMASK(n), p);
}
INLINE void v_store_part(real *p, vec v, int n) {
    if (__builtin_constant_p(n) && n == VL) v_store(p, v);
    else P(mask_storeu)(p, PMASK(n), v);
}
INLINE vec v_fma(vec a, vec b, vec c) { return (vec)P(fmadd)(a, b, c); }
INLINE vec v_fma_from(const real *a, vec b, vec c) { /* in words: compilers share one broadcast of *a */
#if FNN_REAL_BITS == 32
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
#else
    __asm__("vfmadd231pd %2%{1to8%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
#endif
    return c;
}
INLINE vec v_min(vec a, vec b) { return (vec)P(min)(a, b); }
INLINE vec v_max(vec a, vec b) { return (vec)P(max)(a, b); }
INLINE vec v_sqrt(vec a) { return (vec)P(sqrt)(a); }
INLINE vec v_lost(vec a, vec b, vec p) { return (vec)P(fmsub)(a, b, p); }
INLINE vec v_scale(vec a, vec n) { return (vec)P(scalef)(a, n); }
INLINE vec v_permute(vec a, ivec i) { return (vec)P(permutexvar)((__m512i)i, a); }
#if FNN_TABLES
INLINE vec v_lookup(const real *t, ivec i) { return (vec)P(permutex2var)(P(load)(t), (__m512i)i, P(load)(t + VL)); }
INLINE int v_any(vmask m) { return m != 0; }
#endif
INLINE vec v_near_reciprocal(vec a) {
    const vec y = (vec)P(rcp14)(a);
    return FNN_REAL_BITS == 32 ? y : (vec)P(fmadd)(y, (vec)P(fnmadd)(a, y, v_set1(1)), y);
}
#if FNN_REAL_BITS == 32
INLINE vmask v_lt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE vmask v_gt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
INLINE vmask v_eq(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
INLINE vmask v_le(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
#else
INLINE vmask v_lt(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
INLINE vmask v_gt(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
INLINE vmask v_eq(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
INLINE vmask v_le(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
#endif
INLINE vec v_sel(vmask m, vec yes, vec no) { return (vec)P(mask_blend)(m, no, yes); }
INLINE real v_sum(vec a) { return P(reduce_add)(a); }
INLINE real v_highest(vec a) { return P(reduce_max)(a); }
#undef P
#undef PMASK

#else /* ------------------------------------------------ masks are vectors of 0 and -1 */
#define vmask ivec
INLINE vmask v_of_bits(uint32_t b, const int from) {
    ivec bit;
    for (int q = 0; q < VL; q++) bit[q] = (ireal)((uint32_t)1 << (from + q));
    return (vmask)((((ivec){0} + (ireal)b) & bit) == bit);
}
INLINE vmask v_lt(vec a, vec b) { return (vmask)(a < b); }
INLINE vmask v_gt(vec a, vec b) { return (vmask)(a > b); }
INLINE vmask v_eq(vec a, vec b) { return (vmask)(a == b); }
INLINE vmask v_le(vec a, vec b) { return (vmask)(a <= b); }
/* In two factors, so that neither leaves the normal range: the first product is exact, the second rounds. */
INLINE vec v_scale(vec a, vec n) {
    const ivec whole = (ivec)(n + FN(whole_magic)) - (ivec)v_set1(FN(whole_magic)), half = whole >> 1;
    const vec first = (vec)((FN(fnn_bits))(half + FNN_BIAS) << FNN_MANTISSA);
    return a * first * (vec)((FN(fnn_bits))(whole - half + FNN_BIAS) << FNN_MANTISSA);
}

#if FNN_VBYTES == 32 /* -------------------------------------------------------- AVX2 + FMA */
#if FNN_REAL_BITS == 32
#define P(op) _mm256_##op##_ps
#define ITYPE int
#else
#define P(op) _mm256_##op##_pd
#define ITYPE long long
#endif
/* a window on this table that starts VL - n entries in has n ones, then zeros */
static const ireal FN(part_table)[2 * FNN_VBYTES / (FNN_REAL_BITS / 8)] = {
    -1, -1, -1, -1,
#if FNN_REAL_BITS == 32
    -1, -1, -1, -1,
#endif
};
INLINE __m256i FN(part_mask)(int n) {
    return _mm256_loadu_si256((const __m256i *)(FN(part_table) + VL - n));
}
INLINE vmask v_first(int n) { return (vmask)FN(part_mask)(n); }
INLINE vec v_load_part(const real *p, int n) {
    if (__builtin_constant_p(n) && n == VL) return v_load(p);
    return (vec)P(maskload)(p, FN(part_mask)(n));
}
/* In pieces: AMD's cores up to Zen 3 make a masked store of many steps. */
INLINE void v_store_part(real *p, vec v, int n) {
    if (n == VL) {
        v_store(p, v);
        return;
    }
#if FNN_REAL_BITS == 32
    __m128 rest = _mm256_castps256_ps128(v);
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, rest);
#else
    __m128d rest = _mm256_castpd256_pd128(v);
    if (n & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd(v, 1);
        p += 2;
    }
    if (n & 1) _mm_store_sd(p, rest);
#endif
}
INLINE vec v_fma(vec a, vec b, vec c) { return (vec)P(fmadd)(a, b, c); }
INLINE vec v_lost(vec a, vec b, vec p) { return (vec)P(fmsub)(a, b, p); }
INLINE vec v_min(vec a, vec b) { return (vec)P(min)(a, b); }
INLINE vec v_max(vec a, vec b) { return (vec)P(max)(a, b); }
INLINE vec v_sqrt(vec a) { return (vec)P(sqrt)(a); }
INLINE vec v_near_reciprocal(vec a) {
#if FNN_REAL_BITS == 32
    return (vec)P(rcp)(a);
#else
    return 1 / a;
#endif
}
#if FNN_REAL_BITS == 32
INLINE vec v_sel(vmask m, vec yes, vec no) { return (vec)P(blendv)(no, yes, (__m256)m); }
INLINE vec v_permute(vec a, ivec i) { return (vec)_mm256_permutevar8x32_ps(a, (__m256i)i); }
INLINE vec v_lookup(const real *t, ivec i) { return v_permute(*(const vec *)t, i); }
INLINE int v_any(vmask m) { return _mm256_movemask_ps((__m256)m) != 0; }
#else
INLINE vec v_sel(vmask m, vec yes, vec no) { return (vec)P(blendv)(no, yes, (__m256d)m); }
INLINE vec v_permute(vec a, ivec i) { /* as pairs of 32-bit lanes 2 i and 2 i + 1 */
    const ivec pair = (i << 1) + (i << 33) + ((int64_t)1 << 32);
    return (vec)_mm256_permutevar8x32_ps((__m256)a, (__m256i)pair);
}
#endif
#undef P
#undef ITYPE

#else /* ------------------------------------------------------------- 16 bytes: SSE2, NEON */
INLINE vmask v_first(int n) {
#if FNN_REAL_BITS == 32
    const ivec lane = {0, 1, 2, 3};
#else
    const ivec lane = {0, 1};
#endif
    return (vmask)(lane < (ireal)n);
}
/* a memcpy of a length that varies is a call: whole vectors go beside it */
INLINE vec v_load_part(const real *p, int n) {
    vec v = {0};
    if (n == VL) return v_load(p);
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
INLINE void v_store_part(real *p, vec v, int n) {
    if (n == VL) v_store(p, v);
    else memcpy(p, &v, (size_t)n * sizeof(real));
}
INLINE vec v_sel(vmask m, vec yes, vec no) { return (vec)(((ivec)yes & m) | ((ivec)no & ~m)); }
INLINE vec v_near_reciprocal(vec a) { return 1 / a; }
INLINE vec v_permute(vec a, ivec i) {
    vec r = a;
    for (int q = 0; q < VL; q++) r[q] = a[i[q]];
    return r;
}
#if defined(__aarch64__)
#if FNN_REAL_BITS == 32
INLINE vec v_fma(vec a, vec b, vec c) { return (vec)vfmaq_f32(c, a, b); }
INLINE vec v_lost(vec a, vec b, vec p) { return (vec)vfmaq_f32(-p, a, b); }
INLINE vec v_sqrt(vec a) { return (vec)vsqrtq_f32(a); }
#else
INLINE vec v_fma(vec a, vec b, vec c) { return (vec)vfmaq_f64(c, a, b); }
INLINE vec v_lost(vec a, vec b, vec p) { return (vec)vfmaq_f64(-p, a, b); }
INLINE vec v_sqrt(vec a) { return (vec)vsqrtq_f64(a); }
#endif
INLINE vec v_min(vec a, vec b) { return v_sel(v_lt(a, b), a, b); }
INLINE vec v_max(vec a, vec b) { return v_sel(v_gt(a, b), a, b); }
#else
INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; } /* two roundings: SSE2 has no FMA */
/* Without FMA, after Dekker (1971): the factors cut into halves whose products are exact. */
INLINE vec v_lost(vec a, vec b, vec p) {
    const ivec head = (ivec){0} + (FNN_REAL_BITS == 32 ? ~(ireal)0xfff : ~(ireal)0x7ffffff);
    const vec a1 = (vec)((ivec)a & head), b1 = (vec)((ivec)b & head), a2 = a - a1, b2 = b - b1;
    return a1 * b1 - p + a1 * b2 + a2 * b1 + a2 * b2;
}
#if FNN_REAL_BITS == 32
INLINE vec v_min(vec a, vec b) { return (vec)_mm_min_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return (vec)_mm_max_ps(a, b); }
INLINE vec v_sqrt(vec a) { return (vec)_mm_sqrt_ps(a); }
#else
INLINE vec v_min(vec a, vec b) { return (vec)_mm_min_pd(a, b); }
INLINE vec v_max(vec a, vec b) { return (vec)_mm_max_pd(a, b); }
INLINE vec v_sqrt(vec a) { return (vec)_mm_sqrt_pd(a); }
#endif
#endif
#endif

/* Horizontal sum and maximum, by halves. */
INLINE real v_sum(vec a) {
    real s[VL];
    v_store(s, a);
    for (int h = VL / 2; h; h /= 2)
        for (int i = 0; i < h; i++) s[i] += s[i + h];
    return s[0];
}
INLINE real v_highest(vec a) {
    real s[VL];
    v_store(s, a);
    for (int h = VL / 2; h; h /= 2)
        for (int i = 0; i < h; i++) s[i] = s[i] > s[i + h] ? s[i] : s[i + h];
    return s[0];
}
#endif

#if FNN_VBYTES == 32 /* where it is more than an instruction, one copy of it for all who are not in a hurry */
static __attribute__((noinline, unused))
#else
INLINE
#endif
void v_store_last(real *p, vec v, int n) { v_store_part(p, v, n); }
#if FNN_VBYTES != 64
INLINE vec v_fma_from(const real *a, vec b, vec c) { return v_fma(v_set1(*a), b, c); }
#endif

INLINE vec v_fused(vec a, vec b, vec c) {
#if defined(__FMA__) || defined(__aarch64__)
    return v_fma(a, b, c);
#else
    const vec p = a * b;
    return p + (c + v_lost(a, b, p));
#endif
}

#if FNN_REAL_BITS == 32 /* once for both */
typedef uint64_t fnn_u64 __attribute__((vector_size(FNN_VBYTES)));
INLINE fnn_u64 fnn_product(fnn_u64 a, fnn_u64 b) {
#if FNN_VBYTES == 64
    return (fnn_u64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif FNN_VBYTES == 32
    return (fnn_u64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__aarch64__)
    return (fnn_u64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (fnn_u64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
}
INLINE fnn_u64 fnn_upper(fnn_u64 a) { /* x86 shifts where it multiplies, and shuffles elsewhere */
#if FNN_VBYTES == 64
    return (fnn_u64)_mm512_shuffle_epi32((__m512i)a, _MM_PERM_CDAB);
#elif FNN_VBYTES == 32
    return (fnn_u64)_mm256_shuffle_epi32((__m256i)a, _MM_SHUFFLE(2, 3, 0, 1));
#elif defined(__x86_64__) || defined(_M_X64)
    return (fnn_u64)_mm_shuffle_epi32((__m128i)a, _MM_SHUFFLE(2, 3, 0, 1));
#else
    return a >> 32;
#endif
}
#if FNN_VBYTES == 64
INLINE fnn_u64 fnn_even(fnn_u64 a, fnn_u64 b) { return (fnn_u64)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
INLINE fnn_u64 fnn_odd(fnn_u64 a, fnn_u64 b) { return (fnn_u64)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
#elif FNN_VBYTES == 32
INLINE fnn_u64 fnn_even(fnn_u64 a, fnn_u64 b) { return (fnn_u64)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
INLINE fnn_u64 fnn_odd(fnn_u64 a, fnn_u64 b) { return (fnn_u64)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
#else
INLINE fnn_u64 fnn_even(fnn_u64 a, fnn_u64 b) { return (fnn_u64){a[0], b[0]}; }
INLINE fnn_u64 fnn_odd(fnn_u64 a, fnn_u64 b) { return (fnn_u64){a[1], b[1]}; }
#endif
#endif
#undef WIDE
#define WIDE ((int)(FNN_VBYTES / sizeof(double)))
typedef double FN(fnn_wide) __attribute__((vector_size(FNN_VBYTES)));
INLINE FN(fnn_wide) FN(v_wide)(const real *p) {
#if FNN_REAL_BITS == 64
    return v_load(p);
#elif FNN_VBYTES == 64
    return (FN(fnn_wide))_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif FNN_VBYTES == 32
    return (FN(fnn_wide))_mm256_cvtps_pd(_mm_loadu_ps(p));
#elif defined(__aarch64__)
    return (FN(fnn_wide))vcvt_f64_f32(vld1_f32(p));
#elif defined(__SSE2__)
    double both; /* two floats, which need not be aligned as a double is */
    memcpy(&both, p, sizeof both);
    return (FN(fnn_wide))_mm_cvtps_pd(_mm_castpd_ps(_mm_set_sd(both)));
#else
    return (FN(fnn_wide)){p[0], p[1]};
#endif
}
INLINE FN(fnn_wide) FN(v_wide_fma)(FN(fnn_wide) a, FN(fnn_wide) b, FN(fnn_wide) c) {
#if FNN_VBYTES == 64
    return (FN(fnn_wide))_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif FNN_VBYTES == 32
    return (FN(fnn_wide))_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
    return (FN(fnn_wide))vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}

/* r[j][i] = r[i][j] for VL vectors of VL lanes, by log2(VL) perfect shuffles: with the address of an
 * element written as the bits (row, column), each stage rotates the bits by one place. */
#if FNN_VBYTES * 8 / FNN_REAL_BITS == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif FNN_VBYTES * 8 / FNN_REAL_BITS == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#elif FNN_VBYTES * 8 / FNN_REAL_BITS == 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#else
#define LOW 0, 2
#define HIGH 1, 3
#define EVEN 0, 2
#define ODD 1, 3
#endif
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
INLINE void FN(shuffle_stage)(vec *restrict out, const vec *restrict r, const int count) {
#pragma GCC unroll 8
    for (int i = 0; i < count / 2; i++) {
        out[2 * i] = SHUFFLE(r[i], r[i + count / 2], LOW);
        out[2 * i + 1] = SHUFFLE(r[i], r[i + count / 2], HIGH);
    }
}
INLINE void FN(transpose)(vec *r) {
    vec s[VL];
    FN(shuffle_stage)(s, r, VL);
    if (VL == 2) {
        memcpy(r, s, sizeof s);
        return;
    }
    FN(shuffle_stage)(r, s, VL);
    if (VL == 4) return;
    FN(shuffle_stage)(s, r, VL);
    if (VL == 8) {
        memcpy(r, s, sizeof s);
        return;
    }
    FN(shuffle_stage)(r, s, VL);
}
/* The lanes of `count` vectors, 1, 2 or 4, in turn: r[0][0], r[1][0], ... then those of the next lane. */
INLINE void FN(interleave)(vec *r, const int count) {
    vec s[4];
    if (count == 1) return;
    FN(shuffle_stage)(s, r, count);
    if (count == 2) memcpy(r, s, 2 * sizeof(vec));
    else FN(shuffle_stage)(r, s, count);
}
/* And back. */
INLINE void FN(deinterleave)(vec *r, const int count) {
    for (int rest = count; rest > 1; rest /= 2) {
        vec s[4];
#pragma GCC unroll 2
        for (int i = 0; i < count / 2; i++) {
            s[i] = SHUFFLE(r[2 * i], r[2 * i + 1], EVEN);
            s[i + count / 2] = SHUFFLE(r[2 * i], r[2 * i + 1], ODD);
        }
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) r[i] = s[i];
    }
}
/* Lane q = the sum of the lanes of r[q], for `count` vectors up to VL, which are overwritten; 0 in the lanes past
 * them.  Each step adds the upper half of the lanes to the lower, of two vectors at once.  (A loop over the steps would
 * not be unrolled before gcc decides which arrays live in registers: all sums then went through memory.) */
INLINE void FN(halve_lanes)(vec *restrict r, const int half, const int count) {
#pragma GCC unroll 8
    for (int i = 0; i < half && i < count; i++) {
        const vec other = i + half < count ? r[i + half] : (vec){0};
        r[i] = SHUFFLE(r[i], other, LOW) + SHUFFLE(r[i], other, HIGH);
    }
}
INLINE vec FN(sums_of)(vec *restrict r, const int count) {
    if (VL > 8) FN(halve_lanes)(r, 8, count);
    if (VL > 4) FN(halve_lanes)(r, 4, VL > 8 && count > 8 ? 8 : count);
    if (VL > 2) FN(halve_lanes)(r, 2, VL > 4 && count > 4 ? 4 : count);
    FN(halve_lanes)(r, 1, VL > 2 && count > 2 ? 2 : count);
    return r[0];
}
#undef LOW
#undef HIGH
#undef EVEN
#undef ODD
