/* Activations: the point functions, and the loops over arrays that they share.
 *
 * To add one: its two point functions here, its line in FNN_ACTIVATION_LIST (table.h) and in the lists of
 * batchnorm.h or batchnorm_long.h, its name in activations.pyx, its twin in reference, its line in tests/cases.py.
 *   <name>(x, p)           y = f(x)
 *   <name>_grad(dy, s, p)  dx = dy f'(x), from the saved s: y (OUTPUT) or x (INPUT), as the list says
 * p: the parameters of the activation, each already spread over a vector.
 * The loops: y may be x, dx may be dy.  Split over threads by ranges of elements.
 */
#undef FNN_MOST_PARAMS
#define FNN_MOST_PARAMS 2
typedef struct {
    vec p[FNN_MOST_PARAMS];
} FN(act_params);
#define act_params FN(act_params)
INLINE act_params FN(spread)(const double *params) {
    act_params p;
    for (int i = 0; i < FNN_MOST_PARAMS; i++) p.p[i] = v_set1(params ? (real)params[i] : 0);
    return p;
}

INLINE vec FN(identity)(vec x, act_params p) { return (void)p, x; }
INLINE vec FN(identity_grad)(vec dy, vec y, act_params p) { return (void)p, (void)y, dy; }

/* relu(x) = max(x, 0); NaN stays NaN.  dx = 0 where y <= 0, else dy. */
INLINE vec FN(relu)(vec x, act_params p) { return (void)p, v_max((vec){0}, x); }
INLINE vec FN(relu_grad)(vec dy, vec y, act_params p) { return (void)p, v_sel(v_le(y, (vec){0}), (vec){0}, dy); }

/* leaky_relu(x) = x where x > 0, a x elsewhere; dx = a dy where y <= 0, else dy. */
INLINE vec FN(leaky_relu)(vec x, act_params p) { return v_sel(v_gt(x, (vec){0}), x, p.p[0] * x); }
INLINE vec FN(leaky_relu_grad)(vec dy, vec y, act_params p) {
    return v_sel(v_le(y, (vec){0}), p.p[0] * dy, dy);
}

/* elu(x) = x where x >= 0, a (exp(x) - 1) elsewhere; dx = dy (y + a) where y < 0, else dy. */
INLINE vec FN(elu)(vec x, act_params p) {
    vec lost;
    const vec e = FN(expm1_down_low)(x, &lost);
    return v_sel(v_lt(x, (vec){0}), v_fused(e, p.p[0], lost * p.p[0]), x);
}
INLINE vec FN(elu_grad)(vec dy, vec y, act_params p) { return v_sel(v_le(y, (vec){0}), dy * (y + p.p[0]), dy); }

/* sigmoid(x) = 1 / (1 + exp(-x)), see logistic_of: no overflow, and a small probability keeps all its
 * digits.  dx = dy y (1 - y). */
INLINE vec FN(sigmoid)(vec x, act_params p) {
    (void)p;
    return FN(times_gate)(v_set1(1), FN(logistic_of)(FN(logistic_range)(x)));
}
INLINE vec FN(sigmoid_grad)(vec dy, vec y, act_params p) { return (void)p, dy * (y * (1 - y)); }

/* tanh(x); dx = dy (1 - y^2). */
INLINE vec FN(tanh)(vec x, act_params p) { return (void)p, FN(v_tanh)(x); }
INLINE vec FN(tanh_grad)(vec dy, vec y, act_params p) { return (void)p, dy * v_fma(-y, y, v_set1(1)); }

