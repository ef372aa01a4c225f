"""A folder that one process at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agrl.disk import refused
from agrl.errors import ConfigError

LOCK = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems are mounted so


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made, for as long as the block runs.

    The kernel holds the lock (flock), and lets go of it however the process ends: one that was killed blocks nobody,
    and the file that stays behind means nothing. Over NFS Linux makes it a lock of the server, for all machines. A
    file system that has no locks is used without, which the log says. Raises ConfigError that names who
    holds the folder, or why it cannot be written to; DiskError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # not inherited by programs it starts
    except OSError as error:
        raise refused(error, f"the folder {folder}") from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{folder} is in use{_holder(descriptor)}",
            hint="wait until that has ended, or stop it, or choose another folder",
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise refused(error, f"the folder {folder}") from error
        logging.getLogger(__name__).warning("%s is not locked: %s", folder, error.strerror)
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
    except OSError as error:
        raise refused(error, f"the folder {folder}") from error


def _holder(descriptor: int) -> str:
    try:
        about = json.loads(os.pread(descriptor, 4096, 0))
        return f" by process {about['pid']} on {about['host']}, since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock, and has not yet said who it is
        return " by another process"
