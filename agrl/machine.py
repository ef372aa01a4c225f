"""What this machine offers to one process."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": microseconds of CPU a period, "max" without a limit
QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cpus() -> int:
    """CPUs that this process may keep busy: those it may run on, fewer where a container has a quota; at least 1."""
    return max(1, min(len(os.sched_getaffinity(0)), _quota()))


def _quota() -> int:
    try:
        quota, period = QUOTA_V2.read_text().split() if QUOTA_V2.exists() else [p.read_text() for p in QUOTA_V1]
        return int(quota) // int(period) if int(quota) > 0 else 1 << 20
    except (OSError, ValueError):  # no such files, or "max"
        return 1 << 20
