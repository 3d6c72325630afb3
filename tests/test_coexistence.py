"""Other libraries in the same process, imported before fastnn or after it.

They bring thread pools of their own: PyTorch and scikit-learn a copy of libgomp each, JAX the threads of
XLA. None may crash, hang, change a bit or cost time (`benchmarks/coexistence.py` measures it).
"""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median

import pytest
from processes import printed

OURS = """
import os
import numpy as np
import fastnn as fnn

fnn.set_num_threads(2)


def train():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((512, 256)), rng.integers(0, 10, 512)
    layers = [fnn.Dense(256), fnn.BatchNorm(), fnn.Tanh(), fnn.Dropout(0.2), fnn.Dense(10)]
    model = fnn.Sequential(layers, seed=0)
    model.fit(X, y, batch_size=128, epochs=2, verbose=False)
    return model.history["loss"], model.evaluate(X, y)


ours = train()
"""

THEIRS = {
    "torch": """
import torch

torch.set_num_threads(2)
a = torch.randn(400, 400, requires_grad=True)


def work():
    torch.tanh(a @ a).sum().backward()


work()
""",
    "jax": """
import jax

a = jax.numpy.ones((400, 400))
step = jax.jit(jax.grad(lambda a: jax.numpy.tanh(a @ a).sum()))


def work():
    step(a).block_until_ready()


work()
""",
    "sklearn": """
import numpy
from sklearn.cluster import KMeans

a = numpy.random.default_rng(0).standard_normal((2000, 20))


def work():
    KMeans(8, n_init=1).fit(a)


work()
""",
}

TOGETHER = """
for _ in range(2):
    work()
    assert train() == ours, "other bits beside the other library's threads"
assert 5e-324 * 1.0 != 0.0, "flush-to-zero is on"
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if train() == ours else 1)
    assert os.waitpid(child, 0)[1] == 0, "the forked child"
print(ours)
"""


@pytest.fixture(scope="module")
def alone() -> str:
    return printed(OURS + "print(ours)")


@pytest.mark.parametrize("first", ["fastnn", "other"])
@pytest.mark.parametrize("library", THEIRS)
def test_neither_crashes_nor_changes_a_bit(library: str, first: str, alone: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    parts = [OURS, THEIRS[library]]
    code = "".join(parts if first == "fastnn" else parts[::-1]) + TOGETHER
    # Python 3.12 and JAX warn of any fork of a process with threads; ours is what is tested
    assert printed(code, PYTHONWARNINGS="ignore", JAX_PLATFORMS="cpu") == alone


def test_threadpoolctl_lists_the_pool() -> None:
    pytest.importorskip("threadpoolctl")
    code = """
        from fastnn._kernels import machine
        from threadpoolctl import threadpool_info, threadpool_limits

        pools = [pool for pool in threadpool_info() if pool["user_api"] == "openmp"]
        assert len(pools) == bool(machine.openmp()), threadpool_info()
        before = machine.get_num_threads()
        with threadpool_limits(1):  # of the library, not of fastnn: docs/interoperability.md
            assert machine.get_num_threads() == before
    """
    printed(code, FASTNN_NUM_THREADS="2")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("library", THEIRS)
def test_a_step_takes_no_longer_beside_another_library(library: str, threads: int) -> None:
    """By more than 5%, in neither order: the median of the pairs of processes, three to five of them.

    Where the memory of a process lies is worth more than 5% now and then, hence the median; a pair takes
    twenty seconds, hence no more of them than it takes.
    """
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    path = Path(__file__).parents[1] / "benchmarks/coexistence.py"
    if not path.is_file():
        pytest.skip("the benchmarks are not here")
    spec = spec_from_file_location("coexistence", path)
    assert spec is not None and spec.loader is not None
    coexistence = module_from_spec(spec)
    spec.loader.exec_module(coexistence)
    if len(coexistence.available_cpus()) < threads:
        pytest.skip("one core")
    ratios: dict[tuple[str, str], list[float]] = {}
    kinds = [(order, "ours") for order in ("imported first", "imported after")]
    for pairs in range(1, 6):
        coexistence.measure(library, "medium", threads, ratios)
        if pairs >= 3 and all(median(ratios[kind]) <= 1.05 for kind in kinds):
            return
    pytest.fail(f"slower beside {library}: {ratios}")
