"""Matrix products: the three uses of a dense layer on the shapes with an aim.

The grid of some 350 shapes is for `fastnn bench --gemm`.
"""

import pytest

from fastnn.bench.workloads import GEMM_AIMS, GEMM_USES, Gemm


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("use", GEMM_USES)
@pytest.mark.parametrize("shape", GEMM_AIMS, ids=lambda shape: "x".join(map(str, shape)))
def test_gemm(use, shape, dtype, measure):
    measure(Gemm(use, shape, dtype))
