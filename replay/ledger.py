"""Every prompt that is drawn, and the one thing that became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

TRAINED, DROPPED, GIVEN_BACK = OUTCOMES = ("trained", "dropped", "given_back")


@dataclass(frozen=True)
class Entry:
    """Draw number ``draw`` of the run, from 0: prompt ``example_id``, number ``prompt`` of the pool, at step ``drawn``.

    ``outcome``: one of ``OUTCOMES``, at ``step``, or "" while the prompt is under way. ``reason``: why it was dropped
    or given back.
    """

    draw: int
    example_id: str
    prompt: int
    drawn: int
    outcome: str = ""
    step: int = -1
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """As a line of ``ledger.jsonl``."""
        return asdict(self)


class Ledger:
    """``drawn`` opens an entry, ``close`` ends it, ``settle`` hands over what has ended.

    A prompt may be under way in two batches at a time, once in each: its entries are told apart by the step at which
    they were drawn.
    """

    def __init__(self) -> None:
        self.draws = 0
        self._open: dict[str, dict[int, Entry]] = {}  # by prompt and step of the draw
        self._closed: list[Entry] = []

    def under_way(self) -> list[Entry]:
        """In the order in which they were drawn."""
        return sorted((e for found in self._open.values() for e in found.values()), key=lambda e: e.draw)

    def prompt(self, example_id: str) -> int:
        """The number in the pool of a prompt that is under way. Raises KeyError for one that is not."""
        return next(iter(self._open[example_id].values())).prompt

    def drawn(self, prompts: Mapping[str, int], step: int) -> None:
        """These prompts, id -> number in the pool, go under way. Raises ValueError for one that this step has under way
        already."""
        for example_id, prompt in prompts.items():
            entries = self._open.setdefault(example_id, {})
            if step in entries:
                raise ValueError(f"prompt {example_id!r} was drawn twice at step {step}")
            entries[step] = Entry(self.draws, example_id, prompt, step)
            self.draws += 1

    def close(self, example_id: str, step: int, outcome: str, reason: str = "") -> None:
        """What became of a prompt at ``step``: of the one that was drawn then, or else of the oldest.

        Raises ValueError for a prompt that is not under way: it has had its outcome.
        """
        entries = self._open.get(example_id)
        if not entries:
            raise ValueError(f"prompt {example_id!r} is not under way, and cannot be {outcome} at step {step}")
        entry = entries.pop(step if step in entries else min(entries))
        if not entries:
            del self._open[example_id]
        self._closed.append(replace(entry, outcome=outcome, step=step, reason=reason))

    def settle(self, step: int) -> list[Entry]:
        """Those that ended up to ``step`` and have not been handed over, in the order in which they were drawn."""
        due = sorted((entry for entry in self._closed if entry.step <= step), key=lambda e: e.draw)
        self._closed = [entry for entry in self._closed if entry.step > step]
        return due

    def state_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint."""
        return {
            "draws": self.draws,
            "open": [entry.row() for entry in self.under_way()],
            "closed": [entry.row() for entry in self._closed],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace everything by what ``state_dict`` gave."""
        self.draws, self._open = state["draws"], {}
        for row in state["open"]:
            entry = Entry(**row)
            self._open.setdefault(entry.example_id, {})[entry.drawn] = entry
        self._closed = [Entry(**row) for row in state["closed"]]