/* selu(x) = s x where x > 0, s a (exp(x) - 1) elsewhere (Klambauer et al. 2017); s a in two parts. */
#define SELU_SCALE ((real)1.0507009873554805)
#undef SELU_LEAST
#undef SELU_LEAST_LOW
#if FNN_REAL_BITS == 32
#define SELU_LEAST ((real)1.7580993408473766)
#define SELU_LEAST_LOW ((real)(1.7580993408473766 - SELU_LEAST))
#else
#define SELU_LEAST 1.7580993408473766
#define SELU_LEAST_LOW 5.75014648756476e-17
#endif
INLINE vec FN(selu)(vec x, act_params p) {
    (void)p;
    const vec least = v_set1(SELU_LEAST);
    vec lost;
    const vec e = FN(expm1_down_low)(x, &lost);
    return v_sel(v_lt(x, (vec){0}), v_fused(e, least, v_fma(lost, least, e * SELU_LEAST_LOW)), SELU_SCALE * x);
}
INLINE vec FN(selu_grad)(vec dy, vec y, act_params p) {
    (void)p;
    return v_sel(v_le(y, (vec){0}), dy * (y + SELU_LEAST), SELU_SCALE * dy);
}

/* softplus(x) = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)); dx = dy (1 - exp(-y)). */
INLINE vec FN(softplus)(vec x, act_params p) {
    (void)p;
    return v_max((vec){0}, x) + FN(log1p_exp)(v_abs(x));
}
INLINE vec FN(softplus_grad)(vec dy, vec y, act_params p) { return (void)p, dy * -v_expm1_down(-y); }

/* Piecewise linear forms: clamps, whose gradient is 0 where they are flat. */
INLINE vec FN(clamp)(vec x, real low, real high) { return v_min(v_set1(high), v_max(v_set1(low), x)); }
INLINE vec FN(clamp_grad)(vec dy, vec y, real low, real high) {
    const vec flat = {0};
    return v_sel(v_le(y, v_set1(low)), flat, v_sel(v_le(v_set1(high), y), flat, dy));
}
INLINE vec FN(relu6)(vec x, act_params p) { return (void)p, FN(clamp)(x, 0, 6); }
INLINE vec FN(relu6_grad)(vec dy, vec y, act_params p) { return (void)p, FN(clamp_grad)(dy, y, 0, 6); }
INLINE vec FN(hard_tanh)(vec x, act_params p) { return (void)p, FN(clamp)(x, -1, 1); }
INLINE vec FN(hard_tanh_grad)(vec dy, vec y, act_params p) { return (void)p, FN(clamp_grad)(dy, y, -1, 1); }
/* (c + 3) / 6 for -3 <= c <= 3 as a rounded value and what it lost, a trifle apart: the sum as what it is rounded to
 * and its rest, the division as a multiplication, and what is left of the sum after it. */
INLINE vec FN(hard_gate)(vec c, vec *low) {
    const vec sum = c + 3, sum_low = (3 - sum) + c, sixth = v_set1((real)(1 / 6.)), y = sum * sixth;
    *low = (sum_low - v_lost(y, v_set1(6), sum)) * sixth;
    return y;
}
/* min(max(x + 3, 0), 6) / 6, rounded once. */
INLINE vec FN(hard_sigmoid)(vec x, act_params p) {
    (void)p;
    vec low;
    const vec gate = FN(hard_gate)(FN(clamp)(x, -3, 3), &low);
    return gate + low;
}
INLINE vec FN(hard_sigmoid_grad)(vec dy, vec y, act_params p) { return (void)p, FN(clamp_grad)(dy / 6, y, 0, 1); }

/* --- those that fall before they rise: differentiated from their input ------------------------- */

/* max(x, 0), but -0 below, and NaN at -infinity. */
INLINE vec FN(cut_below)(vec x) { return v_sel(v_lt(x, (vec){0}), x * 0, x); }

/* x s for a gate s of c, x cut to where s is neither 0 nor 1; `below` is x cut from above alone.  What x is above comes
 * back by addition: -0 below, which leaves a zero its sign, and NaN where x is -infinity.  It gives x again, whatever
 * the difference was rounded to, as the cut is the last number below a power of two: the difference is exact below
 * the next one, at which ties go to the even number, x, and above there are none. */
