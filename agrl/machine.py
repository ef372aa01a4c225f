"""What this machine, or the container in it, offers to one process and its children."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of a container, by version 2 and version 1 of Linux's control groups. CPU: microseconds of it a period; "max": all.
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000"
CPU_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
MEMORY_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usable_cpus() -> int:
    """CPUs that this process may keep busy: those it may run on, fewer where a container has a quota; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (
            CPU_QUOTA.read_text().split() if CPU_QUOTA.exists() else [file.read_text() for file in CPU_QUOTA_V1]
        )
        limit = int(quota) // int(period)
    except (OSError, ValueError):  # no such files, or "max"
        return cpus
    return cpus if int(quota) <= 0 else max(1, min(cpus, limit))


def memory_bytes() -> int:
    """The machine's memory, or a container's where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in MEMORY_LIMITS:
        try:
            found = min(found, int(file.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return found


@contextmanager
def rare_collections() -> Iterator[None]:
    """Have Python look for cycles of garbage less often: where a million records are alive, each look takes long.

    At the end it looks once and goes on as before. What must go before something else ends, as references to Ray's
    objects before Ray, is gone then.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()
