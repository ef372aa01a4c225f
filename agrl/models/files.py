"""The files of a model folder that count as its weights, where vLLM would read more than transformers does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def files_of_the_model(model_path: str) -> Iterator[str]:
    """The folder as transformers reads it: of several files of weights without an index, ``model.safetensors`` alone.

    vLLM would load them all, also what a publisher put beside it under other names.
    """
    folder, weights = Path(model_path), "model.safetensors"
    others = [file.name for file in folder.glob("*.safetensors") if file.name != weights]
    if not others or not (folder / weights).is_file() or (folder / f"{weights}.index.json").is_file():
        yield model_path
        return
    with tempfile.TemporaryDirectory(prefix="agrl-model-") as view:
        for file in folder.iterdir():
            if file.name not in others:
                (Path(view) / file.name).symlink_to(file.resolve())
        yield view
