"""The policy loss of a micro-batch: the provenance of each token selects its term."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.importance import importance_weights
from agrl.algorithms.sequence_ratio import sequence_log_ratio
from agrl.algorithms.surrogate import clipped_surrogate, log_ratio, shaped_expert
from agrl.relevance.records import Provenance

RATIOS = ("token", "sequence")


@dataclass(frozen=True)
class LossSettings:
    """The constants of the policy loss; names as in ``learner`` and ``guidance`` of the configuration."""

    ratio: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.28
    importance: str = "truncate"
    importance_cap: float = 2.0
    gamma: float = 0.1
    kl_coef: float = 0.0  # of the KL term in the loss; 0 where the KL is in the reward
    kl_estimator: str = "k3"
    entropy_coef: float = 0.0


@dataclass
class TokenBatch:
    """The response tokens of one micro-batch, flattened: every tensor is [tokens].

    ``logprobs`` carry the gradient; ``old_logprobs`` are the learner's before this batch's first update;
    ``rollout_logprobs`` the behaviour policy's; ``provenance`` int8, of ``agrl.relevance.records.Provenance``;
    ``sequences`` int64, which sequence of the micro-batch (from 0) a token is in; ``weights`` what a token weighs in
    the minibatch's loss (``Minibatch.weights``); ``entropy`` nats, with gradient where the loss has an entropy bonus;
    ``reference_logprobs`` only when the loss has a KL term.
    """

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    rollout_logprobs: torch.Tensor
    advantages: torch.Tensor
    provenance: torch.Tensor
    sequences: torch.Tensor
    weights: torch.Tensor
    entropy: torch.Tensor
    reference_logprobs: torch.Tensor | None = None


def policy_loss(batch: TokenBatch, settings: LossSettings) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Each token's share of the minibatch's loss [tokens] (to be summed) and summed statistics.

    ON_POLICY: clipped surrogate times the importance weight. TRANSFER: clipped surrogate against the learner's own old
    log-probabilities, no weight. EXPERT: shaped, no clip, token by token whatever ``ratio`` is. MASKED: exactly 0. The
    KL term and the entropy bonus are over sampled tokens (ON_POLICY and TRANSFER), those with weight 0 included.
    """
    on_policy = batch.provenance == Provenance.ON_POLICY
    expert = batch.provenance == Provenance.EXPERT
    sampled = on_policy | (batch.provenance == Provenance.TRANSFER)
    zero = torch.zeros_like(batch.logprobs)

    ratio = _log_ratio(batch, batch.logprobs, batch.old_logprobs, settings.ratio).exp()
    surrogate = clipped_surrogate(ratio, batch.advantages, settings.clip_low, settings.clip_high)
    mismatch = _log_ratio(batch, batch.old_logprobs, batch.rollout_logprobs, settings.ratio)
    importance = importance_weights(mismatch, settings.importance, settings.importance_cap)
    surrogate = torch.where(on_policy, surrogate * importance, surrogate)
    shaped = shaped_expert(batch.logprobs, batch.advantages, settings.gamma)
    loss = torch.where(sampled, surrogate, torch.where(expert, shaped, zero))

    statistics = _statistics(batch, settings, sampled, ratio.detach())
    if settings.importance == "mask":
        statistics |= {"on_policy": on_policy.sum(), "masked": (on_policy & (importance == 0)).sum()}
    if settings.kl_coef > 0:
        if batch.reference_logprobs is None:
            raise ValueError("kl_coef > 0 needs reference_logprobs")
        kl = torch.where(sampled, kl_estimate(batch.logprobs, batch.reference_logprobs, settings.kl_estimator), zero)
        loss = loss + settings.kl_coef * kl
        statistics["kl"] = kl.detach().sum()
    if settings.entropy_coef > 0:
        loss = loss - settings.entropy_coef * torch.where(sampled, batch.entropy, zero)
    return loss * batch.weights, statistics


def _log_ratio(batch: TokenBatch, logprobs: torch.Tensor, others: torch.Tensor, level: str) -> torch.Tensor:
    """Ratio and importance weight live on one level: a sequence that has one ratio has one weight."""
    if level == "token":
        return log_ratio(logprobs, others)
    if level == "sequence":
        return sequence_log_ratio(logprobs, others, batch.sequences, batch.provenance != Provenance.MASKED)
    raise ValueError(f"unknown ratio {level!r}; one of {', '.join(RATIOS)}")


@torch.no_grad()
def _statistics(
    batch: TokenBatch, settings: LossSettings, sampled: torch.Tensor, ratio: torch.Tensor
) -> dict[str, torch.Tensor]:
    # A token is clipped when the clip decides its loss: the ratio has already gone the advantage's way too far.
    clipped = torch.where(batch.advantages > 0, ratio > 1 + settings.clip_high, ratio < 1 - settings.clip_low)
    return {
        "sampled": sampled.sum(),
        "ratio": (ratio * sampled).sum(),
        "clipped": (clipped & sampled & (batch.advantages != 0)).sum(),
    }
