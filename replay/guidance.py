"""Which guided answers enter a group, and which of its rollouts they replace. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agrl.config.schema import Accept
from agrl.relevance.records import Rollout, Score, ScoredGroup
from replay.buffer import surprise

Scored = tuple[Rollout, Score]


def choose_solutions(candidates: Sequence[Scored], k: int, accept: Accept = Accept.sound) -> list[Scored]:
    """At most ``k`` of the acceptable candidates, the least surprising first: one of each text, then repetitions.

    Sound (``Score.sound``) and not merely correct: an answer that is right for a wrong reason would teach the reason.
    Least surprising (highest mean log-probability): an answer that its own policy finds improbable is more often sound
    by luck, with a reading made up to fit the verdict.
    """
    accepted = [(r, s) for r, s in candidates if (s.sound if accept == Accept.sound else s.correct)]
    seen: set[str] = set()
    fresh: list[Scored] = []
    again: list[Scored] = []
    for rollout, score in sorted(accepted, key=lambda pair: surprise(pair[0])):
        (again if rollout.text in seen else fresh).append((rollout, score))
        seen.add(rollout.text)
    return (fresh + again)[:k]


def replace_worst(group: ScoredGroup, guided: Sequence[Scored], k: int) -> ScoredGroup:
    """A new group in which at most ``k`` guided answers stand in the places of the worst rollouts.

    Worst: no valid score (nothing could be learned from it), then the lowest total, then the longest response. A
    rollout with the right tier is never replaced. The given group is left as it is.
    """
    wrong = [i for i, score in enumerate(group.scores) if not score.correct]
    rollouts, scores = list(group.rollouts), list(group.scores)

    def badness(i: int) -> tuple[float, int, int]:
        total = scores[i].total if scores[i].valid else -np.inf
        return total, -len(rollouts[i].response_ids), i

    for i, (rollout, score) in zip(sorted(wrong, key=badness), list(guided)[:k], strict=False):
        rollouts[i], scores[i] = rollout, score
    return ScoredGroup(group.example, rollouts, scores)
