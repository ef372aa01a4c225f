"""Group-relative advantages. Pure functions of rewards; invalid rewards take no part and get advantage 0."""

from __future__ import annotations

import numpy as np

ADVANTAGES = ("grpo", "dr_grpo", "rloo")
EPSILON = 1e-6


def group_advantages(rewards: np.ndarray, valid: np.ndarray, kind: str = "grpo") -> np.ndarray:
    """How much better each rollout is than the others of its group: ``rewards`` float [G], ``valid`` bool [G] ->
    float64 [G].

    - grpo: (r - mean) / std, the unbiased one (GRPO, arXiv 2402.03300, section 4.1.2);
    - dr_grpo: r - mean (Dr.GRPO, arXiv 2503.20783, section 3.2): no up-weighting of groups that nearly agree;
    - rloo: r - mean of the *others* (RLOO, arXiv 2402.14740): a baseline that a reward takes no part in is unbiased.

    Equal rewards, or fewer than two valid ones, give zeros. Raises ValueError on an unknown kind.
    """
    if kind not in ADVANTAGES:
        raise ValueError(f"unknown advantage {kind!r}; one of {', '.join(ADVANTAGES)}")
    rewards, valid = np.asarray(rewards, float), np.asarray(valid, bool)
    out = np.zeros_like(rewards)
    known, n = rewards[valid], int(valid.sum())
    if n < 2 or np.ptp(known) < 1e-9:
        return out
    # r_i - (sum of the others) / (n - 1) is n / (n - 1) times r_i - mean
    scale = {"grpo": 1 / (known.std(ddof=1) + EPSILON), "dr_grpo": 1.0, "rloo": n / (n - 1)}[kind]
    out[valid] = (known - known.mean()) * scale
    return out


def decomposed_advantages(values: np.ndarray, valid: np.ndarray, weights: np.ndarray, kind: str = "grpo") -> np.ndarray:
    """GDPO: every component normalised inside its group, then the weighted sum, before whitening over the batch.

    ``values`` float [G, C], ``valid`` bool [G, C], ``weights`` float [C], ``kind`` as in ``group_advantages``; returns
    float64 [G]. A component that is constant in the group, or valid for fewer than two responses, contributes nothing.
    """
    columns = [group_advantages(values[:, c], valid[:, c], kind) for c in range(values.shape[1])]
    return np.stack(columns, axis=1) @ np.asarray(weights, float) if columns else np.zeros(len(values))


def whiten(advantages: np.ndarray) -> np.ndarray:
    """Zero mean and unit standard deviation over the batch (GDPO's last step). float [N] -> float64 [N]."""
    advantages = np.asarray(advantages, float)
    if len(advantages) < 2 or np.ptp(advantages) < 1e-12:
        return np.zeros_like(advantages)
    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + EPSILON)
