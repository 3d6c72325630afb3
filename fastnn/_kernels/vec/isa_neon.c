#define FNN_ISA_NAME neon
#define FNN_VBYTES 16
#include "body.h"
