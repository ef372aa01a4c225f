"""A folder as arrays in memory."""

import os

import numpy as np

from learner import snapshot
from learner.snapshot import read_files, scratch, write_files


def test_files_are_readable_when_their_folder_is_gone_and_can_be_written_again(tmp_path):
    content = np.random.default_rng(0).bytes(100_000)
    with scratch(1) as folder:
        (folder / "engine").mkdir()
        (folder / "engine" / "weights.pt").write_bytes(content)
        (folder / "empty").touch()
        found = read_files(folder)
    assert not folder.exists()
    write_files(tmp_path, found)
    assert (tmp_path / "engine" / "weights.pt").read_bytes() == content and (tmp_path / "empty").read_bytes() == b""
    assert {path.name for path in tmp_path.rglob("*")} == {"engine", "weights.pt", "empty"}


def test_what_a_killed_process_left_is_deleted_and_what_another_uses_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MEMORY", tmp_path)
    left = tmp_path / f"{snapshot.PREFIX}left"
    left.mkdir()
    with scratch(1) as used:
        for folder in (left, used):
            os.utime(folder, (0, 0))
        with scratch(1) as other:
            assert sorted(tmp_path.iterdir()) == sorted([used, other])


def test_it_is_on_disk_where_memory_has_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(snapshot.tempfile, "tempdir", str(tmp_path))
    with scratch(1) as folder:
        assert folder.parent == tmp_path
    (tmp_path / "memory").mkdir()
    with scratch(2**60) as folder:
        assert folder.parent == tmp_path
    with scratch(1) as folder:
        assert folder.parent == tmp_path / "memory"
