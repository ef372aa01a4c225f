"""Files that are whole or not there, and what the system refuses, by name: a disk that is full or read-only."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agrl.errors import AgrlError, ConfigError, DiskError

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# libraries that write from native code hand on no error number
FULL_TEXTS = (
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
    "PytorchStreamWriter failed writing",  # torch.save; and when it closes a file that it could not write:
    ". unexpected pos ",
    "OutOfDiskError",  # Ray's object store has nowhere to spill to
)

TEMPORARY = Path(
    os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
)  # Ray's sessions and spilled objects


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it: whoever reads it finds the old one or the new one, whole."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def explained(error: BaseException, folder: Path | None = None) -> AgrlError | None:
    """The error of ours that names what the system refused, where that is what ``error`` is about; else None.

    ``folder``: what was being written to when the error does not say.
    """
    for cause in _chain(error):
        if isinstance(cause, DiskError):
            return cause
        number, text = getattr(cause, "errno", None), f"{type(cause).__name__}: {cause}"
        if number in FULL or any(known in text for known in FULL_TEXTS):
            return _full(_fullest(getattr(cause, "filename", None), folder), text)
    # not deeper: libraries try places and go on without them
    return refused(error) if isinstance(error, OSError) and error.errno in REFUSED and error.filename else None


def refused(error: OSError, what: str = "") -> AgrlError:
    """``what`` (else the file that the error names) cannot be used, and why."""
    if error.errno in FULL:
        return _full(_fullest(error.filename, None), str(error))
    return ConfigError(
        f"{what or error.filename} cannot be used: {error.strerror or error}",
        hint="check its owner and permissions and whether its disk is mounted read-only, or name another place",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _full(mount: Path, reason: str) -> DiskError:
    used = shutil.disk_usage(mount)
    return DiskError(
        f"no space is left on the disk at {mount}: {size_text(used.free)} of {size_text(used.total)} are free "
        f"({reason})",
        hint="free some space there, or use a folder on another disk; fewer and rarer checkpoints take less "
        "(trainer.keep_checkpoints, trainer.checkpoint_every)",
    )


def _fullest(named: str | None, folder: Path | None) -> Path:
    """The mount point of the file that an error names; of the places that are written to, the fullest, if none."""
    places = [Path(named)] if isinstance(named, str) else [folder or Path.cwd(), TEMPORARY]
    return min((mount_point(place) for place in places), key=lambda mount: shutil.disk_usage(mount).free)


def require_room(folder: Path, size: int, what: str) -> None:
    """Raise DiskError where ``what``, of ``size`` bytes, has no room where ``folder`` is, which need not exist."""
    mount = mount_point(folder)
    if size > (free := shutil.disk_usage(mount).free):
        raise DiskError(
            f"{what} needs {size_text(size)}, and {size_text(free)} are free on the disk at {mount}",
            hint="free some space there, or name a folder on another disk",
        )


def mount_point(path: Path) -> Path:
    """Where the disk is mounted that holds ``path``, which need not exist."""
    path = Path(os.path.realpath(path))
    while not path.exists() or not os.path.ismount(path):
        path = path.parent
    return path


def size_text(count: int) -> str:
    """Bytes as a person says them, in powers of a thousand: ``92.9 MB``."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
