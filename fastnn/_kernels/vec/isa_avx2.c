#define FNN_ISA_NAME avx2
#define FNN_VBYTES 32
#include "body.h"
