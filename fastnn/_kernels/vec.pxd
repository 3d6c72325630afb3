"""The C side as Cython sees it: the table of kernels and the team that runs them."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "vec/table.h" nogil:
    enum: FNN_FROM_ZERO, FNN_FROM_BIAS, FNN_FROM_C
    enum: FNN_ACTIVATIONS
    enum: FNN_ELEMENT_LOSSES
    enum: FNN_SAVES_OUTPUT, FNN_SAVES_INPUT
    enum: FNN_UPDATES, FNN_UPDATE_adam
    enum: FNN_NORM_COLS
    ctypedef struct fnn_update:
        double clip_value
        double clip_scale[2]
        double decay, pull, keep, lr, momentum, rho, root, eps
    enum: FNN_STRETCHES
    ctypedef struct fnn_stretch:
        const char *at
        Py_ssize_t bytes
    ctypedef struct fnn_ahead:
        const char *rows
        Py_ssize_t stride
        fnn_stretch stretches[FNN_STRETCHES]
        const char *saved
        Py_ssize_t saved_row
    ctypedef struct fnn_kernels:
        int lanes, low, mr, nr, edge, edge_steps, block_bytes, flipped, far_b_in_place, shared_rows
        void (*pack_b)(void *panels, Py_ssize_t panel_stride, const void *b, Py_ssize_t ld, int transposed, Py_ssize_t k,
                       Py_ssize_t n) noexcept nogil
        void (*pack_a)(void *tiles, Py_ssize_t tile_stride, const void *a, Py_ssize_t ld, Py_ssize_t m,
                       Py_ssize_t k) noexcept nogil
        void (*gemm_block)(void *c, Py_ssize_t ldc, const void *a, Py_ssize_t sa, int column_mode,
                           Py_ssize_t tile_stride, const void *b, Py_ssize_t sb, Py_ssize_t panel_stride,
                           const void *bias, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, int start, int by_panels,
                           const fnn_ahead *ahead) noexcept nogil
        void (*dot_block)(void *c, Py_ssize_t ci, Py_ssize_t cj, const void *a, Py_ssize_t lda, const void *b,
                          Py_ssize_t ldb, const void *bias, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k) noexcept nogil
        void (*stream_block)(void *c, Py_ssize_t ldc, const void *a, Py_ssize_t sa, int column_mode, const void *b,
                             Py_ssize_t ldb, const void *bias, Py_ssize_t m, Py_ssize_t n,
                             Py_ssize_t k) noexcept nogil
        void (*outer_block)(void *c, Py_ssize_t ldc, const void *a, Py_ssize_t sa, int column_mode, const void *b,
                            Py_ssize_t ldb, const void *bias, Py_ssize_t m, Py_ssize_t n,
                            Py_ssize_t k) noexcept nogil
        void (*narrow_block)(void *c, Py_ssize_t ldc, const void *a, Py_ssize_t sa, int column_mode, const void *b,
                             Py_ssize_t bp, Py_ssize_t bj, const void *bias, Py_ssize_t m, Py_ssize_t n,
                             Py_ssize_t k) noexcept nogil
        void (*transpose)(void *out, Py_ssize_t ldo, const void *x, Py_ssize_t ldx, Py_ssize_t rows,
                          Py_ssize_t cols) noexcept nogil
        void (*column_sums)(void *sums, const void *x, Py_ssize_t ld, Py_ssize_t rows,
                            Py_ssize_t cols) noexcept nogil
        void (*gather_rows)(void *out, Py_ssize_t ldo, const void *x, Py_ssize_t ldx,
                            const int64_t *wanted, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil
        void (**activation_forward)(void *y, const void *x, Py_ssize_t n, const double *params, int past) noexcept nogil
        void (**activation_backward)(void *dx, const void *dy, const void *saved, Py_ssize_t n,
                                     const double *params, int past) noexcept nogil
        void (*batchnorm_statistics)(double *mean, double *m2, const void *x, Py_ssize_t ld, Py_ssize_t rows,
                                     Py_ssize_t cols, int far) noexcept nogil
        void (*batchnorm_finalize)(void *mean, void *rstd, void *scale, void *shift, const double *exact_mean,
                                   const double *m2, const void *gamma, const void *beta, void *running_mean,
                                   void *running_var, double rows, double momentum, double eps,
                                   Py_ssize_t cols) noexcept nogil
        void (*batchnorm_frozen)(void *mean, void *rstd, void *scale, const void *running_mean,
                                 const void *running_var, const void *gamma, double eps,
                                 Py_ssize_t cols) noexcept nogil
        void (*batchnorm_coefficients)(void *dgamma, void *dbeta, void *c_g, void *c_x, void *c_1,
                                       const double *sum_g, const double *sum_gx, const double *sum_xc,
                                       const void *gamma, const void *rstd, double rows, int training,
                                       Py_ssize_t cols) noexcept nogil
        void (**batchnorm_apply)(void *y, Py_ssize_t ldy, const void *x, Py_ssize_t ldx, const void *mean,
                                 const void *scale, const void *shift, Py_ssize_t rows, Py_ssize_t cols, int far,
                                 const double *params) noexcept nogil
        void (**batchnorm_backward_sums)(
            double *sum_g, double *sum_gx, double *sum_xc, const void *dy, Py_ssize_t lddy, const void *x,
            Py_ssize_t ldx, const void *saved, Py_ssize_t lds, const void *mean, const void *scale,
            const void *shift, Py_ssize_t rows, Py_ssize_t cols, int far, const double *params) noexcept nogil
        void (**batchnorm_backward_apply)(
            void *dx, Py_ssize_t lddx, const void *dy, Py_ssize_t lddy, const void *x, Py_ssize_t ldx,
            const void *saved, Py_ssize_t lds, const void *mean, const void *scale, const void *shift,
            const void *c_g, const void *c_x, const void *c_1, Py_ssize_t rows, Py_ssize_t cols, int far,
            const double *params) noexcept nogil
        void (*batchnorm_run_statistics)(double *mean, double *m2, const void *x, Py_ssize_t ld, Py_ssize_t rows,
                                         Py_ssize_t channels, Py_ssize_t inner) noexcept nogil
        void (**batchnorm_run_apply)(void *y, Py_ssize_t ldy, const void *x, Py_ssize_t ldx, const void *mean,
                                     const void *scale, const void *shift, Py_ssize_t rows, Py_ssize_t channels,
                                     Py_ssize_t inner, const double *params) noexcept nogil
        void (**batchnorm_run_backward_sums)(
            double *sum_g, double *sum_gx, double *sum_xc, const void *dy, Py_ssize_t lddy, const void *x,
            Py_ssize_t ldx, const void *saved, Py_ssize_t lds, const void *mean, const void *scale,
            const void *shift, Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t inner,
            const double *params) noexcept nogil
        void (**batchnorm_run_backward_apply)(
            void *dx, Py_ssize_t lddx, const void *dy, Py_ssize_t lddy, const void *x, Py_ssize_t ldx,
            const void *saved, Py_ssize_t lds, const void *mean, const void *scale, const void *shift,
            const void *c_g, const void *c_x, const void *c_1, Py_ssize_t rows, Py_ssize_t channels,
            Py_ssize_t inner, const double *params) noexcept nogil
        void (*softmax_forward)(void *y, Py_ssize_t ldy, const void *x, Py_ssize_t ldx, Py_ssize_t rows,
                                Py_ssize_t cols, int logarithm) noexcept nogil
        void (*softmax_backward)(void *dx, Py_ssize_t lddx, const void *dy, Py_ssize_t lddy, const void *y,
                                 Py_ssize_t ldy, Py_ssize_t rows, Py_ssize_t cols, int logarithm) noexcept nogil
        void (*softmax_across_forward)(void *y, const void *x, Py_ssize_t ld, Py_ssize_t steps, Py_ssize_t cols,
                                       int logarithm) noexcept nogil
        void (*softmax_across_backward)(void *dx, const void *dy, const void *y, Py_ssize_t ld, Py_ssize_t steps,
                                        Py_ssize_t cols, int logarithm) noexcept nogil
        void (*maxout_forward)(void *y, Py_ssize_t ldy, uint8_t *which, const void *x, Py_ssize_t ldx,
                               Py_ssize_t pieces, Py_ssize_t rows, Py_ssize_t units) noexcept nogil
        void (*maxout_backward)(void *dx, Py_ssize_t lddx, const void *dy, Py_ssize_t lddy, const uint8_t *which,
                                Py_ssize_t pieces, Py_ssize_t rows, Py_ssize_t units) noexcept nogil
        void (*dropout)(void *y, Py_ssize_t ldy, const void *x, Py_ssize_t ldx, Py_ssize_t rows, Py_ssize_t cols,
                        uint64_t first, uint32_t threshold, double scale, uint64_t seed,
                        uint64_t offset) noexcept nogil
        double (*softmax_cross_entropy)(
            void *dlogits, Py_ssize_t ldd, const void *logits, Py_ssize_t ldl, const int64_t *labels,
            const void *weights, const void *class_weights, double smoothing, double scale, Py_ssize_t rows,
            Py_ssize_t cols, double *right) noexcept nogil
        double (*soft_cross_entropy)(
            void *dlogits, Py_ssize_t ldd, const void *logits, Py_ssize_t ldl, const void *targets,
            const void *weights, const void *class_weights, double smoothing, double scale, Py_ssize_t rows,
            Py_ssize_t cols, double *right) noexcept nogil
        double (*multiclass_hinge)(
            void *dscores, Py_ssize_t ldd, const void *scores, Py_ssize_t lds, const int64_t *labels,
            const void *weights, double margin, double scale, Py_ssize_t rows, Py_ssize_t cols,
            double *right) noexcept nogil
        double (**element_loss)(void *gradient, Py_ssize_t ldg, const void *x, Py_ssize_t ldx, const void *targets,
                                const void *weights, double delta, double scale, Py_ssize_t rows,
                                Py_ssize_t cols) noexcept nogil
        double (*rows_decided)(const void *x, Py_ssize_t ldx, const void *targets, const void *weights,
                               Py_ssize_t rows, Py_ssize_t cols) noexcept nogil
        void (**update)(void *w, const void *dw, void *a, void *b, Py_ssize_t n,
                        const fnn_update *rates) noexcept nogil
        void (*clip)(void *dw, Py_ssize_t n, const fnn_update *rates) noexcept nogil
        int (*all_finite)(const void *x, Py_ssize_t n) noexcept nogil
        double (*sum_of_squares)(const void *x, Py_ssize_t n, double scale) noexcept nogil
        double (*sum_of_magnitudes)(const void *x, Py_ssize_t n) noexcept nogil
        double (*largest)(const void *x, Py_ssize_t n) noexcept nogil
        void (*max_norm)(void *w, Py_ssize_t ld, Py_ssize_t rows, Py_ssize_t cols, double limit) noexcept nogil
        double (*fma_loop)(void *sink, int64_t rounds) noexcept nogil
        void (*scale_loop)(void *y, const void *x, Py_ssize_t n, int64_t rounds) noexcept nogil
    ctypedef struct fnn_table:
        const char *name
        fnn_kernels f32, f64
    int fnn_table_count()
    const fnn_table *fnn_table_at(int index)
    int fnn_table_supported(int index)
    int fnn_stores_past()
    const char *fnn_compiler()
    # the names of the activations and what each saves, in the order of the table
    const char *fnn_activation_name(int index)
    int fnn_activation_saves(int index)
    const char *fnn_element_loss_name(int index)
    # the names of the updates and how many arrays of state each keeps
    const char *fnn_update_name(int index)
    int fnn_update_states(int index)

cdef extern from "team.h" nogil:
    enum: FNN_STOP_FAILURE, FNN_STOP_CANCEL
    ctypedef struct fnn_run:
        const fnn_op *ops
        int64_t count, rounds, stopped_at
        const volatile int *cancelled
        int stop
        unsigned long long place
        int64_t done
    ctypedef struct fnn_op
    ctypedef void (*fnn_block)(const fnn_op *op, Py_ssize_t block, void *workspace,
                               fnn_run *run) noexcept nogil
    ctypedef struct fnn_op:
        fnn_block block
        Py_ssize_t blocks
        const void *args
    int64_t fnn_round_of(const fnn_run *run)
    void fnn_fail(fnn_run *run, const fnn_op *op)
    int fnn_stopped(fnn_run *run)
    void fnn_run_serial(fnn_run *run, void *workspace)
    void fnn_run_member(fnn_run *run, void *workspace)
