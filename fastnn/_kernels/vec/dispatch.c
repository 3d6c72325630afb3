/* Which variants are compiled in, and which of them this CPU and operating system can run. */
#include "table.h"

#if defined(__x86_64__) || defined(_M_X64)
extern const fnn_table fnn_table_avx512, fnn_table_avx2, fnn_table_baseline;
static const fnn_table *const tables[] = {&fnn_table_avx512, &fnn_table_avx2, &fnn_table_baseline};

/* The features tested are exactly those that setup.py lets the compiler use; the built-in also
 * asks the operating system (XGETBV) whether it saves the wide registers. */
int fnn_table_supported(int index) {
    __builtin_cpu_init();
    switch (index) {
        case 0:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi2");
        case 1: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
        default: return 1;
    }
}
int fnn_stores_past(void) {
    __builtin_cpu_init();
    return __builtin_cpu_is("amd");
}
#elif defined(__aarch64__)
extern const fnn_table fnn_table_neon; /* Advanced SIMD belongs to every AArch64 */
static const fnn_table *const tables[] = {&fnn_table_neon};
int fnn_table_supported(int index) { return index == 0; }
int fnn_stores_past(void) { return 0; }
#else
extern const fnn_table fnn_table_baseline;
static const fnn_table *const tables[] = {&fnn_table_baseline};
int fnn_table_supported(int index) { return index == 0; }
int fnn_stores_past(void) { return 0; }
#endif

int fnn_table_count(void) { return (int)(sizeof tables / sizeof *tables); }
const fnn_table *fnn_table_at(int index) { return tables[index]; }

const char *fnn_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

const char *fnn_activation_name(int index) {
#define X(name, saves) #name,
    static const char *const names[] = {FNN_ACTIVATION_LIST(X)};
#undef X
    return names[index];
}
int fnn_activation_saves(int index) {
#define X(name, saves) FNN_SAVES_##saves,
    static const int saved[] = {FNN_ACTIVATION_LIST(X)};
#undef X
    return saved[index];
}
const char *fnn_element_loss_name(int index) {
#define X(name) #name,
    static const char *const names[] = {FNN_ELEMENT_LOSS_LIST(X)};
#undef X
    return names[index];
}
const char *fnn_update_name(int index) {
#define X(name, states) #name,
    static const char *const names[] = {FNN_UPDATE_LIST(X)};
#undef X
    return names[index];
}
int fnn_update_states(int index) {
#define X(name, states) states,
    static const int counts[] = {FNN_UPDATE_LIST(X)};
#undef X
    return counts[index];
}
