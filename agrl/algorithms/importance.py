"""Correction of the mismatch between the engine that sampled and the learner that trains: one weight a token."""

from __future__ import annotations

import torch

IMPORTANCES = ("truncate", "mask", "none")


def importance_weights(log_mismatch: torch.Tensor, kind: str, cap: float) -> torch.Tensor:
    """Weights w from ``log_mismatch`` = log(pi_learner_old / pi_rollout) [tokens]; detached, [tokens].

    - truncate: min(w, cap): bounded variance at the price of some bias (truncated importance sampling, as in IMPALA,
      arXiv 1802.01561, applied to two engines with the same weights);
    - mask: w inside [1 / cap, cap], else 0 (IcePop, arXiv 2510.18855): where the engines disagree so much, the sample
      says nothing;
    - none: 1.

    Raises ValueError on an unknown kind.
    """
    weights = log_mismatch.detach().exp()
    if kind == "truncate":
        return weights.clamp(max=cap)
    if kind == "mask":
        return torch.where((weights <= cap) & (weights >= 1 / cap), weights, torch.zeros_like(weights))
    if kind == "none":
        return torch.ones_like(weights)
    raise ValueError(f"unknown importance correction {kind!r}; one of {', '.join(IMPORTANCES)}")
