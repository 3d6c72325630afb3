cdef int parse(object activation, int *kind, double *params) except -1
