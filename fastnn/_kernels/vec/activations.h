/* Activations: the point functions, and the loops over arrays that they share.
 *
 * To add one: its two point functions here, its line in FNN_ACTIVATION_LIST (table.h), its name in
 * activations.pyx, its twin in reference, its line in tests/cases.py.
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
    return v_sel(v_lt(x, (vec){0}), p.p[0] * v_expm1_down(v_min((vec){0}, x)), x);
}
INLINE vec FN(elu_grad)(vec dy, vec y, act_params p) { return v_sel(v_le(y, (vec){0}), dy * (y + p.p[0]), dy); }

/* sigmoid(x) = 1 / (1 + exp(-x)), as e / (1 + e) with e = exp(x) where x < 0: no overflow, and a small
 * probability keeps all its digits.  dx = dy y (1 - y). */
INLINE vec FN(sigmoid)(vec x, act_params p) {
    (void)p;
    const vec e = v_exp(-v_abs(x)), one = v_set1(1);
    return v_sel(v_lt(x, (vec){0}), e, one) / (one + e);
}
INLINE vec FN(sigmoid_grad)(vec dy, vec y, act_params p) { return (void)p, dy * (y * (1 - y)); }

/* tanh(x) = -e / (2 + e) with e = exp(-2|x|) - 1, the sign put back.  dx = dy (1 - y^2). */
INLINE vec FN(tanh)(vec x, act_params p) {
    (void)p;
    const vec e = v_expm1_down(v_abs(x) * -2);
    return v_copysign(e / (e + 2), x);
}
INLINE vec FN(tanh_grad)(vec dy, vec y, act_params p) { return (void)p, dy * v_fma(-y, y, v_set1(1)); }

/* selu(x) = s x where x > 0, s a (exp(x) - 1) elsewhere (Klambauer et al. 2017). */
#define SELU_ALPHA ((real)1.6732632423543772)
#define SELU_SCALE ((real)1.0507009873554805)
INLINE vec FN(selu)(vec x, act_params p) {
    (void)p;
    return v_sel(v_lt(x, (vec){0}), (SELU_SCALE * SELU_ALPHA) * v_expm1_down(v_min((vec){0}, x)), SELU_SCALE * x);
}
INLINE vec FN(selu_grad)(vec dy, vec y, act_params p) {
    (void)p;
    return v_sel(v_le(y, (vec){0}), dy * (y + SELU_SCALE * SELU_ALPHA), SELU_SCALE * dy);
}

