"""A model's fingerprint changes with what is in it, and with nothing else."""

import os
import shutil

import pytest

from agrl.models import fingerprint as module
from agrl.models.fingerprint import fingerprint


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model with one file that is read whole, and one that is sampled."""
    monkeypatch.setattr(module, "WHOLE", 1 << 10)
    monkeypatch.setattr(module, "HEADER", 1 << 8)
    monkeypatch.setattr(module, "BLOCK", 1 << 4)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1 << 14))
    return folder


def test_a_copy_with_other_times_and_other_files_beside_it_is_the_same_model(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    os.utime(copy / "model.safetensors", (0, 0))
    (copy / "logs").mkdir()
    (copy / "make.log").write_text("made")
    assert fingerprint(str(copy)) == fingerprint(str(model))


@pytest.mark.parametrize("change", ["tokenizer", "header", "weights", "last bytes", "size", "a file more"])
def test_any_change_tells(model, change):
    before, weights = fingerprint(str(model)), bytearray(1 << 14)
    if change == "tokenizer":
        (model / "tokenizer.json").write_text("[]")
    elif change == "a file more":
        (model / "special_tokens_map.json").write_text("{}")
    else:
        where = {"header": slice(0, 8), "weights": slice(512, None, 8), "last bytes": slice(-8, None)}
        weights = weights + b"0" if change == "size" else weights
        for i in range(*where.get(change, slice(0, 0)).indices(len(weights))):
            weights[i] = 1
        (model / "model.safetensors").write_bytes(weights)
    assert fingerprint(str(model)) != before
