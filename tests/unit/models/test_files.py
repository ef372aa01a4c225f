"""The files of a folder that an engine loads are those that the learner loads."""

from pathlib import Path

import pytest

from agrl.models.files import files_of_the_model


def make(folder, *names):
    for name in names:
        (folder / name).write_text(name)
    return str(folder)


def test_without_an_index_one_file_of_weights_counts(tmp_path):
    path = make(tmp_path, "model.safetensors", "consolidated.safetensors", "config.json", "tokenizer.json")
    with files_of_the_model(path) as view:
        found = {file.name: file.read_text() for file in Path(view).iterdir()}
    assert found == {name: name for name in ("model.safetensors", "config.json", "tokenizer.json")}
    assert (tmp_path / "consolidated.safetensors").is_file() and not Path(view).exists()


@pytest.mark.parametrize(
    "names",
    [
        ("model.safetensors",),
        ("pytorch_model.bin",),
        ("model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json", "consolidated.safetensors"),
        ("model-1.safetensors", "model-2.safetensors"),
        (),
    ],
)
def test_elsewhere_the_folder_is_taken_as_it_is(tmp_path, names):
    path = make(tmp_path, *names)
    with files_of_the_model(path) as view:
        assert view == path
    with files_of_the_model("organisation/model") as view:
        assert view == "organisation/model"
