"""Log-probabilities of response tokens: the one forward pass that every loss is built on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

LOGIT_ELEMENTS = 1 << 25
"""At most this many logits exist at once (128 MiB in float32), whatever the vocabulary and the batch."""


@dataclass
class PaddedBatch:
    """``input_ids`` int64 [B, L], padded on the right; ``rows``/``columns`` int64 [tokens] are the positions whose
    hidden state predicts each response token; ``targets`` int64 [tokens] are the response tokens, row by row.

    Padding stands after every real token, so under causal attention no mask is needed.
    """

    input_ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> PaddedBatch:
        return PaddedBatch(*(getattr(self, name).to(device) for name in ("input_ids", "rows", "columns", "targets")))


def pad_batch(prompts: list[np.ndarray], responses: list[np.ndarray], pad_id: int = 0) -> PaddedBatch:
    """Lay out prompts and responses (lists of int [P_i] and [T_i], at least one token each) as a PaddedBatch."""
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    ids = np.full((len(prompts), width), pad_id, np.int64)
    rows, columns = [], []
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[i, : len(prompt)] = prompt
        ids[i, len(prompt) : len(prompt) + len(response)] = response
        rows.append(np.full(len(response), i))
        columns.append(np.arange(len(prompt) - 1, len(prompt) + len(response) - 1))
    flat = [torch.from_numpy(np.concatenate(parts).astype(np.int64)) for parts in (rows, columns, responses)]
    return PaddedBatch(torch.from_numpy(ids), *flat)


class PolicyModel(nn.Module):
    """A causal LM whose forward pass gives response log-probabilities instead of logits.

    Wrapping it lets a training engine hook one module, and keeps full-vocabulary logits from materialising.
    """

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(
        self, batch: PaddedBatch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(logprobs, entropy)``, float32 [tokens] each, nats, of the tempered distribution.

        The entropy is detached unless ``entropy_gradient``: its gradient keeps another whole distribution a token.
        """
        hidden = self.lm.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        hidden = hidden[batch.rows, batch.columns]
        head = self.lm.get_output_embeddings()
        chunk = max(1, LOGIT_ELEMENTS // self.lm.config.vocab_size)
        parts = []
        for begin in range(0, max(len(hidden), 1), chunk):
            part = slice(begin, begin + chunk)
            args = (head, hidden[part], batch.targets[part], temperature, entropy_gradient)
            whole = len(hidden) <= chunk or not torch.is_grad_enabled()
            parts.append(_head_logprobs(*args) if whole else checkpoint(_head_logprobs, *args, use_reentrant=False))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _head_logprobs(
    head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
    return logprobs, entropy
