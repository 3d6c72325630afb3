/* Inverted dropout: y = 0 where the element's random number is below `threshold`, x * scale elsewhere.
 *
 * The number is a function of (seed, offset, number of the element) alone, so the mask is the same however
 * the work is cut and on every instruction set, and the backward pass makes it again: dx = dropout(dy).
 * y may be x.  Rows may lie apart; elements are numbered in the order of the rows, from `first` on.
 *
 * Method: the highest eight bits of 4096 numbers are drawn side by side, a place at a time.  A bit that differs from
 * the threshold's decides about its element; when the rest of the threshold is zeros, nothing more is drawn: one place
 * for p = 0.5, two for 0.25.  For the sixteen or so numbers that are still open after eight, the other 24
 * bits are drawn, each by itself.
 *
 * Words: Philox4x32 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
 * section 3.3) of seven rounds, the fewest that pass all tests there (table 2).  Counter c, which is (c, offset)
 * under the key `seed`, gives four words.  Group g has 2048 counters: 32 for each place, whose words hold a bit of every
 * element, and from the 1024th on one for every four elements, whose words hold, on top, the other bits. */

#if FNN_REAL_BITS == 32 /* the generator knows nothing of floats: once */
/* Counters side by side, a 64-bit lane for each 32-bit word: products then need no rearranging, and what is
 * left in the upper halves is never looked at.  Two or four vectors of them are under way at a time, because
 * a round waits for its multiplications. */
#define PHILOX_LANES (FNN_VBYTES / 8)
#define PHILOX_VECTORS (FNN_VBYTES == 64 ? 4 : 2)
#define PHILOX_WORDS (4 * PHILOX_LANES * PHILOX_VECTORS)
#define DROPOUT_GROUP 4096 /* elements: a bit of each is 128 words, a multiple of PHILOX_WORDS */
#define PLACES 8           /* bits that are drawn for all of them, if need be */

/* Seven rounds on so many vectors of counters c0, which become the first words of each, as the others become the
 * others; in the lower halves of the lanes. */
INLINE void fnn_philox(const int vectors, fnn_u64 *c0, fnn_u64 *c1, fnn_u64 *c2, fnn_u64 *c3, uint64_t seed, uint64_t offset) {
    const fnn_u64 m0 = (fnn_u64){0} + 0xD2511F53u, m1 = (fnn_u64){0} + 0xCD9E8D57u, zero = {0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        c1[v] = c0[v] >> 32;
        c2[v] = zero + offset;
        c3[v] = zero + (offset >> 32);
    }
#pragma GCC unroll 7
    for (int turn = 0; turn < 7; turn++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const fnn_u64 key0 = zero + k0, key1 = zero + k1;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const fnn_u64 p0 = fnn_product(c0[v], m0), p1 = fnn_product(c2[v], m1);
            c0[v] = fnn_upper(p1) ^ c1[v] ^ key0;
            c1[v] = p1;
            c2[v] = fnn_upper(p0) ^ c3[v] ^ key1;
            c3[v] = p0;
        }
    }
}

/* The words of counters block, block + 1, ..., of so many vectors of them, in order. */
INLINE void fnn_random_words(const int vectors, fnn_u64 *words, uint64_t block, uint64_t seed, uint64_t offset) {
    /* so numbered that the two halves below come out in order */
#if FNN_VBYTES == 64
    const fnn_u64 lane = {0, 4, 1, 5, 2, 6, 3, 7};
#elif FNN_VBYTES == 32
    const fnn_u64 lane = {0, 2, 1, 3};
#else
    const fnn_u64 lane = {0, 1};
#endif
    fnn_u64 c0[PHILOX_VECTORS], c1[PHILOX_VECTORS], c2[PHILOX_VECTORS], c3[PHILOX_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) c0[v] = lane + (block + (uint64_t)(v * PHILOX_LANES));
    fnn_philox(vectors, c0, c1, c2, c3, seed, offset);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const fnn_u64 first = (c0[v] & 0xffffffffu) | c1[v] << 32, second = (c2[v] & 0xffffffffu) | c3[v] << 32;
        words[2 * v] = fnn_even(first, second);
        words[2 * v + 1] = fnn_odd(first, second);
    }
}

/* Decides about the elements that are open after PLACES bits, by the others; clears the bits of those that are dropped. */
static __attribute__((noinline)) void fnn_decide_rest(uint32_t *kept, const uint64_t *open, int words, uint64_t group, int w,
                                                      uint32_t threshold, uint64_t seed, uint64_t offset) {
    uint16_t elements[32 * PHILOX_WORDS + PHILOX_LANES];
    int count = 0;
    for (int q = 0; q < words / 2; q++)
        for (uint64_t left = open[q]; left; left &= left - 1)
            elements[count++] = (uint16_t)(32 * w + 64 * q + __builtin_ctzll(left));
    for (int i = 0; i < PHILOX_LANES; i++) elements[count + i] = 0; /* of the last vector, unused */
    for (int i = 0; i < count; i += PHILOX_LANES) {
        fnn_u64 c[4];
        for (int q = 0; q < PHILOX_LANES; q++) c[0][q] = group * 2048 + 1024 + elements[i + q] / 4;
        fnn_philox(1, c, c + 1, c + 2, c + 3, seed, offset);
        for (int q = 0; q < PHILOX_LANES && i + q < count; q++) {
            const int e = elements[i + q];
            if ((uint32_t)c[e % 4][q] >> PLACES < (threshold & ~0u >> PLACES)) kept[e / 32] &= ~((uint32_t)1 << e % 32);
        }
    }
}

