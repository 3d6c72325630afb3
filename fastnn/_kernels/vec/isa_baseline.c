#define FNN_ISA_NAME baseline
#define FNN_VBYTES 16
#include "body.h"
