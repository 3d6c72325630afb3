/* Results that are far larger than the caches: out = in, for rows of `cols` elements `ld` apart in `out` and
 * next to each other in `in`, which is a piece of L1 where a kernel has left them.  An ordinary store would
 * first read the line that it is about to overwrite, and push something else out of the cache for it.
 * Whole vectors on aligned addresses go past the caches, what is left at the ends of a row does not.
 */
static void FN(stream_rows)(void *out_, ptrdiff_t ld, const void *in_, ptrdiff_t rows, ptrdiff_t cols) {
    if (ld == cols) cols *= rows, rows = 1;
    for (ptrdiff_t i = 0; i < rows; i++) {
        real *out = (real *)out_ + i * ld;
        const real *in = (const real *)in_ + i * cols;
        ptrdiff_t j = FN(lead_of)(out, cols);
        if (j) v_store_part(out, v_load_part(in, (int)j), (int)j);
        for (; j + VL <= cols; j += VL) v_stream(out + j, v_load(in + j));
        if (j < cols) v_store_part(out + j, v_load_part(in + j, (int)(cols - j)), (int)(cols - j));
    }
    v_streamed();
}
