"""Log-probabilities of response tokens: the one forward pass that every loss is built on."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from agrl.errors import ModelError
from agrl.models.layout import Batch

LOGIT_ELEMENTS = 1 << 25
"""At most this many logits exist at once (128 MiB in float32), whatever the vocabulary and the batch."""


SHARED_PROMPTS = "shared_prompts"
"""The attention function, and its keyword argument, of packed batches: see ``agrl.models.shared_prompt``."""


class PolicyModel(nn.Module):
    """A causal LM whose forward pass gives response log-probabilities instead of logits.

    Wrapping it lets a training engine hook one module, and keeps full-vocabulary logits from materialising.
    """

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(logprobs, entropy)``, float32 [tokens] each, nats, of the tempered distribution.

        The entropy is detached unless ``entropy_gradient``: its gradient keeps another whole distribution a token.
        Raises ModelError for a packed batch when the model was not prepared for it, since it would be computed wrongly.
        """
        layout = {}
        if batch.shared is not None:
            if self.lm.config._attn_implementation != SHARED_PROMPTS:
                raise ModelError("a packed batch needs a model prepared by share_prompts")
            layout = {"position_ids": batch.positions, SHARED_PROMPTS: batch.shared}
        hidden = self.lm.get_decoder()(input_ids=batch.input_ids, use_cache=False, **layout).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, batch.predictors)
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
