from fastnn._kernels.vec cimport fnn_kernels

ctypedef struct Elementwise:
    const fnn_kernels *kernels
    Py_ssize_t real, n
    int kind
    double params[2]
    char *out
    const char *x       # forward: x; backward: dy
    const char *saved   # backward: y or x
    bint past           # the caches, which hold neither before it is read again

cdef int parse(object activation, int *kind, double *params) except -1
cdef int understand(object spec, int *kind, double *params) except -1
cdef int run_elementwise(Elementwise *e, bint backward) except -1
