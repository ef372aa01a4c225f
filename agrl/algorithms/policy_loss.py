"""The policy loss of a micro-batch: the provenance of each token selects its term."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.surrogate import clipped_surrogate, log_ratio, shaped_expert, truncated_importance
from agrl.relevance.records import Provenance


@dataclass(frozen=True)
class LossSettings:
    """The constants of the policy loss; names as in ``learner`` and ``guidance`` of the configuration."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    importance_cap: float = 2.0  # 0: no correction
    gamma: float = 0.1
    kl_coef: float = 0.0
    kl_estimator: str = "k3"


@dataclass
class TokenBatch:
    """The response tokens of one micro-batch, flattened: every tensor is [tokens].

    ``logprobs`` carry the gradient; ``old_logprobs`` are the learner's before this batch's first update;
    ``rollout_logprobs`` the behaviour policy's; ``provenance`` int8, of ``agrl.relevance.records.Provenance``;
    ``reference_logprobs`` only when the loss has a KL term.
    """

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    rollout_logprobs: torch.Tensor
    advantages: torch.Tensor
    provenance: torch.Tensor
    reference_logprobs: torch.Tensor | None = None


def policy_loss(batch: TokenBatch, settings: LossSettings) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Per-token loss [tokens] (to be summed and divided by the *global* token count) and summed statistics.

    ON_POLICY: clipped surrogate times the truncated importance weight. TRANSFER: clipped surrogate against the
    learner's own old log-probabilities, no weight. EXPERT: shaped, no clip. MASKED: exactly 0.
    """
    on_policy = batch.provenance == Provenance.ON_POLICY
    expert = batch.provenance == Provenance.EXPERT
    sampled = on_policy | (batch.provenance == Provenance.TRANSFER)

    surrogate = clipped_surrogate(
        batch.logprobs, batch.old_logprobs, batch.advantages, settings.clip_low, settings.clip_high
    )
    if settings.importance_cap > 0:
        weight = truncated_importance(batch.old_logprobs, batch.rollout_logprobs, settings.importance_cap)
        surrogate = torch.where(on_policy, surrogate * weight, surrogate)
    shaped = shaped_expert(batch.logprobs, batch.advantages, settings.gamma)
    zero = torch.zeros_like(surrogate)
    loss = torch.where(sampled, surrogate, torch.where(expert, shaped, zero))

    statistics = _statistics(batch, settings, sampled)
    if settings.kl_coef > 0:
        if batch.reference_logprobs is None:
            raise ValueError("kl_coef > 0 needs reference_logprobs")
        kl = torch.where(sampled, kl_estimate(batch.logprobs, batch.reference_logprobs, settings.kl_estimator), zero)
        loss = loss + settings.kl_coef * kl
        statistics["kl"] = kl.detach().sum()
    return loss, statistics


@torch.no_grad()
def _statistics(batch: TokenBatch, settings: LossSettings, sampled: torch.Tensor) -> dict[str, torch.Tensor]:
    ratio = log_ratio(batch.logprobs, batch.old_logprobs).exp()
    # A token is clipped when the clip decides its loss: the ratio has already gone the advantage's way too far.
    clipped = torch.where(batch.advantages > 0, ratio > 1 + settings.clip_high, ratio < 1 - settings.clip_low)
    return {
        "sampled": sampled.sum(),
        "ratio": (ratio * sampled).sum(),
        "clipped": (clipped & sampled & (batch.advantages != 0)).sum(),
    }