/* softplus(x) = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)); dx = dy (1 - exp(-y)). */
INLINE vec FN(softplus)(vec x, act_params p) {
    return (void)p, v_max((vec){0}, x) + FN(log1p_unit)(v_exp(-v_abs(x)));
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
/* min(max(x + 3, 0), 6) / 6 */
INLINE vec FN(hard_sigmoid)(vec x, act_params p) { return (void)p, FN(clamp)(x + 3, 0, 6) / 6; }
INLINE vec FN(hard_sigmoid_grad)(vec dy, vec y, act_params p) { return (void)p, FN(clamp_grad)(dy / 6, y, 0, 1); }

/* --- those that fall before they rise: differentiated from their input ------------------------- */

/* silu(x) = x s, s = sigmoid(x); dx = dy s (1 + x (1 - s)) with 1 - s = sigmoid(-x). */
INLINE vec FN(silu)(vec x, act_params p) { return x * FN(sigmoid)(x, p); }
INLINE vec FN(silu_grad)(vec dy, vec x, act_params p) {
    return dy * (FN(sigmoid)(x, p) * v_fma(x, FN(sigmoid)(-x, p), v_set1(1)));
}

/* gelu(x) = x P(X <= x) = max(x, 0) - |x| P(X > |x|) for a normal X (Hendrycks and Gimpel 2016);
 * dx = dy (P(X <= x) + x density(x)).  -infinity * 0 is NaN, as in the formula. */
INLINE vec FN(gelu)(vec x, act_params p) {
    (void)p;
    vec density;
    ivec whole;
    const vec a = v_abs(x), tail = FN(normal_tail)(a, &density, &whole);
    const vec y = v_max((vec){0}, x) - FN(scale_by)(v_min(v_set1(64), a) * tail, whole);
    return v_sel(v_eq(x, v_set1(-(real)__builtin_inf())), x - x, y);
}
INLINE vec FN(gelu_grad)(vec dy, vec x, act_params p) {
    (void)p;
    vec density;
    ivec whole;
    const vec tail = FN(normal_tail)(v_abs(x), &density, &whole);
    const vec below = FN(scale_by)(tail, whole);
    const vec gate = v_sel(v_lt(x, (vec){0}), below, 1 - below);
    return dy * (gate + x * FN(scale_by)(density * (real)0.39894228040143267794, whole));
}

/* The tanh form: x (1 + tanh(u)) / 2 = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3). */
#define TWICE_ROOT ((real)1.5957691216057307117) /* 2 sqrt(2 / pi) */
INLINE vec FN(gelu_tanh)(vec x, act_params p) {
    const vec c = FN(clamp)(x, -100, 100); /* the gate is 0 or 1 from here on; the cube stays finite */
    return x * FN(sigmoid)(TWICE_ROOT * v_fma(c * c * (real)0.044715, c, c), p);
}
INLINE vec FN(gelu_tanh_grad)(vec dy, vec x, act_params p) {
    const vec c = FN(clamp)(x, -100, 100), square = c * c * (real)0.044715;
    const vec twice_u = TWICE_ROOT * v_fma(square, c, c);
    const vec gate = FN(sigmoid)(twice_u, p);
    const vec slope = gate * FN(sigmoid)(-twice_u, p) * (TWICE_ROOT * v_fma(square, v_set1(3), v_set1(1)));
    return dy * v_fma(x, slope, gate);
}

/* hard_swish(x) = x min(max(x + 3, 0), 6) / 6; dx = dy (2 x + 3) / 6 between -3 and 3, 0 and dy outside. */
INLINE vec FN(hard_swish)(vec x, act_params p) { return (void)p, x * (FN(clamp)(x + 3, 0, 6) / 6); }
INLINE vec FN(hard_swish_grad)(vec dy, vec x, act_params p) {
    (void)p;
    const vec inside = dy * ((x * 2 + 3) / 6);
    return v_sel(v_le(x, v_set1(-3)), (vec){0}, v_sel(v_le(v_set1(3), x), dy, inside));
}

#define X(name, saves)                                                                                \
    static void FN(name##_forward)(void *y_, const void *x_, ptrdiff_t n, const double *params) {     \
        real *y = y_;                                                                                 \
        const real *x = x_;                                                                           \
        const act_params p = FN(spread)(params);                                                      \
        ptrdiff_t i = 0;                                                                              \
        for (; i + VL <= n; i += VL) v_store(y + i, FN(name)(v_load(x + i), p));                      \
        if (i < n) v_store_part(y + i, FN(name)(v_load_part(x + i, (int)(n - i)), p), (int)(n - i));  \
    }                                                                                                 \
    static void FN(name##_backward)(void *dx_, const void *dy_, const void *saved_, ptrdiff_t n,      \
                                    const double *params) {                                           \
        real *dx = dx_;                                                                               \
        const real *dy = dy_, *saved = saved_;                                                        \
        const act_params p = FN(spread)(params);                                                      \
        ptrdiff_t i = 0;                                                                              \
        for (; i + VL <= n; i += VL)                                                                  \
            v_store(dx + i, FN(name##_grad)(v_load(dy + i), v_load(saved + i), p));                   \
        if (i < n) {                                                                                  \
            const int k = (int)(n - i);                                                               \
            v_store_part(dx + i, FN(name##_grad)(v_load_part(dy + i, k), v_load_part(saved + i, k), p), k); \
        }                                                                                             \
    }
FNN_ACTIVATION_LIST(X)
#undef X
