"""Per-token estimators of KL(policy || reference) from samples of the policy (Schulman, "Approximating KL", 2020)."""

from __future__ import annotations

import torch


def kl_estimate(logprobs: torch.Tensor, reference_logprobs: torch.Tensor, estimator: str) -> torch.Tensor:
    """k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d, with d = log(reference / policy). All [tokens], nats.

    k1 and k3 are unbiased as values; as a loss term, k2 has the right expected gradient and k1's is zero in
    expectation, which is why configurations put k2 or k3 in the loss. Raises ValueError on an unknown estimator.
    """
    d = reference_logprobs - logprobs
    if estimator == "k1":
        return -d
    if estimator == "k2":
        return d.square() / 2
    if estimator == "k3":
        return d.clamp(max=20.0).exp() - 1 - d
    raise ValueError(f"unknown KL estimator {estimator!r}; one of k1, k2, k3")
