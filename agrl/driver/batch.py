"""From scored groups to what the learner trains on: one advantage a rollout, the provenance of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agrl.algorithms.advantages import decomposed_advantages, group_advantages, whiten
from agrl.algorithms.batch import TrainSequence
from agrl.relevance.records import RewardMode, ScoredGroup
from agrl.relevance.reward import components_matrix


def group_relative(
    groups: Sequence[ScoredGroup], mode: RewardMode, weights: dict[str, float], normalise_std: bool
) -> list[np.ndarray]:
    """Advantages of every group, float64 [G] each; NaN where the score is invalid: such a rollout is not trained."""
    found = []
    for group in groups:
        valid = np.array([score.valid for score in group.scores], bool)
        if mode == RewardMode.decomposed:
            values, known = components_matrix(group.scores, tuple(weights))
            advantages = decomposed_advantages(values, known, np.array(list(weights.values())), normalise_std)
        else:
            totals = np.array([score.total for score in group.scores])
            advantages = group_advantages(totals, valid, normalise_std)
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
        TrainSequence(
            prompt_ids=rollout.prompt_ids,
            response_ids=rollout.response_ids,
            rollout_logprobs=rollout.logprobs,
            advantage=float(advantage),
            provenance=rollout.provenance,
            version=rollout.version,
            actor=rollout.actor,
        )
        for group, values in zip(groups, advantages, strict=True)
        if np.nansum(np.abs(values)) > 0
        for rollout, advantage in zip(group.rollouts, values, strict=True)
        if not np.isnan(advantage)
    ]
