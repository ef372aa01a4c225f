"""What a run leaves to its next driver: who may take its services over, and how long they took to start."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

from actors.host_probe import digests
from actors.lease import Lease
from actors.runtime import Runtime
from agrl.config.schema import Config
from agrl.disk import refused
from agrl.driver.folder.run_folder import RunFolder, versions
from agrl.driver.services.preflight import CODE
from agrl.report.progress import duration

START_S = 60.0  # to start services, where nobody knows yet
LEAST_S = 10.0


class KeepAlive:
    """The lease of a run's services, and its file in the run folder, which the run's owner alone may read.

    With ``resume`` this driver takes over what one before it left. Raises ConfigError, DiskError when the file cannot
    be written.
    """

    def __init__(self, config: Config, folder: RunFolder, resume: bool) -> None:
        self.resume, self._file = resume, folder.keep_alive
        saved = _read(self._file)
        self._secret, self._start_s = saved.get("secret") or secrets.token_hex(16), saved.get("start_s")
        self._write()
        patience_s = max(LEAST_S, self._start_s or START_S)  # longer than a start is no gain
        self.lease = Lease(self._secret, config.ray.keep_alive_s, code_digest(), patience_s)

    def started(self, runtime: Runtime, seconds: float) -> list[str]:
        """All services are ready, after so many seconds: lines for people on what was taken over."""
        usual = self._start_s
        if not runtime.taken_over:
            self._start_s = seconds
            self._write()
        if not self.resume:
            return []
        lines = [f"{name} was left and is started anew: {why}" for name, why in runtime.not_taken_over.items()]
        if runtime.taken_over:
            than = f" instead of {duration(usual)}" if usual else ""
            who = ", ".join(sorted(runtime.taken_over))
            lines.insert(0, f"taken over from a driver that is gone: {who}; ready after {duration(seconds)}{than}")
        lines = lines or ["nothing was left to be taken over"]
        return [f"{'' if i else 'Kept':<8}{line}" for i, line in enumerate(lines)]

    def forget(self) -> None:
        """The run has ended in order: nothing is left."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self._file.unlink(missing_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"secret": self._secret, "start_s": self._start_s}, file)
        except OSError as error:
            raise refused(error, f"{self._file}, which says who may take services over,") from error


def keep_alive(config: Config, folder: RunFolder, resume: bool) -> KeepAlive | None:
    """None where services end with their driver."""
    return KeepAlive(config, folder, resume) if config.ray.keep_alive_s else None


def code_digest() -> str:
    """Of this code and of the packages that it runs on: services of another one are not taken over."""
    about = {name: version for name, version in versions().items() if name != "git"}
    about |= {file: digest for package in CODE for file, digest in digests(package).items()}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):  # a driver died while it wrote it
        return {}
