"""Made-up responses with everything that a loss looks at, and the batches that they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agrl.algorithms.aggregation import token_weights
from agrl.algorithms.batch import TrainSequence
from agrl.algorithms.policy_loss import TokenBatch
from agrl.relevance.records import Provenance


@dataclass
class Response:
    """All tensors float64 [T]; ``new`` and ``entropy`` are leaves that gradients are asked for."""

    new: torch.Tensor
    old: torch.Tensor
    rollout: torch.Tensor
    reference: torch.Tensor
    entropy: torch.Tensor
    advantage: float
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.new)


def responses(lengths, seed=0, provenances=(Provenance.ON_POLICY,), spread=0.2) -> list[Response]:
    """One response a length; ``spread`` is the deviation of the log-ratios, in nats."""
    generator = torch.Generator().manual_seed(seed)

    def near(centre):
        noise = torch.randn(len(centre), generator=generator, dtype=torch.float64)
        return (centre + spread * noise).clamp(max=-1e-3)

    found = []
    for i, length in enumerate(lengths):
        old = -3 * torch.rand(length, generator=generator, dtype=torch.float64) - 0.01
        advantage = torch.randn(1, generator=generator).item()
        entropy = torch.rand(length, generator=generator, dtype=torch.float64).requires_grad_()
        new, rollout, reference = near(old).requires_grad_(), near(old), near(old)
        provenance = provenances[i % len(provenances)]
        found.append(Response(new, old, rollout, reference, entropy, advantage, provenance))
    return found


def token_batch(items: list[Response], aggregation="token", limit=16, weights=None) -> TokenBatch:
    """The responses flattened; ``weights`` one a response, those of the whole when not given."""
    lengths = torch.tensor([len(r) for r in items])
    flat = lambda name: torch.cat([getattr(r, name) for r in items])  # noqa: E731
    each = lambda values, dtype: torch.tensor(values, dtype=dtype).repeat_interleave(lengths)  # noqa: E731
    weights = token_weights(lengths.numpy(), aggregation, limit) if weights is None else weights
    return TokenBatch(
        logprobs=flat("new"),
        old_logprobs=flat("old"),
        rollout_logprobs=flat("rollout"),
        advantages=each([r.advantage for r in items], torch.float64),
        provenance=each([int(r.provenance) for r in items], torch.int8),
        sequences=each(list(range(len(items))), torch.int64),
        weights=each(list(weights), torch.float64),
        entropy=flat("entropy"),
        reference_logprobs=flat("reference"),
    )


def gradients(loss: torch.Tensor, items: list[Response]) -> torch.Tensor:
    """d loss / d new of every token, concatenated; 0 where the loss does not depend on it."""
    found = torch.autograd.grad(loss, [r.new for r in items], allow_unused=True)
    return torch.cat([torch.zeros(len(r)).double() if g is None else g for g, r in zip(found, items, strict=True)])


def train_sequences(lengths) -> list[TrainSequence]:
    """Sequences of prompts (one token longer than the response) and responses of these lengths."""
    ids = lambda n: np.zeros(n, np.int32)  # noqa: E731
    return [TrainSequence(ids(n + 1), ids(n), np.zeros(n, np.float32)) for n in lengths]
