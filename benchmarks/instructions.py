"""Instructions that fixed calls take, against a stored table: python benchmarks/instructions.py [--update]

A clock on a shared machine says little about a few percent; the number of instructions hardly changes from
run to run, if arrays always begin with a cache line and results are not allocated: both are chance else, and
worth 2%. valgrind's callgrind counts, on the baseline and the AVX2 kernels (Debian's valgrind does not know
AVX-512), and of some runs of a call the fewest. More than the tolerance above the table fails; fewer only ask
for an update. Counts depend on the compiler, and those of small calls on Python: where these are others than
the table's, differences are shown and not judged.

The table, instructions.json, is written by `--update`: look at its diff before it is committed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")
TOLERANCE = 0.02
ISAS = ("baseline", "avx2")
RUNS = 5  # of each call

# What tells callgrind where a call begins and ends.
REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
"""


def aligned(values: Any) -> Any:
    """A copy that begins with a cache line: kernels take more steps for the ends of one that does not."""
    import numpy as np

    memory = np.empty(values.nbytes + 64, "u1")
    copy = memory[-memory.ctypes.data % 64 :][: values.nbytes].view(values.dtype)
    copy = copy.reshape(values.shape)
    copy[...] = values
    return copy


def calls() -> dict[str, Callable[[], Any]]:
    """What is counted: every family of kernels, whole steps, and small calls, which are all overhead."""
    import numpy as np

    import fastnn
    import fastnn.functional as f

    rng = np.random.default_rng(0)
    found: dict[str, Callable[[], Any]] = {}
    for dtype in ("float32", "float64"):

        def normal(*shape: int, dtype: str = dtype) -> Any:
            return aligned(rng.standard_normal(shape).astype(dtype))

        x, y, dy, w, dw = (
            normal(64, 250),
            normal(64, 250),
            normal(64, 250),
            normal(250, 120),
            normal(250, 120),
        )
        b, gamma, dgamma, z, dz = (
            normal(120),
            normal(250),
            normal(250),
            normal(64, 120),
            normal(64, 120),
        )
        w10, b10, z10 = normal(250, 10), normal(10), normal(64, 10)
        half, which = normal(64, 125), aligned(np.zeros((64, 125), "u1"))
        labels = rng.integers(0, 250, 64)
        mean, rstd, dbeta, db = normal(250), normal(250), normal(250), normal(120)
        f.batchnorm_forward(x, gamma, gamma, y_out=y, mean_out=mean, rstd_out=rstd)
        m, v = aligned(0 * x), aligned(0 * x)

        def add(
            name: str, call: Callable[..., Any], *args: Any, dtype: str = dtype, **named: Any
        ) -> None:
            found[f"{name} {dtype}"] = lambda: call(*args, **named)

        for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "silu", "gelu"):
            add(name, getattr(f, name), x, out=y)
            add(f"{name}_backward", getattr(f, f"{name}_backward"), dy, x, dx_out=y)
        add("maxout", f.maxout, x, 2, y_out=half, which_out=which)
        add("softmax", f.softmax, x, out=y)
        add("log_softmax", f.log_softmax, x, out=y)
        add("dropout", f.dropout, x, 0.5, 1, out=y)
        add("dense_forward", f.dense_forward, x, w, b, out=z)
        add("dense_forward of 10", f.dense_forward, x, w10, b10, out=z10)
        add("dense_backward", f.dense_backward, dz, x, w, dx_out=y, dw_out=dw, db_out=db)
        stats = {"mean_out": mean.copy(), "rstd_out": rstd.copy()}
        add("batchnorm_forward", f.batchnorm_forward, x, gamma, gamma, y_out=y, **stats)
        sums = {"dgamma_out": dgamma, "dbeta_out": dbeta}
        add("batchnorm_backward", f.batchnorm_backward, dy, x, gamma, mean, rstd, dx_out=y, **sums)
        add("softmax_cross_entropy", f.softmax_cross_entropy, x, labels, dlogits_out=y)
        add("mean_squared_error", f.mean_squared_error, x, m, dpred_out=y)
        add("clip_by_global_norm", f.clip_by_global_norm, dw, max_norm=1e9)
        add("adam_update", f.adam_update, y, dy, m, v, step=1, lr=1e-3)

        layers = [fastnn.Dense(64), fastnn.BatchNorm(), fastnn.ReLU(), fastnn.Dense(10)]
        model = fastnn.Sequential(layers, input_dim=250, dtype=dtype, seed=0)
        model.compile(
            loss="softmax_cross_entropy", optimizer=fastnn.SGD(lr=1e-3, momentum=0.9), batch_size=64
        )
        add("a training step, bn+relu", model.train_on_batch, x, labels % 10)
    few = aligned(np.ones((8, 8), "float32"))
    row = aligned(few[0])
    small = {
        "relu": lambda: f.relu(few, out=few),
        "softmax": lambda: f.softmax(few, out=few),
        "dense_forward": lambda: f.dense_forward(few, few, row),
        "batchnorm_forward": lambda: f.batchnorm_forward(few, row, row),
    }
    return {**found, **{f"{name} of 8 x 8": call for name, call in small.items()}}