INLINE vec FN(gated)(vec x, vec below, vec c, FN(logistic) s) {
    return v_fma(c * s.gate, FN(power_of_two)(-LIFT), -(below - x));
}
/* dy s (1 + x u' (1 - s)) for a gate s = sigmoid(u); x * 0 is nothing but where x is infinite: NaN. */
INLINE vec FN(gated_grad)(vec dy, vec x, vec c, vec slope, FN(logistic) s) {
    return dy * FN(times_gate)(v_fma(slope * v_fma(x, (vec){0}, c), s.other, v_set1(1)), s);
}

/* silu(x) = x s, s = sigmoid(x). */
INLINE vec FN(silu)(vec x, act_params p) {
    (void)p;
    const vec below = v_min(v_set1(GATE_MOST), x), c = v_max(v_set1(GATE_LEAST), below);
    return FN(gated)(x, below, c, FN(logistic_of)(c));
}
INLINE vec FN(silu_grad)(vec dy, vec x, act_params p) {
    (void)p;
    const vec c = FN(logistic_range)(x);
    return FN(gated_grad)(dy, x, c, v_set1(1), FN(logistic_of)(c));
}

/* gelu(x) = x P(X <= x) = max(x, 0) - |x| P(X > |x|) for a normal X (Hendrycks and Gimpel 2016).
 * dx = dy (P(X <= x) + x density(x)).  gelu_far is right everywhere: two products, each with what it lost. */
INLINE vec FN(gelu_far)(vec x) {
    const vec a = v_min(v_set1(NORMAL_MOST), v_abs(x));
    const FN(normal) t = FN(normal_tail)(a);
    const vec y = a * t.tail, low = v_fma(y, t.more, v_fma(a, t.low, v_lost(a, t.tail, y)));
    const vec product = y + v_fma(y, t.p, v_fma(low, t.p, low)); /* (y + low) (1 + p) */
    return v_fma(-product * t.power, FN(power_of_two)(-LIFT), FN(cut_below)(x));
}
INLINE vec FN(gelu)(vec x, act_params p) {
    (void)p;
#if FNN_TABLES /* and the other way only for what is below -5.5, if anything is */
    const vec a = v_min(v_set1(NORMAL_NEAR), v_abs(x)); /* above, P(X > a) x is nothing beside x */
    const vec y = v_fma(-a, FN(normal_near)(a), FN(cut_below)(x));
    const vmask far = v_lt(x, v_set1(-NORMAL_NEAR));
    return __builtin_expect(v_any(far), 0) ? v_sel(far, FN(gelu_far)(x), y) : y;
#else
    return FN(gelu_far)(x);
#endif
}
INLINE vec FN(gelu_grad)(vec dy, vec x, act_params p) {
    (void)p;
    const vec c = FN(clamp)(x, -NORMAL_MOST, NORMAL_MOST);
    const FN(normal) t = FN(normal_tail)(v_abs(c));
    const vmask negative = v_lt(x, (vec){0});
    const vec slope = v_fma(c, v_set1((real)0.39894228040143267794), v_sel(negative, t.tail, -t.tail));
    const vec lifted = v_fma(slope, t.p, slope) * t.power, base = v_sel(negative, (vec){0}, v_set1(1));
    const vec g = v_fma(lifted, FN(power_of_two)(-LIFT), base);
    return dy * v_fma(x, (vec){0}, g); /* NaN where x is infinite */
}

/* The tanh form: x (1 + tanh(u)) / 2 = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3).  2u, whose error exp
 * magnifies, is x (T + T 0.044715 x^2) as a rounded value and what it lost.  T and T 0.044715 are in two parts each, the
 * first of T so short that sum - T, and with it what the sum has lost, is exact. */
