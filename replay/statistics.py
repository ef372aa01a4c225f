"""What is remembered of every prompt: how often it was tried, how well it went, how much help it needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

HISTORY = 8  # outcomes remembered per prompt, enough to rank prompts by how long they have been failing


@dataclass
class PromptStats:
    """One prompt's record. ``accuracy`` is the exponential moving average of its share of correct tiers."""

    attempts: int = 0
    outcomes: list[tuple[int, int]] = field(
        default_factory=list
    )  # (correct, rollouts) of the last attempts, newest last
    accuracy: float = 0.0  # in [0, 1]; means nothing before the first attempt
    last_version: int = -1  # newest weights that answered it
    last_step: int = -1
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
    """Prompt id -> PromptStats, for the prompts tried so far. ``ema`` in (0, 1] is the weight of the newest outcome."""

    def __init__(self, ema: float = 0.5) -> None:
        self._ema = ema
        self._stats: dict[str, PromptStats] = {}

    def __len__(self) -> int:
        return len(self._stats)

    def __contains__(self, example_id: str) -> bool:
        return example_id in self._stats

    def __getitem__(self, example_id: str) -> PromptStats:
        """The record of a prompt; an empty one (which is not stored) when it was never tried."""
        return self._stats.get(example_id) or PromptStats()

    def items(self) -> Iterator[tuple[str, PromptStats]]:
        """Every prompt tried, in the order of first attempts."""
        return iter(self._stats.items())

    def update(self, example_id: str, correct: int, rollouts: int, version: int, step: int) -> PromptStats:
        """Enter the outcome of one group: ``correct`` of ``rollouts`` (> 0) had the right tier. Returns the record."""
        if not 0 <= correct <= rollouts or rollouts == 0:
            raise ValueError(f"prompt {example_id!r}: {correct} correct of {rollouts} rollouts is not an outcome")
        stats = self._stats.setdefault(example_id, PromptStats())
        share = correct / rollouts
        # The first outcome is the average: starting from a made-up prior would need many visits to forget it.
        stats.accuracy = share if not stats.attempts else stats.accuracy + self._ema * (share - stats.accuracy)
        stats.attempts += 1
        stats.outcomes = [*stats.outcomes, (correct, rollouts)][-HISTORY:]
        stats.last_version, stats.last_step = max(stats.last_version, version), step
        return stats

    def guided(self, example_id: str, solved: bool, level: int) -> None:
        """Enter one attempt at guidance: whether it gave a sound answer, and the hint level at which it stopped."""
        stats = self._stats.setdefault(example_id, PromptStats())
        stats.guided, stats.solved, stats.hint_level = stats.guided + 1, stats.solved + bool(solved), level

    def state_dict(self) -> dict:
        """Everything, in plain types (JSON keeps it exactly)."""
        return {example_id: asdict(stats) for example_id, stats in self._stats.items()}

    def load_state_dict(self, state: dict) -> None:
        """Replace the content by that of a ``state_dict``."""
        self._stats = {i: PromptStats(**{**s, "outcomes": [tuple(o) for o in s["outcomes"]]}) for i, s in state.items()}
