/* Maxout of x (rows, units * pieces), the pieces of one unit side by side:
 *   y_ih = max over j of x_i(h pieces + j)       which_ih = the first j that reaches it
 *   dx_i(h pieces + j) = dy_ih where j is which_ih, 0 elsewhere
 * (Goodfellow et al. 2013, arXiv:1302.4389, equation 1.)  A NaN wins over everything, the first one if there
 * are several.  Rows of x, y, dx, dy may lie apart; `which` is contiguous.  No overlap.  Split over threads
 * by rows, exact.
 *
 * Up to MAXOUT_PIECES pieces: VL units are `pieces` vectors; column j of them (a piece of each unit) is
 * gathered from these vectors by permutations.  More pieces are looked through one after the other. */
#ifndef MAXOUT_PIECES
#define MAXOUT_PIECES 8
#endif

/* Part `at` of n elements: VL of them, fewer, or none. */
INLINE vec FN(load_part_of)(const real *x, ptrdiff_t n, ptrdiff_t at) {
    const ptrdiff_t left = n - at * VL;
    return left >= VL ? v_load(x + at * VL) : left > 0 ? v_load_part(x + at * VL, (int)left) : (vec){0};
}

/* n <= VL units. */
INLINE void FN(maxout_units)(real *y, uint8_t *which, const real *x, int pieces, int n, const ivec *lane,
                             const vec *source) {
    vec best = {0}, index = {0};
    for (int j = 0; j < pieces; j++) {
        vec column = v_permute(FN(load_part_of)(x, (ptrdiff_t)n * pieces, 0), lane[j]);
        for (int m = 1; m < pieces; m++) {
            const vec part = FN(load_part_of)(x, (ptrdiff_t)n * pieces, m);
            column = v_sel(v_eq(source[j], v_set1((real)m)), v_permute(part, lane[j]), column);
        }
        if (j == 0) {
            best = column;
            continue;
        }
        /* taken unless it is less or equal (a NaN is neither) or there is a NaN already */
        const vmask less = v_le(column, best), number = v_eq(best, best);
        index = v_sel(less, index, v_sel(number, v_set1((real)j), index));
        best = v_sel(less, best, v_sel(number, column, best));
    }
    v_store_last(y, best, n);
    const ivec whole = __builtin_convertvector(index, ivec);
    uint8_t bytes[VL];
    for (int q = 0; q < VL; q++) bytes[q] = (uint8_t)whole[q];
    if (n == VL) memcpy(which, bytes, VL);
    else memcpy(which, bytes, (size_t)n);
}

INLINE void FN(maxout_row)(real *y, uint8_t *which, const real *x, int pieces, ptrdiff_t units, const ivec *lane,
                           const vec *source) {
    ptrdiff_t h = 0;
    for (; h + VL <= units; h += VL)
        FN(maxout_units)(y + h, which + h, x + h * pieces, pieces, VL, lane, source);
    if (h < units)
        FN(maxout_units)(y + h, which + h, x + h * pieces, pieces, (int)(units - h), lane, source);
}

static void FN(maxout_forward)(void *y_, ptrdiff_t ldy, uint8_t *which, const void *x_, ptrdiff_t ldx,
                               ptrdiff_t pieces, ptrdiff_t rows, ptrdiff_t units) {
    real *y = y_;
    const real *x = x_;
    if (ldx == units * pieces && ldy == units) units *= rows, rows = 1;
    if (pieces > MAXOUT_PIECES) {
        for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy, which += units)
            for (ptrdiff_t h = 0; h < units; h++) {
                const real *unit = x + h * pieces;
                ptrdiff_t best = 0;
                for (ptrdiff_t j = 1; j < pieces; j++)
                    if (!(unit[j] <= unit[best]) && unit[best] == unit[best]) best = j;
                y[h] = unit[best];
                which[h] = (uint8_t)best;
            }
        return;
    }
    ivec lane[MAXOUT_PIECES];
    vec source[MAXOUT_PIECES];
    for (int j = 0; j < pieces; j++)
        for (int q = 0; q < VL; q++) {
            const int at = q * (int)pieces + j;
            lane[j][q] = at % VL;
            source[j][q] = (real)(at / VL);
        }
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx, y += ldy, which += units) {
        if (pieces == 2) FN(maxout_row)(y, which, x, 2, units, lane, source); /* known, so unrolled */
        else if (pieces == 3) FN(maxout_row)(y, which, x, 3, units, lane, source);
        else FN(maxout_row)(y, which, x, (int)pieces, units, lane, source);
    }
}

/* n <= VL units. */
INLINE void FN(maxout_units_backward)(real *dx, const real *dy, const uint8_t *which, int pieces, int n,
                                      const ivec *unit, const vec *piece) {
    uint8_t bytes[VL] = {0};
    ivec whole;
    if (n == VL) memcpy(bytes, which, VL);
    else memcpy(bytes, which, (size_t)n);
    for (int q = 0; q < VL; q++) whole[q] = bytes[q];
    const vec chosen = __builtin_convertvector(whole, vec), g = v_load_part(dy, n);
    for (int m = 0; m < pieces && m * VL < n * pieces; m++) {
        const vec here = v_sel(v_eq(v_permute(chosen, unit[m]), piece[m]), v_permute(g, unit[m]), (vec){0});
        const int left = n * pieces - m * VL;
        if (left >= VL) v_store(dx + m * VL, here);
        else v_store_last(dx + m * VL, here, left);
    }
}

INLINE void FN(maxout_row_backward)(real *dx, const real *dy, const uint8_t *which, int pieces, ptrdiff_t units,
                                    const ivec *unit, const vec *piece) {
    ptrdiff_t h = 0;
    for (; h + VL <= units; h += VL)
        FN(maxout_units_backward)(dx + h * pieces, dy + h, which + h, pieces, VL, unit, piece);
    if (h < units)
        FN(maxout_units_backward)(dx + h * pieces, dy + h, which + h, pieces, (int)(units - h), unit, piece);
}

static void FN(maxout_backward)(void *dx_, ptrdiff_t lddx, const void *dy_, ptrdiff_t lddy, const uint8_t *which,
                                ptrdiff_t pieces, ptrdiff_t rows, ptrdiff_t units) {
    real *dx = dx_;
    const real *dy = dy_;
    if (lddx == units * pieces && lddy == units) units *= rows, rows = 1;
    if (pieces > MAXOUT_PIECES) {
        for (ptrdiff_t i = 0; i < rows; i++, dx += lddx, dy += lddy, which += units)
            for (ptrdiff_t h = 0; h < units; h++)
                for (ptrdiff_t j = 0; j < pieces; j++) dx[h * pieces + j] = j == which[h] ? dy[h] : 0;
        return;
    }
    ivec unit[MAXOUT_PIECES];
    vec piece[MAXOUT_PIECES];
    for (int m = 0; m < pieces; m++)
        for (int q = 0; q < VL; q++) {
            const int at = m * VL + q;
            unit[m][q] = at / (int)pieces;
            piece[m][q] = (real)(at % (int)pieces);
        }
    for (ptrdiff_t i = 0; i < rows; i++, dx += lddx, dy += lddy, which += units) {
        if (pieces == 2) FN(maxout_row_backward)(dx, dy, which, 2, units, unit, piece); /* known, so unrolled */
        else if (pieces == 3) FN(maxout_row_backward)(dx, dy, which, 3, units, unit, piece);
        else FN(maxout_row_backward)(dx, dy, which, (int)pieces, units, unit, piece);
    }
}
