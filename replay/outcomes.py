"""What the replay actor is told of a group: how each rollout went, and the answers that are worth keeping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agrl.relevance.records import Provenance, RewardMode, Rollout, ScoredGroup

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """How the G rollouts of one prompt went, in their order. A rollout whose scoring failed is not ``valid``.

    ``correct``: the tier is right. ``rewards`` float64 [G, C]: what advantages are made of, the total or every
    component by itself, NaN where it is invalid. ``sound``: the policy's own answers that guidance may recall.
    """

    example_id: str
    valid: np.ndarray
    correct: np.ndarray
    rewards: np.ndarray
    sound: list[Rollout]

    @classmethod
    def of(cls, group: ScoredGroup, mode: RewardMode = RewardMode.rules) -> Outcome:
        scores = group.scores
        rewards = [[s.total if s.valid else np.nan] for s in scores]
        if mode == RewardMode.decomposed:  # GDPO: a component that a score lacks is invalid
            names = {name: None for s in scores for name in s.components}
            parts = [[s.components.get(name) for name in names] if s.valid else [None] * len(names) for s in scores]
            rewards = [[part.value if part and part.valid else np.nan for part in row] for row in parts]
        return cls(
            group.example.id,
            np.array([s.valid for s in scores], bool),
            np.array([s.correct for s in scores], bool),
            np.array(rewards, np.float64).reshape(len(scores), -1),
            [
                rollout
                for rollout, score in zip(group.rollouts, scores, strict=True)
                if score.sound and rollout.provenance is Provenance.ON_POLICY
            ],
        )

    @property
    def correct_of_valid(self) -> tuple[int, int]:
        """(correct, valid) rollouts. One whose scoring failed is neither right nor wrong and is left out of both."""
        return int((self.correct & self.valid).sum()), int(self.valid.sum())

    @property
    def has_signal(self) -> bool:
        """Whether the valid rewards of the group differ, so that any advantage in it is not zero."""
        return any(len(known) > 1 and np.ptp(known) > TOLERANCE for known in (c[~np.isnan(c)] for c in self.rewards.T))
