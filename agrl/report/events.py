"""``events.jsonl``: a line for each change of an actor's state, written by the driver; who died, and who came back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Lock
from typing import Any

from agrl.report.recorder import read_jsonl

EVENTS = "events.jsonl"
STATES = ("starting", "stale", "serving", "suspect", "dead")


class EventLog:
    """Any thread may call it."""

    def __init__(self, run_dir: Path) -> None:
        self._file, self._lock, self._states = Path(run_dir) / EVENTS, Lock(), {}
        self._file.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, actor: str, state: str, cause: str = "", host: str = "", step: int | None = None) -> None:
        """``actor`` has this state from now on, in ``step``, where there is one; the same as before is no event.
        ``host``: "" where it is not known."""
        with self._lock:
            if self._states.get(actor) == state:
                return
            self._states[actor] = state
            row = {"time": time.time(), "step": step, "actor": actor, "state": state, "cause": cause, "host": host}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """All lines, in their order; none where nothing was written."""
    file = Path(run_dir) / EVENTS
    return list(read_jsonl(file)) if file.exists() else []


def deaths(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The actors that were lost, with ``back_s``: seconds until another one served in its place, None while none does.

    An actor that gave no answer is ended, and counts as lost.
    """
    found: list[dict[str, Any]] = []
    away: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["state"] in ("suspect", "dead") and event["actor"] not in away:
            away[event["actor"]] = lost = event | {"back_s": None}
            found.append(lost)
        elif event["state"] == "serving" and event["actor"] in away:
            lost = away.pop(event["actor"])
            lost["back_s"] = event["time"] - lost["time"]
    return found


def said(lost: list[dict[str, Any]]) -> str:
    """For the end of a run; "" when nobody was lost."""
    if not lost:
        return ""
    back = sum(event["back_s"] is not None for event in lost)
    what = "1 actor died" if len(lost) == 1 else f"{len(lost)} actors died"
    if back < len(lost):
        return f"{what}; {back} of them replaced"
    return f"{what} and {'was' if back == 1 else 'were'} replaced"
