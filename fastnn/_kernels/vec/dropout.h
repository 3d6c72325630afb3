/* Inverted dropout: y = 0 where the element's random word is below `threshold`, x * scale elsewhere.
 *
 * The word is a function of (seed, offset, number of the element) alone, so the mask is the same however
 * the work is cut and on every instruction set, and the backward pass makes it again: dx = dropout(dy).
 * y may be x.  Rows may lie apart; elements are numbered in the order of the rows, from `first` on.
 *
 * Words: Philox4x32 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
 * section 3.3) of seven rounds, the fewest that pass all tests there (table 2).  Counter c, which is (c, offset)
 * under the key `seed`, gives four words, each of them to two elements: as it is to one in the first half of a
 * group, with its halves exchanged to one in the second.  The upper half decides but in one of 2^16 cases, so that
 * the chance of both being dropped is the product of theirs to about 2^-32.  Ten rounds and a word for each element
 * took 1.8 times as long. */

#if FNN_REAL_BITS == 32 /* the generator knows nothing of floats: once */
/* Counters side by side, a 64-bit lane for each 32-bit word: products then need no rearranging, and what is
 * left in the upper halves is never looked at.  Two or four vectors of them are under way at a time, because
 * a round waits for its multiplications. */
#define PHILOX_LANES (FNN_VBYTES / 8)
#define PHILOX_VECTORS (FNN_VBYTES == 64 ? 4 : 2)
#define PHILOX_WORDS (4 * PHILOX_LANES * PHILOX_VECTORS)
#define DROPOUT_GROUP 512 /* elements; their words stay in L1, and half of them is a multiple of PHILOX_WORDS */

/* The words of counters block, block + 1, ...: PHILOX_WORDS of them. */
INLINE void fnn_philox(uint32_t *words, uint64_t block, uint64_t seed, uint64_t offset) {
    const fnn_u64 m0 = (fnn_u64){0} + 0xD2511F53u, m1 = (fnn_u64){0} + 0xCD9E8D57u, zero = {0};
    /* so numbered that the two halves below come out in order */
#if FNN_VBYTES == 64
    const fnn_u64 lane = {0, 4, 1, 5, 2, 6, 3, 7};
#elif FNN_VBYTES == 32
    const fnn_u64 lane = {0, 2, 1, 3};
#else
    const fnn_u64 lane = {0, 1};
#endif
    fnn_u64 c0[PHILOX_VECTORS], c1[PHILOX_VECTORS], c2[PHILOX_VECTORS], c3[PHILOX_VECTORS];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 4
    for (int v = 0; v < PHILOX_VECTORS; v++) {
        c0[v] = lane + (block + (uint64_t)(v * PHILOX_LANES));
        c1[v] = c0[v] >> 32;
        c2[v] = zero + offset;
        c3[v] = zero + (offset >> 32);
    }
#pragma GCC unroll 7
    for (int turn = 0; turn < 7; turn++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const fnn_u64 key0 = zero + k0, key1 = zero + k1;
#pragma GCC unroll 4
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            const fnn_u64 p0 = fnn_product(c0[v], m0), p1 = fnn_product(c2[v], m1);
            c0[v] = fnn_upper(p1) ^ c1[v] ^ key0;
            c1[v] = p1;
            c2[v] = fnn_upper(p0) ^ c3[v] ^ key1;
            c3[v] = p0;
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < PHILOX_VECTORS; v++) {
        const fnn_u64 first = (c0[v] & 0xffffffffu) | c1[v] << 32, second = (c2[v] & 0xffffffffu) | c3[v] << 32;
        const fnn_u64 low = fnn_even(first, second), high = fnn_odd(first, second);
        memcpy(words + 4 * PHILOX_LANES * v, &low, sizeof low);
        memcpy(words + 4 * PHILOX_LANES * v + 2 * PHILOX_LANES, &high, sizeof high);
    }
}
typedef uint32_t FN(fnn_words) __attribute__((vector_size(FNN_VBYTES)));

/* The words of `n` elements of a group, from its first one on; more are written, but none past the group. */
static void fnn_group_words(uint32_t *words, ptrdiff_t n, uint64_t group, uint64_t seed, uint64_t offset) {
    const ptrdiff_t half = DROPOUT_GROUP / 2;
    for (ptrdiff_t w = 0; w < (n < half ? n : half); w += PHILOX_WORDS)
        fnn_philox(words + w, group * (half / 4) + (uint64_t)(w / 4), seed, offset);
    for (ptrdiff_t w = 0; w < n - half; w += PHILOX_WORDS)
#pragma GCC unroll 8
        for (int q = 0; q < PHILOX_WORDS; q += FNN_VBYTES / 4) {
            FN(fnn_words) v;
            memcpy(&v, words + w + q, sizeof v);
            v = v << 16 | v >> 16;
            memcpy(words + half + w + q, &v, sizeof v);
        }
}
#else
typedef uint32_t FN(fnn_words) __attribute__((vector_size(FNN_VBYTES / 2)));
typedef int32_t FN(fnn_kept) __attribute__((vector_size(FNN_VBYTES / 2)));
#endif

/* All ones where the word is kept. */
INLINE ivec FN(kept)(const uint32_t *words, uint32_t threshold) {
    FN(fnn_words) w;
    memcpy(&w, words, sizeof w);
#if FNN_REAL_BITS == 32
    return (ivec)(w >= threshold);
#else
    return __builtin_convertvector((FN(fnn_kept))(w >= threshold), ivec);
#endif
}

static void FN(dropout)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                        uint64_t first, uint32_t threshold, double scale, uint64_t seed, uint64_t offset) {
    real *y = y_;
    const real *x = x_;
    const vec factor = v_set1((real)scale);
    const uint64_t end = first + (uint64_t)rows * (uint64_t)cols;
    uint32_t words[DROPOUT_GROUP + 16] __attribute__((aligned(64))); /* the last vector is read whole */
    ptrdiff_t used = 0, made = 0;
    if (ldx == cols && ldy == cols) cols *= rows, rows = 1;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy)
        for (ptrdiff_t j = 0; j < cols;) {
            if (used == made) {
                used = (ptrdiff_t)(first % DROPOUT_GROUP);
                const uint64_t left = end - first + (uint64_t)used;
                made = left < DROPOUT_GROUP ? (ptrdiff_t)left : DROPOUT_GROUP;
                fnn_group_words(words, made, first / DROPOUT_GROUP, seed, offset);
            }
            const ptrdiff_t n = cols - j < made - used ? cols - j : made - used;
            ptrdiff_t q = 0;
            for (; q + VL <= n; q += VL) {
                const ivec kept = FN(kept)(words + used + q, threshold);
                v_store(y + j + q, (vec)((ivec)(v_load(x + j + q) * factor) & kept));
            }
            if (q < n) {
                const int m = (int)(n - q);
                const ivec kept = FN(kept)(words + used + q, threshold);
                v_store_last(y + j + q, (vec)((ivec)(v_load_part(x + j + q, m) * factor) & kept), m);
            }
            j += n, used += n, first += (uint64_t)n;
        }
}
