/* The ceiling: independent multiply-adds in registers, enough of them to hide their latency. */
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
