"""What a host has that a run needs. Runs on hosts of which nothing is known yet: uses the standard library alone, and
travels there whole (`actors.ray_hosts.ask_hosts`)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CODE = (".py", ".yaml", ".j2")


def look(
    shared: str, token: str, name: str, paths: Sequence[str], packages: Sequence[str], code: Sequence[str]
) -> dict[str, Any]:
    """Read the file ``token`` of the folder ``shared``, write the file ``name`` beside it, and tell what is here:

    "token": what it holds, "refused": why the file could not be written ("" when it was), "paths": of each path the
    sizes of its files by name, None where it is missing, "packages": their versions, "python", "code": a digest of
    every source file of the named packages.
    """
    folder, refused = Path(shared), ""
    try:
        (folder / name).write_text(name)
    except OSError as error:
        refused = error.strerror or str(error)
    return {
        "token": _text(folder / token),
        "refused": refused,
        "paths": {path: _sizes(Path(path)) for path in paths},
        "packages": {package: _version(package) for package in packages},
        "python": platform.python_version(),
        "code": {file: digest for package in code for file, digest in digests(package).items()},
    }


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _sizes(path: Path) -> dict[str, int] | None:
    try:
        files = [path] if path.is_file() else [Path(entry) for entry in os.scandir(path) if entry.is_file()]
        return {file.name: file.stat().st_size for file in files}
    except OSError:
        return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def digests(package: str) -> dict[str, str]:
    spec = importlib.util.find_spec(package)
    found = {}
    for root in map(Path, (spec.submodule_search_locations or []) if spec else []):
        for file in sorted(root.rglob("*")):
            if file.suffix in CODE:
                found[f"{package}/{file.relative_to(root)}"] = hashlib.blake2b(file.read_bytes()).hexdigest()[:16]
    return found
