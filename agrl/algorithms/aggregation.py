"""From losses of tokens to the loss of a minibatch: what each token weighs. Pure."""

from __future__ import annotations

import numpy as np

AGGREGATIONS = ("token", "sequence", "constant")


def token_weights(lengths: np.ndarray, aggregation: str, limit: int) -> np.ndarray:
    """The weight of every token of each of N responses with ``lengths`` int [N] (>= 1) tokens: float64 [N].

    The minibatch's loss is the weighted sum of its tokens' losses:

    - token: the mean over all tokens (DAPO, arXiv 2503.14476, eq. 8); long responses have more say;
    - sequence: the mean over a response's tokens, then over responses (GRPO, arXiv 2402.03300, eq. 3);
    - constant: the sum over tokens, by responses times ``limit``, the longest response there can be (Dr.GRPO, arXiv
      2503.20783): the same gradient for a token whatever the lengths are.

    Raises ValueError on an unknown aggregation.
    """
    lengths = np.asarray(lengths, float)
    if aggregation == "token":
        return np.full(len(lengths), 1 / max(lengths.sum(), 1))
    if aggregation == "sequence":
        return 1 / (len(lengths) * lengths)
    if aggregation == "constant":
        return np.full(len(lengths), 1 / (max(len(lengths), 1) * limit))
    raise ValueError(f"unknown aggregation {aggregation!r}; one of {', '.join(AGGREGATIONS)}")
