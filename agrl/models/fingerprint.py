"""What tells whether a model is still the one that it was, without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUFFIXES = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja")  # weights, configuration, tokenizer
WHOLE = 1 << 24  # bytes: a file up to this size is read whole ...
SAMPLES, BLOCK = 256, 1 << 12  # ... of a larger one the first megabyte (the header) and blocks all over it
HEADER = 1 << 20


def fingerprint(model: str) -> str:
    """A digest of the names, sizes and contents (sampled, of large files) of a model's files; of a hub name, its
    revision. Training changes it: every weight matrix is touched. Where the folder lies, and its times, do not."""
    folder = Path(model)
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"revision {getattr(AutoConfig.from_pretrained(model), '_commit_hash', None)}"
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in SUFFIXES):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        _add(digest, path)
    return digest.hexdigest()[:32]


def _add(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            return
        digest.update(file.read(HEADER))
        for i in range(SAMPLES):
            file.seek(HEADER + (size - HEADER - BLOCK) * i // (SAMPLES - 1))
            digest.update(file.read(BLOCK))