#if FNN_REAL_BITS == 32
#define TWICE_ROOT 1.5957689f
#define TWICE_ROOT_LOW 1.930779e-07f
#define CUBIC 7.1354814e-02f
#define CUBIC_LOW 2.3988325e-09f
#define GELU_TANH_LEAST -11.0f    /* below, the product is 0; */
#define GELU_TANH_MOST 7.9999995f /* above, the gate is 1; as GATE_MOST */
#else
#define TWICE_ROOT 1.595769121605727
#define TWICE_ROOT_LOW 3.675065195634423e-15
#define CUBIC 0.07135481627260025
#define CUBIC_LOW -6.175149918155315e-19
#define GELU_TANH_LEAST -21.6
#define GELU_TANH_MOST 7.999999999999999
#endif
INLINE FN(logistic) FN(gelu_tanh_gate)(vec x) {
    const vec t = v_set1(TWICE_ROOT), c = v_set1(CUBIC), square = x * x, sum = v_fma(square, c, t);
    const vec low = v_fma(v_lost(x, x, square), c, v_fma(square, v_set1(CUBIC_LOW), v_set1(TWICE_ROOT_LOW)));
    const vec sum_low = v_lost(square, c, sum - t) + low, twice_u = x * sum;
    return FN(logistic_of_low)(twice_u, v_fma(x, sum_low, v_lost(x, sum, twice_u)));
}
INLINE vec FN(gelu_tanh)(vec x, act_params p) {
    (void)p;
    const vec below = v_min(v_set1(GELU_TANH_MOST), x), c = v_max(v_set1(GELU_TANH_LEAST), below);
    return FN(gated)(x, below, c, FN(gelu_tanh_gate)(c));
}
INLINE vec FN(gelu_tanh_grad)(vec dy, vec x, act_params p) {
    (void)p;
    const vec c = FN(clamp)(x, GELU_TANH_LEAST, GELU_TANH_MOST);
    const vec steep = v_fma(c * c, v_set1(3 * CUBIC), v_set1(TWICE_ROOT + TWICE_ROOT_LOW)); /* (2u)' */
    return FN(gated_grad)(dy, x, c, steep, FN(gelu_tanh_gate)(c));
}

/* hard_swish(x) = x min(max(x + 3, 0), 6) / 6, rounded once; dx = dy (2 x + 3) / 6 between -3 and 3, 0 and
 * dy outside. */
INLINE vec FN(hard_swish)(vec x, act_params p) {
    (void)p;
    vec low;
    const vec c = FN(clamp)(x, -3, 3), gate = FN(hard_gate)(c, &low);
    /* beyond 3, where c is not x, nothing is lost; the rest comes with the sign turned, so that -0 stays -0 */
    return x * gate - v_fma(-c, low, -v_lost(c, gate, c * gate));
}
INLINE vec FN(hard_swish_grad)(vec dy, vec x, act_params p) {
    (void)p;
    const vec inside = dy * ((x * 2 + 3) / 6);
    return v_sel(v_le(x, v_set1(-3)), (vec){0}, v_sel(v_le(v_set1(3), x), dy, inside));
}

/* The point functions are long chains of dependent operations: several vectors at a time, their operations
 * mixed, keep the units busy.  gcc schedules before it allocates registers only if asked. */
#undef MIXED
#if defined(__GNUC__) && !defined(__clang__) && FNN_VBYTES == 64
#define MIXED __attribute__((optimize("schedule-insns")))
#elif defined(__GNUC__) && !defined(__clang__) /* 16 registers: no more at once than they hold */
#define MIXED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define MIXED
#endif
/* Four, though 16 registers cannot hold all of them: their order counts for more.  GELU needs many registers for
 * itself, or, by table, the unit that permutes. */
#undef AT_ONCE
#define AT_ONCE(name) (FNN_ACT_##name != FNN_ACT_gelu ? 4 : FNN_VBYTES < 64 ? 3 : 2)

