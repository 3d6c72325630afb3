/* All vector code, for one instruction set: included by each isa_*.c with FNN_TABLE and FNN_VBYTES set.
 * The families are included twice, for float and for double. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include "table.h"

#define FNN_REAL_BITS 32
#include "families.h"
#undef FNN_REAL_BITS
#define FNN_REAL_BITS 64
#include "families.h"
#undef FNN_REAL_BITS

#define FNN_STRING_(x) #x
#define FNN_STRING(x) FNN_STRING_(x)
#define FNN_PASTE_(a, b) a##b
#define FNN_PASTE(a, b) FNN_PASTE_(a, b)
#define FNN_KERNELS(type)                                                                            \
    {                                                                                                \
        .lanes = FNN_VBYTES / (int)sizeof(type##_t), .low = LOW_VECTORS,                             \
        .mr = MR, .nr = NV *FNN_VBYTES / (int)sizeof(type##_t),                                      \
        .edge = EDGE_OF(FNN_VBYTES / (int)sizeof(type##_t)), .edge_steps = EDGE_STEPS,               \
        .block_bytes = BLOCK_BYTES, .flipped = FLIPPED_COLUMNS, .shared_rows = SHARED_ROWS,          \
        .far_b_in_place = FAR_B_IN_PLACE,                                                            \
        .pack_b = pack_b_##type, .pack_a = pack_a_##type, .gemm_block = gemm_block_##type,           \
        .dot_block = dot_block_##type, .stream_block = stream_block_##type,                          \
        .outer_block = outer_block_##type, .narrow_block = narrow_block_##type,                      \
        .transpose = transpose_matrix_##type,                                                        \
        .column_sums = column_sums_##type, .gather_rows = gather_rows_##type,                        \
        .activation_forward = {FNN_ACTIVATION_LIST(FNN_FORWARD_##type)},                             \
        .activation_backward = {FNN_ACTIVATION_LIST(FNN_BACKWARD_##type)},                           \
        .batchnorm_statistics = batchnorm_statistics_##type,                                         \
        .batchnorm_finalize = batchnorm_finalize_##type,                                             \
        .batchnorm_frozen = batchnorm_frozen_##type,                                                 \
        .batchnorm_coefficients = batchnorm_coefficients_##type,                                     \
        .batchnorm_apply = {FNN_ACTIVATION_LIST(FNN_BN_APPLY_##type)},                               \
        .batchnorm_backward_sums = {FNN_ACTIVATION_LIST(FNN_BN_SUMS_##type)},                        \
        .batchnorm_backward_apply = {FNN_ACTIVATION_LIST(FNN_BN_BACKWARD_##type)},                   \
        .batchnorm_run_statistics = batchnorm_run_statistics_##type,                                 \
        .batchnorm_run_apply = {FNN_ACTIVATION_LIST(FNN_BN_RUN_APPLY_##type)},                       \
        .batchnorm_run_backward_sums = {FNN_ACTIVATION_LIST(FNN_BN_RUN_SUMS_##type)},                \
        .batchnorm_run_backward_apply = {FNN_ACTIVATION_LIST(FNN_BN_RUN_BACKWARD_##type)},           \
        .softmax_forward = softmax_forward_##type, .softmax_backward = softmax_backward_##type,      \
        .softmax_across_forward = softmax_across_forward_##type,                                     \
        .softmax_across_backward = softmax_across_backward_##type,                                   \
        .softmax_cross_entropy = softmax_cross_entropy_##type,                                       \
        .maxout_forward = maxout_forward_##type, .maxout_backward = maxout_backward_##type,          \
        .dropout = dropout_##type,                                                                   \
        .soft_cross_entropy = soft_cross_entropy_##type, .multiclass_hinge = multiclass_hinge_##type, \
        .element_loss = {FNN_ELEMENT_LOSS_LIST(FNN_LOSS_##type)}, .rows_decided = rows_decided_##type, \
        .update = {FNN_UPDATE_LIST(FNN_UPDATE_##type)}, .clip = clip_##type,                         \
        .all_finite = all_finite_##type, .sum_of_squares = sum_of_squares_##type,                    \
        .sum_of_magnitudes = sum_of_magnitudes_##type, .largest = largest_##type,                    \
        .max_norm = max_norm_##type,                                                                 \
        .fma_loop = fma_loop_##type, .scale_loop = scale_loop_##type                                 \
    }
typedef float f32_t;
typedef double f64_t;
#define FNN_FORWARD_f32(name, saved) name##_forward_f32,
#define FNN_FORWARD_f64(name, saved) name##_forward_f64,
#define FNN_BACKWARD_f32(name, saved) name##_backward_f32,
#define FNN_BACKWARD_f64(name, saved) name##_backward_f64,
#define FNN_LOSS_f32(name) name##_f32,
#define FNN_LOSS_f64(name) name##_f64,
#define FNN_BN_APPLY_f32(name, saved) batchnorm_apply_##name##_f32,
#define FNN_BN_APPLY_f64(name, saved) batchnorm_apply_##name##_f64,
#define FNN_BN_SUMS_f32(name, saved) batchnorm_backward_sums_##name##_f32,
#define FNN_BN_SUMS_f64(name, saved) batchnorm_backward_sums_##name##_f64,
#define FNN_BN_BACKWARD_f32(name, saved) batchnorm_backward_apply_##name##_f32,
#define FNN_BN_BACKWARD_f64(name, saved) batchnorm_backward_apply_##name##_f64,
#define FNN_UPDATE_f32(name, states) name##_update_f32,
#define FNN_UPDATE_f64(name, states) name##_update_f64,
#define FNN_BN_RUN_APPLY_f32(name, saved) batchnorm_run_apply_##name##_f32,
#define FNN_BN_RUN_APPLY_f64(name, saved) batchnorm_run_apply_##name##_f64,
#define FNN_BN_RUN_SUMS_f32(name, saved) batchnorm_run_backward_sums_##name##_f32,
#define FNN_BN_RUN_SUMS_f64(name, saved) batchnorm_run_backward_sums_##name##_f64,
#define FNN_BN_RUN_BACKWARD_f32(name, saved) batchnorm_run_backward_apply_##name##_f32,
#define FNN_BN_RUN_BACKWARD_f64(name, saved) batchnorm_run_backward_apply_##name##_f64,

const fnn_table FNN_PASTE(fnn_table_, FNN_ISA_NAME) = {
    .name = FNN_STRING(FNN_ISA_NAME), .f32 = FNN_KERNELS(f32), .f64 = FNN_KERNELS(f64)};
