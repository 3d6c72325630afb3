"""One thread and one core for everyone: imported before NumPy, which reads the variables as it loads."""

import os
from contextlib import suppress

for _name in ("OMP", "MKL", "OPENBLAS", "FASTNN"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
with suppress(AttributeError, OSError):  # JAX counts the cores that it may use
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