/* Where the chains are long, what is read is asked for a page ahead: the hardware's own prefetching ends with each page
 * and is not begun again in time (in memory up to 1.2 times as fast; the short ones lose 5% in L2). */
#undef ASK
#undef IS_LONG
#undef IS_LONG_BACK
#define ASK(is_long, p)                                                             \
    if (is_long)                                                                    \
        _Pragma("GCC unroll 4") for (int b = 0; b < many * FNN_VBYTES; b += 64)     \
            __builtin_prefetch((const char *)(p) + 4096 + b)
#define IS_LONG(kind) (((kind) >= FNN_ACT_elu && (kind) <= FNN_ACT_softplus) || IS_LONG_BACK(kind))
#define IS_LONG_BACK(kind) ((kind) >= FNN_ACT_silu && (kind) <= FNN_ACT_gelu_tanh)

#define X(name, saves)                                                                                \
    MIXED static void FN(name##_forward)(void *y_, const void *x_, ptrdiff_t n, const double *params, int past) { \
        real *y = y_;                                                                                 \
        const real *x = x_;                                                                           \
        const act_params p = FN(spread)(params);                                                      \
        ptrdiff_t i = 0;                                                                              \
        enum { many = AT_ONCE(name) };                                                                \
        for (; i + many * VL <= n; i += many * VL) {                                                  \
            vec v[many];                                                                              \
            ASK(IS_LONG(FNN_ACT_##name), x + i);                                                      \
            EACH v[j] = FN(name)(v_load(x + i + j * VL), p);                                          \
            if (past) EACH v_stream(y + i + j * VL, v[j]);                                            \
            else EACH v_store(y + i + j * VL, v[j]);                                                  \
        }                                                                                             \
        if (past) v_stream_end();                                                                     \
        for (; i + VL <= n; i += VL) v_store(y + i, FN(name)(v_load(x + i), p));                      \
        if (i < n) v_store_last(y + i, FN(name)(v_load_part(x + i, (int)(n - i)), p), (int)(n - i));  \
    }                                                                                                 \
    MIXED static void FN(name##_backward)(void *dx_, const void *dy_, const void *saved_, ptrdiff_t n, \
                                          const double *params, int past) {                           \
        real *dx = dx_;                                                                               \
        const real *dy = dy_, *saved = saved_;                                                        \
        const act_params p = FN(spread)(params);                                                      \
        ptrdiff_t i = 0;                                                                              \
        enum { many = AT_ONCE(name) };                                                                \
        for (; i + many * VL <= n; i += many * VL) {                                                  \
            vec v[many];                                                                              \
            ASK(IS_LONG_BACK(FNN_ACT_##name), dy + i);                                                \
            ASK(IS_LONG_BACK(FNN_ACT_##name), saved + i);                                             \
            EACH v[j] = FN(name##_grad)(v_load(dy + i + j * VL), v_load(saved + i + j * VL), p);      \
            if (past) EACH v_stream(dx + i + j * VL, v[j]);                                           \
            else EACH v_store(dx + i + j * VL, v[j]);                                                 \
        }                                                                                             \
        if (past) v_stream_end();                                                                     \
        for (; i + VL <= n; i += VL)                                                                  \
            v_store(dx + i, FN(name##_grad)(v_load(dy + i), v_load(saved + i), p));                   \
        if (i < n) {                                                                                  \
            const int k = (int)(n - i);                                                               \
            v_store_last(dx + i, FN(name##_grad)(v_load_part(dy + i, k), v_load_part(saved + i, k), p), k); \
        }                                                                                             \
    }
#define EACH _Pragma("GCC unroll 4") for (int j = 0; j < many; j++)
FNN_ACTIVATION_LIST(X)
#undef X
#undef EACH
#undef TWICE_ROOT
#undef TWICE_ROOT_LOW
#undef CUBIC
#undef CUBIC_LOW
#undef GELU_TANH_LEAST
#undef GELU_TANH_MOST
