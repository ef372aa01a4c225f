"""A folder as arrays in memory: what a rank's checkpoint is while other processes keep it for the rank."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

MEMORY = Path("/dev/shm")
PREFIX = "agrl-rank-"
NEW_S = 60.0  # a folder that is younger may not be locked yet

Files = dict[str, np.ndarray]
"""What a folder holds: path below it -> its bytes, uint8 [size]."""


@contextlib.contextmanager
def scratch(nbytes: int) -> Iterator[Path]:
    """An empty folder, in memory where there is room for ``nbytes``, that is deleted at the end.

    Where the process is killed before, whoever asks next on this host deletes it: it is locked while it is in use.
    """
    place = MEMORY if _has_room(MEMORY, nbytes) else Path(tempfile.gettempdir())
    _clear(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _has_room(place: Path, nbytes: int) -> bool:
    return os.access(place, os.W_OK) and shutil.disk_usage(place).free > nbytes


def _clear(place: Path) -> None:
    """Delete what killed processes have left."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is another user's, or gone already
            if time.time() - folder.stat().st_mtime < NEW_S:
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def read_files(folder: Path) -> Files:
    """All files below ``folder``, not copied: they stay readable when the folder is deleted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _bytes(path) for path in files}


def _bytes(path: Path) -> np.ndarray:
    return np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, np.uint8)


def write_files(folder: Path, files: Mapping[str, np.ndarray]) -> None:
    """Write what ``read_files`` gave."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content.tofile(folder / name)
