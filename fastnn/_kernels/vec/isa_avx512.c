#define FNN_ISA_NAME avx512
#define FNN_VBYTES 64
#include "body.h"
