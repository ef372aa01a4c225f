"""What the system refuses is said by name: a disk that is full, a place that is read-only; files are whole or old."""

import errno
import os
from pathlib import Path

import pytest

from agrl.disk import explained, mount_point, refused, write_whole
from agrl.errors import ConfigError, DataError, DiskError, LearnerError


def chained(inner, outer):
    try:
        try:
            raise inner
        except BaseException as error:
            raise outer from error
    except BaseException as error:
        return error


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    RuntimeError(
        "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/2: file write failed"
    ),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1339392 vs 1339280"),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    chained(OSError(errno.ENOSPC, "x"), ValueError("I/O operation on closed file")),
    chained(OSError(errno.ENOSPC, "x"), LearnerError("learner-0 failed")),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_named_with_what_is_free(error, tmp_path):
    found = explained(error, tmp_path)
    assert isinstance(found, DiskError) and found.hint
    assert f"the disk at {mount_point(tmp_path)}" in str(found) or "the disk at /" in str(found)
    assert " are free" in str(found)


def test_the_disk_of_the_file_that_is_named_counts(tmp_path):
    error = OSError(errno.ENOSPC, "full", "/proc/self/status")
    assert "the disk at /proc:" in str(explained(error, tmp_path))


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    for number in (errno.EROFS, errno.EACCES, errno.EPERM):
        found = explained(OSError(number, os.strerror(number), str(tmp_path / "x")))
        assert (
            isinstance(found, ConfigError) and str(tmp_path / "x") in str(found) and os.strerror(number) in str(found)
        )
    assert isinstance(refused(OSError(errno.ENOSPC, "full"), "the folder x"), DiskError)


OTHERS = [
    KeyError("x"),
    OSError(errno.ENOENT, "no", "x"),
    DataError("row 3"),
    RuntimeError(),
    chained(PermissionError(errno.EACCES, "a cache", "/root/.cache"), ValueError("something else")),
]


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_stay_as_they_are(error):
    assert explained(error) is None


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_whole(path, "old: ä")

    def full(self, *args, **kwargs):
        self.touch()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old: ä" and list(tmp_path.iterdir()) == [path]
