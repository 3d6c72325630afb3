"""How many threads to use where nobody said: what the environment, the affinity and the quota allow."""

from __future__ import annotations

import os
from pathlib import Path


def default_threads() -> int:
    """FASTNN_NUM_THREADS, else OMP_NUM_THREADS, else the cores this process may use.

    A variable that holds no positive number is passed over, as OpenMP run-times do; of a list
    ("4,2", one number per level of nesting) the first counts.

    Examples
    --------
    >>> default_threads() >= 1
    True
    """
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(name, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    return max(1, min(_affinity(), _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))))


def _affinity() -> int:
    """Cores that the scheduler lets this process run on; all of them where that cannot be read."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # no such thing on this system, or denied in this container
        return os.cpu_count() or 1


def _quota(root: Path, membership: Path) -> int:
    """Whole cores that the container's CPU quota allows (control groups, version 2 and 1).

    The quota of a group binds those below it, so the tightest on the way to the root counts.
    """
    tightest = float(os.cpu_count() or 1)
    try:
        groups = [line.split(":", 2) for line in membership.read_text().splitlines()]
        named = [(controllers, path) for _, controllers, path in groups]
    except (OSError, ValueError):  # ValueError: not what Linux writes there
        return int(tightest)
    for controllers, path in named:
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            cores = _cores_of(folder)
            if cores:
                tightest = min(tightest, cores)
            if folder == base:
                break
    return max(1, int(tightest))


def _cores_of(folder: Path) -> float | None:
    """quota / period of one control group; None where there is no limit or nothing to read."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
