/* The table of function pointers that one instruction set fills, and the lists shared with Cython.
 *
 * Every entry runs on the calling thread, allocates nothing and knows nothing of Python.  Arrays
 * are `void *` of the float type of the table they belong to; `ld` is the distance between rows in
 * elements.  The formulas stand above the bodies, in the file of each family.
 */
#ifndef FNN_TABLE_H
#define FNN_TABLE_H
#include <stddef.h>
#include <stdint.h>

/* Activations: name, what the backward pass differentiates from (OUTPUT or INPUT). */
#define FNN_ACTIVATION_LIST(X) \
    X(identity, OUTPUT)        \
    X(relu, OUTPUT)            \
    X(leaky_relu, OUTPUT)      \
    X(elu, OUTPUT)             \
    X(sigmoid, OUTPUT)         \
    X(tanh, OUTPUT)            \
    X(selu, OUTPUT)            \
    X(softplus, OUTPUT)        \
    X(relu6, OUTPUT)           \
    X(hard_tanh, OUTPUT)       \
    X(hard_sigmoid, OUTPUT)    \
    X(silu, INPUT)             \
    X(gelu, INPUT)             \
    X(gelu_tanh, INPUT)        \
    X(hard_swish, INPUT)

enum {
#define X(name, saved) FNN_ACT_##name,
    FNN_ACTIVATION_LIST(X)
#undef X
    FNN_ACTIVATIONS
};
enum { FNN_SAVES_OUTPUT, FNN_SAVES_INPUT };

/* Losses that compare element by element: name (see losses.h). */
#define FNN_ELEMENT_LOSS_LIST(X) \
    X(mean_squared_error)        \
    X(mean_absolute_error)       \
    X(huber)                     \
    X(binary_cross_entropy)

enum {
#define X(name) FNN_LOSS_##name,
    FNN_ELEMENT_LOSS_LIST(X)
#undef X
    FNN_ELEMENT_LOSSES
};

/* Updates: name, arrays of state beside the parameters. */
#define FNN_UPDATE_LIST(X)  \
    X(sgd, 0)               \
    X(momentum, 1)          \
    X(nesterov, 1)          \
    X(adagrad, 1)           \
    X(rmsprop, 1)           \
    X(rmsprop_momentum, 2)  \
    X(adam, 2)

enum {
#define X(name, states) FNN_UPDATE_##name,
    FNN_UPDATE_LIST(X)
#undef X
    FNN_UPDATES
};

/* What an update needs beside its arrays (updates.h says what it does with it). */
typedef struct {
    double clip_value;    /* infinity: none */
    double clip_scale[2]; /* two factors: a single one might be a subnormal float */
    double decay, pull, keep, lr, momentum, rho, root, eps;
} fnn_update;

/* The most columns that `max_norm` takes in one call. */
enum { FNN_NORM_COLS = 128 };

/* Where the sums of a matrix product start. */
enum { FNN_FROM_ZERO, FNN_FROM_BIAS, FNN_FROM_C };

/* What is wanted after a block of a matrix product, fetched into L2 beside its steps (see gemm_block). */
enum { FNN_STRETCHES = 3 };
typedef struct {
    const char *at;
    ptrdiff_t bytes;
} fnn_stretch;
typedef struct {
    const char *rows; /* of A, `stride` bytes from what is fetched for one tile (step) to the next; or NULL */
    ptrdiff_t stride;
    fnn_stretch stretches[FNN_STRETCHES]; /* whatever else; those of no bytes are left out */
    const char *saved; /* what the epilogue reads at the first element of C, rows `saved_row` bytes apart; or NULL */
    ptrdiff_t saved_row;
} fnn_ahead;

