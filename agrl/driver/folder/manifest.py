"""Whether a folder is as it was written: sizes and checksums of all its files, in a file beside them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MANIFEST = "files.json"


def write_manifest(folder: Path) -> None:
    """Note every file below ``folder``."""
    (folder / MANIFEST).write_text(json.dumps(_found(folder), indent=1) + "\n")


def damage(folder: Path) -> str:
    """Which file is not as it was noted, and how; "" where all are, or nothing was noted (by an earlier version)."""
    try:
        noted = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return ""
    except ValueError:
        return f"{MANIFEST} cannot be read"
    there = {name: (folder / name).stat().st_size for name in noted if (folder / name).is_file()}
    for name, (size, _) in noted.items():
        if name not in there:
            return f"{name} is missing"
        if there[name] != size:
            return f"{name} has {there[name]:,} of {size:,} bytes"
    found = _found(folder)
    changed = [name for name, about in noted.items() if found[name] != about]
    return f"{changed[0]} is not what was written: its checksum differs" if changed else ""


def _found(folder: Path) -> dict[str, list]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    with ThreadPoolExecutor() as threads:  # hashing leaves the interpreter to others
        return {
            str(path.relative_to(folder)): about for path, about in zip(files, threads.map(_about, files), strict=True)
        }


def _about(file: Path) -> list:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16))
    return [file.stat().st_size, digest.hexdigest()]
