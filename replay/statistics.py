"""What is remembered of every prompt: how often it was tried, how well it went, how much help it needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

HISTORY = 8  # outcomes remembered per prompt, enough to rank prompts by how long they have been failing

COLUMNS = {
    "attempts": np.uint16,
    "accuracy": np.float64,
    "hint_level": np.uint8,
    "guided": np.uint8,
    "solved": np.uint8,
}
"""Of each prompt, in arrays that take memory only where something was written: 29 bytes with its outcomes, of groups of
at most 255 rollouts. A count stays at the most that its type holds."""


@dataclass(frozen=True)
class PromptStats:
    """One prompt's record. ``accuracy`` is the exponential moving average of its share of correct tiers."""

    attempts: int = 0
    outcomes: tuple[tuple[int, int], ...] = ()  # (correct, rollouts) of the last attempts, newest last
    accuracy: float = 0.0  # in [0, 1]; means nothing before the first attempt
    hint_level: int = 0  # the level at which guidance last stopped, solved or not; 0 for the reference or none
    guided: int = 0  # times that guidance was tried
    solved: int = 0  # times that guidance gave a sound answer

    def failing(self, tau: float) -> int:
        """Number of consecutive attempts, newest first, with at most a share ``tau`` of correct tiers."""
        for count, (correct, rollouts) in enumerate(reversed(self.outcomes)):
            if correct > tau * rollouts:
                return count
        return len(self.outcomes)


class PromptTable:
    """The records of ``size`` prompts by their number. ``ema`` in (0, 1]: weight of the newest outcome.

    ``most``: rollouts of a group at most, which sets the bytes that an outcome takes.
    """

    def __init__(self, size: int, ema: float = 0.5, most: int = 8) -> None:
        self._ema = ema
        self._columns = {name: np.zeros(size, kind) for name, kind in COLUMNS.items()}
        self._columns["outcomes"] = np.zeros((size, HISTORY, 2), np.min_scalar_type(most))
        self.tried = self.guided_prompts = 0  # prompts with an outcome; with guidance
        self._accuracies = 0.0  # their sum

    def __len__(self) -> int:
        return len(self._columns["attempts"])

    def __getitem__(self, prompt: int) -> PromptStats:
        """The record of a prompt; an empty one when it was never tried."""
        numbers = {name: self._columns[name][prompt].item() for name in COLUMNS}
        kept = min(numbers["attempts"], HISTORY)
        outcomes = self._columns["outcomes"][prompt, HISTORY - kept :].tolist()
        return PromptStats(outcomes=tuple(map(tuple, outcomes)), **numbers)

    @property
    def accuracy_mean(self) -> float:
        """Of the moving accuracies of the prompts tried so far; 0 before the first."""
        return self._accuracies / max(self.tried, 1)

    def accuracies(self, prompts: np.ndarray, untried: float) -> np.ndarray:
        """float64: the moving accuracies of these prompts, ``untried`` for those that were never tried."""
        found = self._columns["accuracy"][prompts]
        return np.where(self._columns["attempts"][prompts] > 0, found, untried)

    def update(self, prompt: int, correct: int, rollouts: int) -> None:
        """Enter the outcome of one group: ``correct`` of ``rollouts`` (> 0) had the right tier."""
        c = self._columns
        if not 0 <= correct <= rollouts or not 0 < rollouts <= np.iinfo(c["outcomes"].dtype).max:
            raise ValueError(f"prompt {prompt}: {correct} correct of {rollouts} rollouts is not an outcome")
        share, before, first = correct / rollouts, float(c["accuracy"][prompt]), c["attempts"][prompt] == 0
        # The first outcome is the average: starting from a made-up prior would need many visits to forget it.
        now = share if first else before + self._ema * (share - before)
        self.tried += int(first)
        self._accuracies += now - before
        c["accuracy"][prompt] = now
        _count(c["attempts"], prompt)
        c["outcomes"][prompt] = np.roll(c["outcomes"][prompt], -1, axis=0)
        c["outcomes"][prompt, -1] = correct, rollouts

    def guided(self, prompt: int, solved: bool, level: int) -> None:
        """Enter one attempt at guidance: whether it gave a sound answer, and the hint level at which it stopped."""
        c = self._columns
        self.guided_prompts += int(c["guided"][prompt] == 0)
        _count(c["guided"], prompt)
        if solved:
            _count(c["solved"], prompt)
        c["hint_level"][prompt] = level

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything, as arrays: which prompts there is something to remember of, a bit each, and their records."""
        known = (self._columns["attempts"] > 0) | (self._columns["guided"] > 0)
        records = {name: column[known] for name, column in self._columns.items()}
        return records | {"known": np.packbits(known), "accuracies": np.float64(self._accuracies)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the content by that of a ``state_dict`` of a table of this size; there may be more in it."""
        known = np.unpackbits(state["known"], count=len(self)).astype(bool)
        for name, column in self._columns.items():
            column[:] = 0
            column[known] = state[name]
        self.tried = int((self._columns["attempts"] > 0).sum())
        self.guided_prompts = int((self._columns["guided"] > 0).sum())
        self._accuracies = float(state["accuracies"])


def _count(column: np.ndarray, prompt: int) -> None:
    column[prompt] += column[prompt] < np.iinfo(column.dtype).max