def inside(library: str) -> None:
    """Run in valgrind: each call once to warm up, and RUNS times to be counted."""
    import ctypes
    import gc

    requests = ctypes.CDLL(library)
    todo = calls()
    for call in todo.values():
        call()
    gc.disable()
    requests.start()
    for name, call in todo.items():
        call()
        for _ in range(RUNS):
            requests.zero()
            call()
            requests.dump(name.encode())


def count(isa: str, library: Path) -> dict[str, int]:
    """Instructions of each call on one instruction set: the fewest of its runs."""
    folder = library.parent
    command = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={folder}/{isa}",
    ]
    environment = {
        **os.environ,
        "FASTNN_ISA": isa,
        "FASTNN_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "MALLOC_TOP_PAD_": str(1 << 26),  # so that the heap neither grows nor shrinks in a call
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    }
    done = subprocess.run(
        [*command, sys.executable, __file__, "--inside", str(library)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"valgrind ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, int] = {}
    for path in sorted(folder.glob(f"{isa}.*"), key=lambda path: int(path.suffix[1:])):
        text = path.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = min(int(total[1]), found.get(name[1], int(total[1])))
    return found


def tools() -> dict[str, str]:
    """What the counts depend on beside our sources."""
    from fastnn._kernels import machine

    return {"compiler": machine.compiler().strip(), "python": platform.python_version()}


def compare(stored: dict[str, Any], counts: dict[str, dict[str, int]]) -> list[str]:
    """Print every count that is not that of the table; returns those that are too high, new
    or gone: a call that was not counted would pass unseen."""
    same = {what: stored[what] == now for what, now in tools().items()}
    if not all(same.values()):
        print(
            f"the table was made with {stored['compiler']}, Python {stored['python']}, this is {tools()}"
        )
    slower = []
    for isa, found in counts.items():
        for name in stored["counts"].get(isa, {}).keys() - found.keys():
            slower.append(f"{isa:8}  {name:36}  is in the table, and was not counted")
        for name, now in found.items():
            before = stored["counts"].get(isa, {}).get(name)
            line = f"{isa:8}  {name:36}  {now:12,}"
            if before is None:
                slower.append(f"{line}  is not in the table")
            elif abs(now / before - 1) > TOLERANCE:
                line += f"  {now / before:.3f} times {before:,}"
                judged = same["compiler"] and (same["python"] or "8 x 8" not in name)
                if now > before and judged:
                    slower.append(line)
                else:
                    print(line)
    return slower


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="write the table anew")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside)
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed here, and nothing else counts instructions")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        (Path(folder) / "requests.c").write_text(REQUESTS)
        library = Path(folder, "requests.so")
        command = [
            shutil.which("cc") or "gcc",
            "-shared",
            "-fPIC",
            "-o",
            library,
            f"{folder}/requests.c",
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            sys.exit(f"a C compiler is needed, and {command[0]} cannot be run: {error.strerror}")
        except subprocess.CalledProcessError as error:
            sys.exit(
                f"{command[0]} cannot compile what asks valgrind to count:\n{error.stderr[-2000:]}"
            )
        counts = dict(zip(ISAS, pool.map(lambda isa: count(isa, library), ISAS), strict=True))
    if options.update:
        TABLE.write_text(json.dumps({**tools(), "counts": counts}, indent=1) + "\n")
        print(f"{TABLE.name}: {sum(map(len, counts.values()))} counts")
        return
    slower = compare(json.loads(TABLE.read_text()), counts)
    if slower:
        print("\n".join(["more instructions than before, or other calls:", *sorted(slower)]))
        sys.exit("if that is meant: python benchmarks/instructions.py --update")
    print(
        f"{sum(map(len, counts.values()))} counts, none more than {TOLERANCE:.0%} above the table"
    )


if __name__ == "__main__":
    main()