/* Which elements are kept: bits, 1 for kept, of so many vectors of counters, words w and on of a group. */
INLINE void fnn_kept_words(const int vectors, uint32_t *kept, uint64_t group, int w, uint32_t threshold, uint64_t seed,
                           uint64_t offset) {
    fnn_u64 less[2 * PHILOX_VECTORS], open[2 * PHILOX_VECTORS], bits[2 * PHILOX_VECTORS];
#pragma GCC unroll 8
    for (int q = 0; q < 2 * vectors; q++) less[q] = (fnn_u64){0}, open[q] = ~less[q];
    for (int place = 0; place < PLACES && threshold << place; place++) {
        fnn_random_words(vectors, bits, group * 2048 + (uint64_t)(place * 32 + w / 4), seed, offset);
        const fnn_u64 one = (fnn_u64){0} - (threshold >> (31 - place) & 1); /* all ones, or zeros */
#pragma GCC unroll 8
        for (int q = 0; q < 2 * vectors; q++) {
            less[q] |= open[q] & ~bits[q] & one;
            open[q] &= ~(bits[q] ^ one);
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < 2 * vectors; q++) less[q] = ~less[q];
    memcpy(kept + w, less, (size_t)(2 * vectors) * sizeof *less);
    if (threshold << PLACES)
        fnn_decide_rest(kept, (const uint64_t *)open, 4 * PHILOX_LANES * vectors, group, w, threshold, seed, offset);
}

/* The same for elements `from` to n of a group; more are written, but none past the group. */
static void fnn_group_kept(uint32_t *kept, ptrdiff_t from, ptrdiff_t n, uint64_t group, uint32_t threshold, uint64_t seed,
                           uint64_t offset) {
    int w = (int)(from / 32) / (4 * PHILOX_LANES) * (4 * PHILOX_LANES);
    for (; 32 * (w + 4 * PHILOX_LANES) < n && w + PHILOX_WORDS <= DROPOUT_GROUP / 32; w += PHILOX_WORDS)
        fnn_kept_words(PHILOX_VECTORS, kept, group, w, threshold, seed, offset);
    for (; 32 * w < n; w += 4 * PHILOX_LANES) fnn_kept_words(1, kept, group, w, threshold, seed, offset);
}
#endif

/* The mask of VL elements, from element e of a group on. */
INLINE vmask FN(kept)(const uint32_t *kept, ptrdiff_t e) {
    uint32_t bits;
    memcpy(&bits, (const char *)kept + e / 8, sizeof bits);
    return v_of_bits(bits >> e % 8, 0);
}

static void FN(dropout)(void *y_, ptrdiff_t ldy, const void *x_, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                        uint64_t first, uint32_t threshold, double scale, uint64_t seed, uint64_t offset) {
    real *y = y_;
    const real *x = x_;
    const vec factor = v_set1((real)scale);
    const uint64_t end = first + (uint64_t)rows * (uint64_t)cols;
    uint32_t kept[DROPOUT_GROUP / 32 + 1]; /* the last bits are read as part of a word */
    ptrdiff_t used = 0, made = 0;
    if (ldx == cols && ldy == cols) cols *= rows, rows = 1;
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy)
        for (ptrdiff_t j = 0; j < cols;) {
            if (used == made) {
                used = (ptrdiff_t)(first % DROPOUT_GROUP);
                const uint64_t left = end - first + (uint64_t)used;
                made = left < DROPOUT_GROUP ? (ptrdiff_t)left : DROPOUT_GROUP;
                if (threshold << 4) /* many bits will be drawn: time to bring the elements from memory */
                    for (ptrdiff_t q = 0; q < made - used && q < cols - j; q += LINE) {
                        __builtin_prefetch(x + j + q, 0, 2);
                        __builtin_prefetch(y + j + q, 1, 2);
                    }
                fnn_group_kept(kept, used, made, first / DROPOUT_GROUP, threshold, seed, offset);
            }
            const ptrdiff_t n = cols - j < made - used ? cols - j : made - used;
            ptrdiff_t q = 0;
            for (; used % 32 == 0 && q + 32 <= n; q += 32) {
                const uint32_t bits = kept[(used + q) / 32];
#pragma GCC unroll 16
                for (int v = 0; v < 32; v += VL)
                    v_store(y + j + q + v, v_sel(v_of_bits(bits, v), v_load(x + j + q + v) * factor, (vec){0}));
            }
            for (; q + VL <= n; q += VL) {
                v_store(y + j + q, v_sel(FN(kept)(kept, used + q), v_load(x + j + q) * factor, (vec){0}));
            }
            if (q < n) {
                const int m = (int)(n - q);
                v_store_last(y + j + q, v_sel(FN(kept)(kept, used + q), v_load_part(x + j + q, m) * factor, (vec){0}), m);
            }
            j += n, used += n, first += (uint64_t)n;
        }
}
