"""Metrics of a step's own rollouts, before guidance mixes anything in. docs/metrics.md explains each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agrl.relevance.records import ScoredGroup
from agrl.relevance.rules import CONSISTENCY, FORMAT, READING, TIER


def rollout_metrics(groups: Sequence[ScoredGroup], components: Sequence[str]) -> dict[str, float]:
    """Metrics over all rollouts that a step sampled; invalid scores are left out."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scores = [score for group in groups for score in group.scores]
    valid = [score for score in scores if score.valid]
    lengths = np.array([len(r.response_ids) for r in rollouts])
    totals = np.array([score.total for score in valid])
    judged = [score for score in valid if score.judgement is not None]
    metrics = {
        "train/accuracy": _share(valid, lambda score: score.correct),
        "train/parse_rate": len(judged) / len(valid),
        "train/rule_adherence": _share(valid, lambda score: score.consistent),
        "train/right_tier_wrong_verdict": _share(valid, lambda score: score.correct and not _verdicts_right(score)),
        "reward/total_mean": float(totals.mean()),
        "reward/total_std": float(totals.std()),
        "reward/invalid": len(scores) - len(valid),
        "response/length_mean": float(lengths.mean()),
        "response/cut_off": _share(rollouts, lambda rollout: rollout.finish_reason == "length"),
        "rollout/generated_groups": len(groups),
        "tokens/response": int(lengths.sum()),
        "tokens/prompt": sum(len(group.rollouts[0].prompt_ids) for group in groups),
    }
    for name in components:
        known = [score.components[name].value for score in scores if score.components[name].valid]
        metrics[f"reward/{name}_invalid"] = len(scores) - len(known)
        if known:
            metrics[f"reward/{name}_mean"] = float(np.mean(known))
    return metrics


def _verdicts_right(score) -> bool:
    """Every verdict with gold is right, and the tier follows from the stated verdicts."""
    others = (c for name, c in score.components.items() if name not in (FORMAT, READING, CONSISTENCY, TIER))
    return score.consistent and all(c.value == 1.0 for c in others if c.valid)


def _share(items: Sequence, holds) -> float:
    return sum(map(bool, map(holds, items))) / max(len(items), 1)
