"""From scored groups to what the learner trains on: one advantage a rollout, the provenance of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agrl.algorithms.advantages import decomposed_advantages, group_advantages, whiten
from agrl.algorithms.batch import TrainSequence
from agrl.relevance.records import RewardMode, Rollout, ScoredGroup
from agrl.relevance.reward import components_matrix


def group_relative(
    groups: Sequence[ScoredGroup],
    mode: RewardMode,
    weights: dict[str, float],
    kind: str,
    penalties: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Advantages of every group, float64 [G] each; NaN where the score is invalid: such a rollout is not trained.

    ``kind`` as in ``group_advantages``; ``penalties`` float [G] a group are taken off the total rewards.
    """
    found = []
    for group, penalty in zip(groups, penalties, strict=True):
        valid = np.array([score.valid for score in group.scores], bool)
        if mode == RewardMode.decomposed:
            values, known = components_matrix(group.scores, tuple(weights))
            advantages = decomposed_advantages(values, known, np.array(list(weights.values())), kind)
        else:
            totals = np.array([score.total for score in group.scores])
            advantages = group_advantages(totals - penalty, valid, kind)
        found.append(np.where(valid, advantages, np.nan))
    return _whitened(found) if mode == RewardMode.decomposed and found else found


def _whitened(groups: list[np.ndarray]) -> list[np.ndarray]:
    flat = np.concatenate(groups)
    flat[~np.isnan(flat)] = whiten(flat[~np.isnan(flat)])
    return np.split(flat, np.cumsum([len(g) for g in groups])[:-1])


def train_sequences(groups: Sequence[ScoredGroup], advantages: Sequence[np.ndarray]) -> list[TrainSequence]:
    """The valid rollouts of the groups, in order, with their advantages.

    A group in which every advantage is 0 teaches nothing and is left out of the token mean (DAPO's dynamic sampling).
    """
    return [
        train_sequence(rollout, float(advantage))
        for group, values in zip(groups, advantages, strict=True)
        if teaches(values)
        for rollout, advantage in zip(group.rollouts, values, strict=True)
        if not np.isnan(advantage)
    ]


def teaches(advantages: np.ndarray) -> bool:
    """Whether a group with these advantages, NaN for an invalid score, moves the policy at all."""
    return bool(np.nansum(np.abs(advantages)) > 0)


def train_sequence(rollout: Rollout, advantage: float = 0.0) -> TrainSequence:
    """A rollout as the learner takes it."""
    return TrainSequence(
        prompt_ids=rollout.prompt_ids,
        response_ids=rollout.response_ids,
        rollout_logprobs=rollout.logprobs,
        advantage=advantage,
        provenance=rollout.provenance,
        version=rollout.version,
        actor=rollout.actor,
    )
