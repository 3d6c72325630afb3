"""One thread and one core for everyone: imported before NumPy, which reads the variables as it loads."""

import os
import sys

for _name in ("OMP", "MKL", "OPENBLAS", "FASTNN"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

UNPINNED = ""  # or why
try:  # JAX counts the cores that it may use
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
except (AttributeError, OSError) as _error:
    UNPINNED = f"not pinned to a core ({_error}): the figures are less certain"
    print(UNPINNED, file=sys.stderr)
