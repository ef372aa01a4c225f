"""Per-token policy losses, one function per provenance. Pure functions on tensors of one shape, [tokens]."""

from __future__ import annotations

import torch

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped here before exp, so that one absurd token cannot overflow a whole batch."""


def log_ratio(logprobs: torch.Tensor, old_logprobs: torch.Tensor) -> torch.Tensor:
    """log(pi / pi_old) per token, clamped to +-20 nats."""
    return (logprobs - old_logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def clipped_surrogate(ratio: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float) -> torch.Tensor:
    """max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)): PPO's loss with DAPO's asymmetric range.

    PPO: arXiv 1707.06347, eq. 7; clip-higher: DAPO, arXiv 2503.14476, eq. 10. All [tokens]; returns loss [tokens].
    ``ratio`` r = pi / pi_old is a token's own (GRPO) or its sequence's (GSPO). Used for ON_POLICY tokens, and for
    TRANSFER tokens with the learner's own old log-probabilities under the un-hinted prompt (HINT, arXiv 2510.09388).
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def shaped_expert(logprobs: torch.Tensor, advantages: torch.Tensor, gamma: float) -> torch.Tensor:
    """-A f(pi) with f(p) = p / (p + gamma), no clip: LUFFY's policy shaping (arXiv 2504.14945, eq. 6).

    The behaviour probability of an expert token is taken as 1, so the ratio is the policy's own probability; the
    shaping lifts the gradient of improbable tokens: d f / d log p = gamma p / (p + gamma)^2.
    """
    probability = logprobs.exp()
    return -advantages * probability / (probability + gamma)
