/* The ceiling of arithmetic: independent multiply-adds in registers, enough of them to hide their latency. */
#define CHAINS 12
static double FN(fma_loop)(void *sink, int64_t rounds) {
    vec acc[CHAINS];
#pragma GCC unroll 12 /* every loop: one that is left keeps the array in memory */
    for (int i = 0; i < CHAINS; i++) acc[i] = v_set1((real)i);
    vec a = v_set1((real)0.999), b = v_set1((real)1e-3);
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) acc[i] = v_fma(acc[i], a, b);
        /* the compiler must neither drop the loop nor run its rounds as one */
        __asm__ volatile("" : : : "memory");
    }
    vec sum = acc[0];
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++) sum += acc[i];
    *(real *)sink = v_sum(sum);
    return (double)rounds * CHAINS * VL * 2;
}
#undef CHAINS

/* The ceiling of memory: y = a x, again and again over the same two arrays of n elements, n a multiple of
 * four vectors. */
static void FN(scale_loop)(void *out, const void *in, ptrdiff_t n, int64_t rounds) {
    real *y = out;
    const real *x = in;
    vec a = v_set1((real)1.5);
    for (int64_t r = 0; r < rounds; r++) {
        for (ptrdiff_t i = 0; i < n; i += 4 * VL) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) v_store(y + i + j * VL, a * v_load(x + i + j * VL));
        }
        __asm__ volatile("" : : : "memory"); /* each round is run */
    }
}