typedef struct {
    int lanes; /* of one vector */
    int low;   /* vectors of columns that outer_block takes a few rows of at a time, at most; 0: none */
    int mr;    /* rows of a register tile */
    int nr;    /* columns of a register tile, and of a packed panel of B */
    int edge;  /* columns past the last whole vector that gemm_block computes otherwise, at most, */
    int edge_steps; /* from so many steps of k on: these, too, it reads from a B in place */
    int block_bytes; /* of a row of a block of C: so much of B, for 2 KiB of k, stays in half of an L2 */
    int flipped;     /* columns of x.T @ dy at most that is computed as its transpose */
    int far_b_in_place; /* whether a B that is far is best used where it lies, by blocks as wide as it */
    int shared_rows; /* of C from which packing a B pays that is far, or whose rows share cache sets */

    /* gemm.h */
    void (*pack_b)(void *panels, ptrdiff_t panel_stride, const void *b, ptrdiff_t ld, int transposed, ptrdiff_t k, ptrdiff_t n);
    void (*pack_a)(void *tiles, ptrdiff_t tile_stride, const void *a, ptrdiff_t ld, ptrdiff_t m, ptrdiff_t k);
    void (*gemm_block)(void *c, ptrdiff_t ldc, const void *a, ptrdiff_t sa, int column_mode, ptrdiff_t tile_stride,
                       const void *b, ptrdiff_t sb, ptrdiff_t panel_stride, const void *bias, ptrdiff_t m,
                       ptrdiff_t n, ptrdiff_t k, int start, int by_panels, const fnn_ahead *ahead);
    /* skinny.h */
    void (*dot_block)(void *c, ptrdiff_t ci, ptrdiff_t cj, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                      const void *bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k);
    void (*stream_block)(void *c, ptrdiff_t ldc, const void *a, ptrdiff_t sa, int column_mode, const void *b, ptrdiff_t ldb,
                         const void *bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k);
    void (*outer_block)(void *c, ptrdiff_t ldc, const void *a, ptrdiff_t sa, int column_mode, const void *b, ptrdiff_t ldb,
                        const void *bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k);
    void (*narrow_block)(void *c, ptrdiff_t ldc, const void *a, ptrdiff_t sa, int column_mode, const void *b, ptrdiff_t bp,
                         ptrdiff_t bj, const void *bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k);
    void (*transpose)(void *out, ptrdiff_t ldo, const void *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols);
    /* gemm.h, for what stands around a product */
    void (*column_sums)(void *sums, const void *x, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t cols);
    void (*gather_rows)(void *out, ptrdiff_t ldo, const void *x, ptrdiff_t ldx, const int64_t *rows_wanted,
                        ptrdiff_t rows, ptrdiff_t cols);

    /* activations.h; params: the numbers of the activation, in the order of its signature; past: the result goes past the
     * caches, and begins on a cache line */
    void (*activation_forward[FNN_ACTIVATIONS])(void *y, const void *x, ptrdiff_t n, const double *params, int past);
    void (*activation_backward[FNN_ACTIVATIONS])(void *dx, const void *dy, const void *saved, ptrdiff_t n,
                                                 const double *params, int past);

    /* batchnorm.h; far: whether the matrices are in no cache of the core's own; 2: and y goes past all */
    void (*batchnorm_statistics)(double *mean, double *m2, const void *x, ptrdiff_t ld, ptrdiff_t rows,
                                 ptrdiff_t cols, int far);
    void (*batchnorm_finalize)(void *mean, void *rstd, void *scale, void *shift, const double *exact_mean,
                               const double *m2, const void *gamma, const void *beta, void *running_mean,
                               void *running_var, double rows, double momentum, double eps, ptrdiff_t cols);
    void (*batchnorm_frozen)(void *mean, void *rstd, void *scale, const void *running_mean,
                             const void *running_var, const void *gamma, double eps, ptrdiff_t cols);
    void (*batchnorm_coefficients)(void *dgamma, void *dbeta, void *c_g, void *c_x, void *c_1, const double *sum_g,
                                   const double *sum_gx, const double *sum_xc, const void *gamma, const void *rstd,
                                   double rows, int training, ptrdiff_t cols);
    void (*batchnorm_apply[FNN_ACTIVATIONS])(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx,
                                             const void *mean, const void *scale, const void *shift,
                                             ptrdiff_t rows, ptrdiff_t cols, int far, const double *params);
    void (*batchnorm_backward_sums[FNN_ACTIVATIONS])(double *sum_g, double *sum_gx, double *sum_xc, const void *dy,
                                                     ptrdiff_t lddy, const void *x, ptrdiff_t ldx,
                                                     const void *saved, ptrdiff_t lds, const void *mean,
                                                     const void *scale, const void *shift, ptrdiff_t rows,
                                                     ptrdiff_t cols, int far, const double *params);
    void (*batchnorm_backward_apply[FNN_ACTIVATIONS])(void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy,
                                                      const void *x, ptrdiff_t ldx, const void *saved,
                                                      ptrdiff_t lds, const void *mean, const void *scale,
                                                      const void *shift, const void *c_g, const void *c_x,
                                                      const void *c_1, ptrdiff_t rows, ptrdiff_t cols, int far,
                                                      const double *params);

    /* batchnorm_runs.h: the same of x (rows, channels, inner) */
    void (*batchnorm_run_statistics)(double *mean, double *m2, const void *x, ptrdiff_t ld, ptrdiff_t rows,
                                     ptrdiff_t channels, ptrdiff_t inner);
    void (*batchnorm_run_apply[FNN_ACTIVATIONS])(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx,
                                                 const void *mean, const void *scale, const void *shift,
                                                 ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t inner,
                                                 const double *params);
    void (*batchnorm_run_backward_sums[FNN_ACTIVATIONS])(double *sum_g, double *sum_gx, double *sum_xc,
                                                         const void *dy, ptrdiff_t lddy, const void *x,
                                                         ptrdiff_t ldx, const void *saved, ptrdiff_t lds,
                                                         const void *mean, const void *scale, const void *shift,
                                                         ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t inner,
                                                         const double *params);
    void (*batchnorm_run_backward_apply[FNN_ACTIVATIONS])(
        void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy, const void *x, ptrdiff_t ldx, const void *saved,
        ptrdiff_t lds, const void *mean, const void *scale, const void *shift, const void *c_g, const void *c_x,
        const void *c_1, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t inner, const double *params);

    /* softmax.h */
    void (*softmax_forward)(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                            int logarithm);
    void (*softmax_backward)(void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy, const void *y, ptrdiff_t ldy,
                             ptrdiff_t rows, ptrdiff_t cols, int logarithm);
    void (*softmax_across_forward)(void *y, const void *x, ptrdiff_t ld, ptrdiff_t steps, ptrdiff_t cols, int logarithm);
    void (*softmax_across_backward)(void *dx, const void *dy, const void *y, ptrdiff_t ld, ptrdiff_t steps,
                                    ptrdiff_t cols, int logarithm);

    /* maxout.h */
    void (*maxout_forward)(void *y, ptrdiff_t ldy, uint8_t *which, const void *x, ptrdiff_t ldx, ptrdiff_t pieces,
                           ptrdiff_t rows, ptrdiff_t units);
    void (*maxout_backward)(void *dx, ptrdiff_t lddx, const void *dy, ptrdiff_t lddy, const uint8_t *which,
                            ptrdiff_t pieces, ptrdiff_t rows, ptrdiff_t units);

    /* dropout.h; first: the number of the first element */
    void (*dropout)(void *y, ptrdiff_t ldy, const void *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                    uint64_t first, uint32_t threshold, double scale, uint64_t seed, uint64_t offset);

    /* losses.h: each returns the sum of the rows' losses, unscaled; gradients are scaled by `scale` */
    double (*softmax_cross_entropy)(void *dlogits, ptrdiff_t ldd, const void *logits, ptrdiff_t ldl,
                                    const int64_t *labels, const void *weights, const void *class_weights,
                                    double smoothing, double scale, ptrdiff_t rows, ptrdiff_t cols, double *right);
    double (*soft_cross_entropy)(void *dlogits, ptrdiff_t ldd, const void *logits, ptrdiff_t ldl, const void *targets,
                                 const void *weights, const void *class_weights, double smoothing, double scale,
                                 ptrdiff_t rows, ptrdiff_t cols, double *right);
    double (*multiclass_hinge)(void *dscores, ptrdiff_t ldd, const void *scores, ptrdiff_t lds, const int64_t *labels,
                               const void *weights, double margin, double scale, ptrdiff_t rows, ptrdiff_t cols,
                               double *right);
    double (*element_loss[FNN_ELEMENT_LOSSES])(void *gradient, ptrdiff_t ldg, const void *x, ptrdiff_t ldx,
                                               const void *targets, const void *weights, double delta, double scale,
                                               ptrdiff_t rows, ptrdiff_t cols);
    double (*rows_decided)(const void *x, ptrdiff_t ldx, const void *targets, const void *weights, ptrdiff_t rows,
                           ptrdiff_t cols);

    /* updates.h */
    void (*update[FNN_UPDATES])(void *w, const void *dw, void *a, void *b, ptrdiff_t n, const fnn_update *rates);
    void (*clip)(void *dw, ptrdiff_t n, const fnn_update *rates);
    int (*all_finite)(const void *x, ptrdiff_t n);
    double (*sum_of_squares)(const void *x, ptrdiff_t n, double scale);
    double (*sum_of_magnitudes)(const void *x, ptrdiff_t n);
    double (*largest)(const void *x, ptrdiff_t n);
    void (*max_norm)(void *w, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t cols, double limit);

    /* peak.h: multiply-adds in registers, `rounds` times, returns the flops done; y = a x, `rounds` times */
    double (*fma_loop)(void *sink, int64_t rounds);
    void (*scale_loop)(void *y, const void *x, ptrdiff_t n, int64_t rounds);
} fnn_kernels;

typedef struct {
    const char *name;
    fnn_kernels f32, f64;
} fnn_table;

/* dispatch.c: the variants compiled in, best first; supported() asks the CPU and the system. */
int fnn_table_count(void);
const fnn_table *fnn_table_at(int index);
int fnn_table_supported(int index);
/* Whether this CPU writes faster past its caches what they do not hold: a Zen 4 does, 1.1 to 1.4 times; with a Cascade
 * Lake 5 to 40% was lost (batch norm). */
int fnn_stores_past(void);
const char *fnn_compiler(void);
const char *fnn_activation_name(int index);
int fnn_activation_saves(int index);
const char *fnn_element_loss_name(int index);
const char *fnn_update_name(int index);
int fnn_update_states(int index);
#endif
