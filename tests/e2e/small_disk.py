"""A disk of its own, small enough to fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[bool]:
    """A disk mounted at ``place``, for the time being; False where this process may not mount any, and ``place`` is a
    folder like others. In CI it must be able to."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "agrl-test", str(place)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    assert mounted or not os.environ.get("CI"), "CI must mount a disk: it needs root"
    try:
        yield bool(mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full_but_for(place: Path, nbytes: int) -> Iterator[None]:
    """The disk at ``place`` has so many bytes left, for the time being."""
    filler = place / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - nbytes)
    try:
        yield
    finally:
        filler.unlink()
