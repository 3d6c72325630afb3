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
