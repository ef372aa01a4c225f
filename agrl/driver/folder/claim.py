"""A run's own folder: no other run writes to it, nothing in it is overwritten, what ends the run is explained."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agrl.config.schema import Config
from agrl.disk import explained, refused
from agrl.driver.folder.lock import locked
from agrl.driver.folder.run_folder import RunFolder
from agrl.errors import AgrlError, ConfigError, DiskError
from agrl.report.terminal import log_to
from agrl.report.trackers import require_packages


@contextmanager
def claimed(config: Config, command: str, resume: bool = False, prepared: bool = False) -> Iterator[RunFolder]:
    """The folder of the run that ``command`` starts or resumes, locked and with its log begun, while the block runs.

    ``prepared``: the caller has locked it and made room (the demo). Raises ConfigError when the folder is in use, holds
    another run or the start model, or cannot be written to; for a resumed one, when it belongs to another command or
    has no checkpoint; when a tracker is not installed. An error or an interrupt from inside says how to go on; what was
    half written is deleted.
    """
    folder = RunFolder(config.run)
    require_packages(config.trainer.trackers)
    with ExitStack() as stack:
        if not prepared:
            _refuse(folder, config, command, resume)
            stack.enter_context(locked(folder.path))
            _refuse(folder, config, command, resume)  # again: another process may have had it until now
        _begin(folder)
        try:
            yield folder
        except BaseException as error:
            named = _named(error, folder)  # before anything is deleted: it says how full the disk is
            folder.drop_partial()
            named.hint = "\n".join(filter(None, (getattr(named, "hint", ""), folder.how_to_go_on())))
            if named is error:
                raise
            raise named from error


def _named(error: BaseException, folder: RunFolder) -> Any:
    """An error of ours in the place of one from below it; the error itself where there is none."""
    found = explained(error, folder.path)
    return found if isinstance(found, DiskError) or (found and not isinstance(error, AgrlError)) else error


def _begin(folder: RunFolder) -> None:
    try:
        folder.drop_partial()
        log_to(folder.logs / "driver.log")
    except OSError as error:
        raise refused(error, f"the run folder {folder.path}") from error


def _refuse(folder: RunFolder, config: Config, command: str, resume: bool) -> None:
    if resume:
        _refuse_resume(folder, command)
        return
    if Path(config.model.path).exists() and (where := overlap(folder.path, Path(config.model.path))):
        raise ConfigError(
            f"run={folder.path} {where} model.path={config.model.path}, the model that the run begins with",
            hint="choose another folder with run=FOLDER: a run never writes where its start model is",
        )
    if found := folder.holds():
        raise ConfigError(f"{folder.path} is not empty: it holds {found}", hint=_another(folder))


def _refuse_resume(folder: RunFolder, command: str) -> None:
    path, own = shlex.quote(str(folder.path)), folder.about().get("command", command)
    if own != command:
        raise ConfigError(
            f"{folder.path} is a run of `agrl {own}`", hint=f"go on with it: `agrl {own} --resume {path}`"
        )
    if folder.latest() is None:
        raise ConfigError(
            f"{folder.path} holds no checkpoint to go on from",
            hint=f"start it anew with `agrl {command}`; trainer.checkpoint_every sets how often one is written",
        )


def _another(folder: RunFolder) -> str:
    path = shlex.quote(str(folder.path))
    rest = f"choose another folder with run=FOLDER, or delete {path} to start over, if nothing in it is needed"
    if folder.latest() is None:
        return rest
    return f"go on with it: `agrl {folder.about().get('command', 'train')} --resume {path}`; or {rest}"


def overlap(run: Path, model: Path) -> str:
    """How two folders are one or one in the other, links and mounts seen through; "" when they are apart."""
    if _inside(model, run):
        return "is, or holds," if _inside(run, model) else "holds"
    return "is inside" if _inside(run, model) else ""


def _inside(path: Path, folder: Path) -> bool:
    """Whether ``path`` is ``folder`` or below it; both may be missing."""
    real = Path(os.path.realpath(path))
    return any(
        place == Path(os.path.realpath(folder)) or (folder.exists() and place.exists() and place.samefile(folder))
        for place in (real, *real.parents)
    )
