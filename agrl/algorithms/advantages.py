"""Group-relative advantages. Pure functions of rewards; invalid rewards take no part and get advantage 0."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-6


def group_advantages(rewards: np.ndarray, valid: np.ndarray, normalise_std: bool = True) -> np.ndarray:
    """GRPO (arXiv 2402.03300, eq. 3): reward minus the group's mean, over its standard deviation.

    ``rewards`` float [G], ``valid`` bool [G]; returns float64 [G]. Without ``normalise_std`` it is Dr.GRPO's
    (arXiv 2503.20783). The deviation is the unbiased one; equal rewards, or fewer than two valid ones, give zeros.
    """
    rewards, valid = np.asarray(rewards, float), np.asarray(valid, bool)
    out = np.zeros_like(rewards)
    if valid.sum() < 2:
        return out
    known = rewards[valid]
    centred = known - known.mean()
    if np.abs(centred).max() < 1e-9:
        return out
    out[valid] = centred / (known.std(ddof=1) + EPSILON) if normalise_std else centred
    return out


def decomposed_advantages(
    values: np.ndarray, valid: np.ndarray, weights: np.ndarray, normalise_std: bool = True
) -> np.ndarray:
    """GDPO: every component normalised inside its group, then the weighted sum, before whitening over the batch.

    ``values`` float [G, C], ``valid`` bool [G, C], ``weights`` float [C]; returns float64 [G]. A component that is
    constant in the group, or valid for fewer than two responses, contributes nothing.
    """
    columns = [group_advantages(values[:, c], valid[:, c], normalise_std) for c in range(values.shape[1])]
    return np.stack(columns, axis=1) @ np.asarray(weights, float) if columns else np.zeros(len(values))


def whiten(advantages: np.ndarray) -> np.ndarray:
    """Zero mean and unit standard deviation over the batch (GDPO's last step). float [N] -> float64 [N]."""
    advantages = np.asarray(advantages, float)
    if len(advantages) < 2 or np.ptp(advantages) < 1e-12:
        return np.zeros_like(advantages)
    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + EPSILON)
