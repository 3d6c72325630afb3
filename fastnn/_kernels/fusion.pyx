# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Batch norm between two dense layers, without passes over memory of its own.

dense z -> batch norm, y = act(z normalised) -> dense.  For batches that do not fit into a core's cache a
pass over z costs more than the arithmetic on it, so the passes are done inside the products on either
side, on blocks that are in the cache anyway:

- the product that makes z takes the statistics of each block of rows (`statistics`); they are merged in
  row order (`add_merge`);
- the products that read y (the next layer's forward, and its x.T @ dy) get it made from z as they pack it
  (`output`): y is never in memory;
- the product that makes dy takes the sums of the backward pass (`gradient_sums`, `add_gradient_merge`);
- the products that read dz get it made from dy and z as they pack it (`gradient`).

An activation that costs more than memory does is made only once: `add_output` writes y, and `add_gradient`
turns dy into dz in place.  Formulas and kernels: vec/batchnorm.h.
"""
from fastnn._kernels.activations cimport parse
from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.batchnorm cimport merge_moments, merge_sums
from fastnn._kernels.gemm cimport GIVE_BYTES, SCRATCH_ROWS
from fastnn._kernels.program cimport Finish, Program, Source
from fastnn._kernels.vec cimport fnn_kernels, fnn_op, fnn_run

cdef Py_ssize_t GROUP = 32  # rows that are in the first cache at a time

ctypedef struct Fused:
    const fnn_kernels *kernels
    Py_ssize_t real, rows, cols
    int activation
    double params[2]
    double momentum, eps
    const char *z
    Py_ssize_t ldz
    const char *gamma
    const char *beta
    char *running_mean
    char *running_var
    char *mean
    char *rstd
    char *scale
    char *shift
    Py_ssize_t row_block      # of the product that makes z
    double *sums              # (blocks, 2, cols): mean and M2
    char *y                   # NULL: made where it is wanted
    Py_ssize_t ldy
    char *dy                  # of the outputs; turned into dz where an operation of its own does it
    Py_ssize_t lddy
    Py_ssize_t gradient_block
    double *gradient_sums     # (blocks, 3, cols): sum g, sum g (z - mean) and sum (z - mean)
    char *dgamma
    char *dbeta
    char *c_g
    char *c_x
    char *c_1


cdef inline Py_ssize_t blocks_of(Py_ssize_t rows, Py_ssize_t row_block) noexcept nogil:
    return (rows + row_block - 1) // row_block


# --- forward -------------------------------------------------------------------------------------


cdef void take_statistics(const void *args, char *c, Py_ssize_t ldc, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows,
                          Py_ssize_t cols, char *scratch, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>args
    cdef double *sums = f.sums + i // f.row_block * 2 * f.cols
    f.kernels.batchnorm_statistics(sums + j, sums + f.cols + j, c, ldc, rows, cols)


cdef void merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>op.args
    merge_moments(f.sums, f.rows, f.row_block, f.cols)
    f.kernels.batchnorm_finalize(f.mean, f.rstd, f.scale, f.shift, f.sums, f.sums + f.cols, f.gamma, f.beta,
                                 f.running_mean, f.running_var, <double>f.rows, f.momentum, f.eps, f.cols)


cdef void give_output(const void *args, char *out, Py_ssize_t ldo, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows,
                      Py_ssize_t cols, char *scratch, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>args
    cdef Py_ssize_t at = j * f.real
    f.kernels.batchnorm_apply[f.activation](out, ldo, f.z + (i * f.ldz + j) * f.real, f.ldz, f.mean + at,
                                            f.scale + at, f.shift + at, rows, cols, f.params)


cdef void output_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>op.args
    cdef Py_ssize_t i = block * GROUP
    give_output(f, f.y + i * f.ldy * f.real, f.ldy, i, 0, min(GROUP, f.rows - i), f.cols, NULL, run)


# --- backward ------------------------------------------------------------------------------------


cdef inline const char *saved_output(const Fused *f, char *scratch, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows,
                                     Py_ssize_t cols, Py_ssize_t *ld, fnn_run *run) noexcept nogil:
    """y of some rows, which the derivatives of most activations are taken from; made again if need be."""
    if f.activation == 0:  # unread
        ld[0] = f.ldz
        return f.z + (i * f.ldz + j) * f.real
    if f.y != NULL:
        ld[0] = f.ldy
        return f.y + (i * f.ldy + j) * f.real
    ld[0] = (GIVE_BYTES + 64) // f.real
    give_output(f, scratch, ld[0], i, j, rows, cols, NULL, run)
    return scratch


cdef void take_gradient_sums(const void *args, char *c, Py_ssize_t ldc, Py_ssize_t i, Py_ssize_t j,
                             Py_ssize_t rows, Py_ssize_t cols, char *scratch, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>args
    cdef double *sums = f.gradient_sums + i // f.gradient_block * 3 * f.cols + j
    cdef double *part = <double *>(scratch + SCRATCH_ROWS * GIVE_BYTES)
    cdef Py_ssize_t at = j * f.real, first = 0, n, ld, q
    cdef const char *saved
    for q in range(cols):
        sums[q] = sums[f.cols + q] = sums[2 * f.cols + q] = 0
    while first < rows:
        n = min(GROUP, rows - first)
        saved = saved_output(f, scratch, i + first, j, n, cols, &ld, run)
        f.kernels.batchnorm_backward_sums[f.activation](
            part, part + cols, part + 2 * cols, c + first * ldc * f.real, ldc,
            f.z + ((i + first) * f.ldz + j) * f.real, f.ldz, saved, ld, f.mean + at, f.scale + at, f.shift + at,
            n, cols, f.params)
        for q in range(cols):
            sums[q] += part[q]
            sums[f.cols + q] += part[cols + q]
            sums[2 * f.cols + q] += part[2 * cols + q]
        first += GROUP


cdef void gradient_merge(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>op.args
    merge_sums(f.gradient_sums, f.rows, f.gradient_block, f.cols)
    f.kernels.batchnorm_coefficients(f.dgamma, f.dbeta, f.c_g, f.c_x, f.c_1, f.gradient_sums,
                                     f.gradient_sums + f.cols, f.gradient_sums + 2 * f.cols, f.gamma, f.rstd,
                                     <double>f.rows, True, f.cols)


cdef void give_gradient(const void *args, char *out, Py_ssize_t ldo, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows,
                        Py_ssize_t cols, char *scratch, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>args
    cdef Py_ssize_t at = j * f.real, ld
    cdef const char *saved = saved_output(f, scratch, i, j, rows, cols, &ld, run)
    f.kernels.batchnorm_backward_apply[f.activation](
        out, ldo, f.dy + (i * f.lddy + j) * f.real, f.lddy, f.z + (i * f.ldz + j) * f.real, f.ldz, saved, ld,
        f.mean + at, f.scale + at, f.shift + at, f.c_g + at, f.c_x + at, f.c_1 + at, rows, cols, f.params)


cdef void gradient_block(const fnn_op *op, Py_ssize_t block, void *workspace, fnn_run *run) noexcept nogil:
    cdef const Fused *f = <const Fused *>op.args
    cdef Py_ssize_t i = block * GROUP
    give_gradient(f, f.dy + i * f.lddy * f.real, f.lddy, i, 0, min(GROUP, f.rows - i), f.cols, NULL, run)


# --- operations of a program ---------------------------------------------------------------------


cdef class FusedNorm:
    """The parts of one batch norm of z (rows, cols), training, for a program to put where they belong."""

    cdef Program program
    cdef Fused *f

    def __init__(self, Program p, z, gamma, beta, running_mean, running_var, double momentum, double eps,
                 activation, mean, rstd, dgamma, dbeta):
        cdef Arrays arrays = p.arrays((z, gamma, beta, running_mean, running_var, mean, rstd, dgamma, dbeta))
        cdef Fused *f = <Fused *>p.args(sizeof(Fused))
        cdef Py_ssize_t each
        cdef char *memory
        self.program, self.f = p, f
        f.kernels, f.real, f.momentum, f.eps = p.kernels, p.itemsize, momentum, eps
        parse(activation, &f.activation, f.params)
        f.z = arrays.matrix(z, &f.ldz)
        f.rows, f.cols = arrays.rows(), arrays.cols()
        f.gamma, f.beta = self._vector(arrays, gamma), self._vector(arrays, beta)
        f.running_mean, f.running_var = self._vector(arrays, running_mean), self._vector(arrays, running_var)
        f.mean, f.rstd = self._vector(arrays, mean), self._vector(arrays, rstd)
        f.dgamma, f.dbeta = self._vector(arrays, dgamma), self._vector(arrays, dbeta)
        each = (f.cols * f.real + 63) // 64 * 64
        memory = p.own(5 * each)
        f.scale, f.shift, f.c_g, f.c_x, f.c_1 = (memory, memory + each, memory + 2 * each, memory + 3 * each,
                                                 memory + 4 * each)

    cdef char *_vector(self, Arrays arrays, x) except NULL:
        cdef char *data = arrays.real(x, True)
        if arrays.size() != self.f.cols:
            raise ValueError(f"{arrays.size()} elements do not fit {self.f.cols} columns")
        return data

    cdef Source _source(self, void *args):
        cdef Source source = Source()
        source.args, source.rows, source.cols = args, self.f.rows, self.f.cols
        source.nbytes = self._bytes()  # z
        return source

    cdef double _bytes(self):
        return 1.0 * self.f.rows * self.f.cols * self.f.real

    def statistics(self):
        """For the product that makes z."""
        cdef Finish finish = Finish()
        finish.finish, finish.args, finish.row_block = take_statistics, self.f, &self.f.row_block
        return finish

    def add_merge(self, name):
        """After that product: mean, rstd and running statistics."""
        self.f.sums = <double *>self.program.own(blocks_of(self.f.rows, self.f.row_block) * 2 * self.f.cols * 8)
        self.program.add(name, merge, 1, self.f, 0.0, 0)

    def output(self):
        """y, for the products that read it."""
        cdef Source source = self._source(self.f)
        source.give, source.memory, source.ld = give_output, self.f.z, self.f.ldz
        return source

    def add_output(self, name, y):
        """y as a matrix."""
        cdef Arrays arrays = self.program.arrays((y,))
        self.f.y = arrays.matrix(y, &self.f.ldy, True)
        if arrays.rows() != self.f.rows or arrays.cols() != self.f.cols:
            raise ValueError("y does not fit z")
        self.program.moves(self._bytes())  # z
        self.program.add(name, output_block, blocks_of(self.f.rows, GROUP), self.f, 0.0, 0)

    def gradient_sums(self, dy):
        """For the product that makes dy."""
        cdef Finish finish = Finish()
        cdef Arrays arrays = self.program.arrays((dy,))
        self.f.dy = arrays.matrix(dy, &self.f.lddy, True)
        if arrays.rows() != self.f.rows or arrays.cols() != self.f.cols:
            raise ValueError("dy does not fit z")
        finish.finish, finish.args, finish.row_block = take_gradient_sums, self.f, &self.f.gradient_block
        finish.nbytes = self._bytes()  # z
        return finish

    def add_gradient_merge(self, name):
        """After that product: dgamma, dbeta and the coefficients of dz."""
        self.f.gradient_sums = <double *>self.program.own(
            blocks_of(self.f.rows, self.f.gradient_block) * 3 * self.f.cols * 8)
        self.program.add(name, gradient_merge, 1, self.f, 0.0, 0)

    def gradient(self):
        """dz, for the products that read it."""
        cdef Source source = self._source(self.f)
        source.nbytes = 2 * self._bytes()  # dy and z
        source.give, source.memory, source.ld = give_gradient, self.f.z, self.f.ldz
        if self.f.lddy == self.f.ldz:
            source.memory_beside = self.f.dy
        return source

    def add_gradient(self, name):
        """dz in the place of dy."""
        self.program.moves((3 if self.f.y == NULL else 4) * self._bytes())  # dy in and out, z, y
        self.program.add(name, gradient_block, blocks_of(self.f.rows, GROUP), self.f, 0.0, 0)
