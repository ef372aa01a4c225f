"""A folder of any name is found by libraries that make patterns of its path."""

import glob
from pathlib import Path

import pytest

from agrl.models.paths import without_patterns


@pytest.mark.parametrize("name", ["plain", "a [v2]", "*", "what?", "[!x]", "größe #1"])
def test_files_are_found_by_a_pattern_under_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # also by a relative path
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.pt").write_text("here")
    for folder in (tmp_path / name, Path(name), str(tmp_path / name)):
        with without_patterns(folder) as path:
            (found,) = glob.glob(f"{path}/*.pt")
            assert Path(found).read_text() == "here"
        assert (tmp_path / name / "x.pt").exists() and Path(path).exists() is (path == str(folder))


@pytest.mark.parametrize("name", ["plain", "Qwen/Qwen3-0.6B", "no [folder]"])
def test_what_needs_no_link_or_is_no_folder_is_left_as_it_is(name):
    with without_patterns(name) as path:
        assert path == name
