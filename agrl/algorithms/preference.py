"""Losses on pairs of responses, one preferred to the other. Pure functions of sequence log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class PreferenceSettings:
    """The constants of the preference loss; names as in ``dpo`` of the configuration."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    sft_coef: float = 0.0


def dpo_loss(
    chosen_logps: torch.Tensor,
    rejected_logps: torch.Tensor,
    ref_chosen: torch.Tensor,
    ref_rejected: torch.Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    sft_coef: float = 0.0,
    chosen_tokens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Direct preference optimization: loss [pairs] (to be averaged over all pairs) and statistics summed over pairs.

    With m = beta (log pi/ref of the chosen - log pi/ref of the rejected) the loss is -log sigmoid(m) (DPO, arXiv
    2305.18290, eq. 7). ``label_smoothing`` e in [0, 0.5): -(1 - e) log sigmoid(m) - e log sigmoid(-m), for labels that
    are wrong with probability e (cDPO, Mitchell 2023). ``sft_coef`` adds that much of the chosen's negative
    log-likelihood per token, so that its probability does not fall together with the rejected's (RPO, arXiv
    2404.19733); it needs ``chosen_tokens``.

    All tensors [pairs]: log-probabilities summed over a response's tokens (nats), and the chosen's number of tokens.
    Raises ValueError when ``sft_coef`` is set without ``chosen_tokens``.
    """
    chosen_rewards, rejected_rewards = beta * (chosen_logps - ref_chosen), beta * (rejected_logps - ref_rejected)
    margins = chosen_rewards - rejected_rewards
    loss = -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)
    if sft_coef > 0:
        if chosen_tokens is None:
            raise ValueError("sft_coef > 0 needs chosen_tokens")
        loss = loss - sft_coef * chosen_logps / chosen_tokens
    return loss, {
        "reward_chosen": chosen_rewards.detach().sum(),
        "reward_rejected": rejected_rewards.detach().sum(),
        "reward_margin": margins.detach().sum(),
        "reward_accuracy": (margins.detach() > 0).sum(),
    }
