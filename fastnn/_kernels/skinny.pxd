from fastnn._kernels.gemm cimport Gemm

cdef bint plan_skinny(Gemm *g) noexcept nogil
