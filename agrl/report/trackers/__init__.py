"""Where a run's numbers go beside its folder: the trackers that people have, each in a file of its own.

A tracker's package is imported when the configuration names it. Its own settings (servers, projects, keys) are its own
environment variables; docs/monitoring.md lists them.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agrl.config.schema import TrackerName
from agrl.disk import write_whole
from agrl.errors import ConfigError

PROJECT = "agrl"
IDS = "trackers.json"


class Tracker(ABC):
    """Takes the numbers of one phase of a run."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step; some may be NaN or infinite."""

    def log_evaluation(self, done: int, set_name: str, values: Mapping[str, float]) -> None:
        """Take what was measured on a held-out set after ``done`` steps."""
        self.log(done, {f"eval/{set_name}/{name}": value for name, value in values.items()})

    @abstractmethod
    def close(self, error: BaseException | None) -> None:
        """Hand over what is still held. ``error``: what ended the phase, where it did not end well."""


@dataclass(frozen=True)
class TrackedRun:
    """One phase of a run as a tracker sees it: a run of its own, because every phase counts its steps from 0.

    ``first_step``: where this process starts; above 0 it goes on with the tracker's run. ``settings``: the
    configuration, flat.
    """

    folder: Path
    phase: str
    first_step: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.folder.absolute().name}-{self.phase}"

    def known_as(self, tracker: str) -> str | None:
        """The id that the tracker gave this phase before it was resumed; None for one that begins."""
        return self._ids().get(self.phase, {}).get(tracker) if self.first_step else None

    def remember(self, tracker: str, identity: str) -> None:
        """Keep the tracker's id of this phase in the run folder."""
        ids = self._ids()
        ids.setdefault(self.phase, {})[tracker] = identity
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / IDS, json.dumps(ids, indent=2) + "\n")

    def _ids(self) -> dict[str, dict[str, str]]:
        path = self.folder / IDS
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def require_packages(names: Sequence[TrackerName]) -> None:
    """Raise ConfigError, with the command that installs it, for a tracker whose package is not here."""
    for name in names:
        if find_spec(name.value) is None:
            raise ConfigError(
                f"trainer.trackers names {name.value}, which is not installed",
                hint=f"pip install '{PROJECT}[{name.value}]', or leave it out of trainer.trackers",
            )


def open_trackers(names: Sequence[TrackerName], run: TrackedRun) -> list[Tracker]:
    """Open the trackers, all or none. Raises ConfigError naming the one that is missing or cannot be reached."""
    require_packages(names)
    with ExitStack() as opened:
        trackers = []
        for name in names:
            module = importlib.import_module(f"{__name__}.{name.value}")
            try:
                trackers.append(module.open_tracker(run))
            except Exception as error:
                raise ConfigError(f"trainer.trackers: {name.value} does not open: {error}", hint=module.HINT) from error
            opened.push(lambda _, error, __, tracker=trackers[-1]: tracker.close(error))
        opened.pop_all()
    return trackers
