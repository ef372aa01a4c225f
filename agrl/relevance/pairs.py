"""Which responses to one prompt make a preference pair. Pure."""

from __future__ import annotations

from agrl.relevance.records import ScoredGroup


def preference_pairs(group: ScoredGroup, min_margin: float, limit: int) -> list[tuple[int, int]]:
    """(preferred, other) indices into the group's rollouts: at most ``limit`` pairs, the widest margin first.

    The preferred one has the right tier (pass@N: a prompt that no sample solves gives no pair), and its rule-aware
    reward is larger by at least ``min_margin``. The best is set against the worst, the second best against the second
    worst and so on, and no text is in two pairs, so that one prompt cannot teach the same lesson many times.
    """
    distinct = {r.text: i for i, r in reversed(list(enumerate(group.rollouts))) if group.scores[i].valid}
    ranked = sorted(distinct.values(), key=lambda i: (-group.scores[i].total, i))
    pairs: list[tuple[int, int]] = []
    best = [i for i in ranked if group.scores[i].correct]
    used: set[int] = set()
    for preferred, other in zip(best, reversed(ranked), strict=False):
        margin = group.scores[preferred].total - group.scores[other].total
        if len(pairs) == limit or margin < min_margin or {preferred, other} & used:
            break
        pairs.append((preferred, other))
        used |= {preferred, other}
    return pairs
