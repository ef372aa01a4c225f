"""The check that a rollout actor sampled from the weights it claims: its log-probabilities against the learner's."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from agrl.errors import WeightSyncError


@dataclass
class SyncGap:
    """Sums over on-policy tokens of d = logp_learner - logp_rollout (nats), by rollout actor, and overall.

    With w = exp(d): KL(rollout || learner) is estimated by k3 (w - 1 - d), and the effective sample size by
    (sum w)^2 / (n sum w^2), 1 when the two agree.
    """

    by_actor: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0]))  # sum |d|, tokens
    maximum: float = 0.0
    kl: float = 0.0
    weights: float = 0.0
    weights_squared: float = 0.0

    def add(self, actor: int, learner: np.ndarray, rollout: np.ndarray) -> None:
        """Add one response's log-probabilities, float [T] each."""
        d = np.clip(learner.astype(np.float64) - rollout, -20, 20)
        w = np.exp(d)
        self.by_actor[actor][0] += float(np.abs(d).sum())
        self.by_actor[actor][1] += len(d)
        self.maximum = max(self.maximum, float(np.abs(d).max(initial=0.0)))
        self.kl += float((w - 1 - d).sum())
        self.weights += float(w.sum())
        self.weights_squared += float((w * w).sum())

    @property
    def tokens(self) -> int:
        return sum(n for _, n in self.by_actor.values())

    def check(self, version: int, tolerance: float) -> None:
        """Raise WeightSyncError naming the actor whose mean gap exceeds ``tolerance`` nats per token (or is NaN)."""
        for actor, (total, tokens) in sorted(self.by_actor.items()):
            if tokens and not total / tokens <= tolerance:
                raise WeightSyncError(
                    f"rollout actor {actor} does not sample from weight version {version} as it claims: its token "
                    f"log-probabilities differ from the learner's by {total / tokens:.2e} nats on average over "
                    f"{tokens} tokens, more than sync.max_mean_gap={tolerance:g}",
                    hint="a broadcast was skipped, incomplete or loaded wrongly; if the two engines merely compute in "
                    "low precision, raise sync.max_mean_gap (about 0.05 suits bfloat16)",
                )

    def sums(self) -> dict[str, float]:
        """The sums to be added over ranks; see ``metrics``."""
        return {
            "gap": sum(total for total, _ in self.by_actor.values()),
            "gap_tokens": self.tokens,
            "gap_kl": self.kl,
            "weights": self.weights,
            "weights_squared": self.weights_squared,
        }


def sync_metrics(sums: dict[str, float], maximum: float) -> dict[str, float]:
    """``sync/*`` metrics from sums over all ranks; empty when no token could be compared."""
    tokens = sums.get("gap_tokens", 0)
    if not tokens:
        return {}
    return {
        "sync/gap_mean": sums["gap"] / tokens,
        "sync/gap_max": maximum,
        "sync/kl": sums["gap_kl"] / tokens,
        "sync/ess": sums["weights"] ** 2 / (tokens * sums["weights_squared"]),
    }


def staleness_metrics(sums: dict[str, float]) -> dict[str, float]:
    """``staleness/*`` metrics from sums over all ranks, of tokens that were sampled from an earlier version."""
    tokens = sums.get("aged_gap_tokens", 0)
    if not tokens:
        return {}
    return {
        "staleness/kl": sums["aged_gap_kl"] / tokens,
        "staleness/ess": sums["aged_weights"] ** 2 / (tokens * sums["aged_weights_squared"]),
    }
