"""One ratio for a whole response (GSPO), where GRPO has one for every token."""

from __future__ import annotations

import torch

from agrl.algorithms.surrogate import LOG_RATIO_LIMIT


def sequence_log_ratio(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, sequences: torch.Tensor, counted: torch.Tensor
) -> torch.Tensor:
    """(1 / |y|) log(pi(y) / pi_old(y)) of the sequence that a token is in, given to each of its tokens; [tokens].

    GSPO, arXiv 2507.18071, eq. 7: the geometric mean of the token ratios, so that its size does not grow with length.
    ``sequences`` int64 [tokens]: the index (from 0) of each token's sequence; ``counted`` bool [tokens]: tokens outside
    it take no part in the mean. Clamped to +-20 nats, as ``log_ratio``. The gradient reaches every token of a sequence.
    """
    differences = torch.where(counted, logprobs - old_logprobs, torch.zeros_like(logprobs))
    empty = differences.new_zeros(int(sequences.max()) + 1)
    totals = empty.index_add(0, sequences, differences)
    sizes = empty.index_add(0, sequences, counted.to(empty.dtype)).clamp(min=1)
    return (totals / sizes).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)[sequences]
