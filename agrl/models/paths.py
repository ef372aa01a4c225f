"""Paths for libraries that look for files by patterns which they make of a folder's path."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def without_patterns(path: str | Path) -> Iterator[str]:
    """The path itself, or a link to the folder where ``glob`` would read it as a pattern, as in ``runs/a [v2]``.

    The link is there until the context ends. It is this process's own: ranks need not agree on it.
    """
    if glob.escape(str(path)) == str(path) or not Path(path).is_dir():
        yield str(path)
        return
    with TemporaryDirectory(prefix="agrl-") as place:
        link = Path(place) / "folder"
        link.symlink_to(Path(path).resolve())
        yield str(link)
