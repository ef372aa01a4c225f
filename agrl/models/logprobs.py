"""Log-probabilities of response tokens: the one forward pass that every loss is built on."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from agrl.errors import ModelError
from agrl.models.layout import Batch

LOGIT_ELEMENTS = 1 << 25
"""At most this many logits exist at once (128 MiB in float32), whatever the vocabulary and the batch."""


SHARED_PROMPTS = "shared_prompts"
"""The attention function, and its keyword argument, of packed batches: see ``agrl.models.shared_prompt``."""

FLEX_SHARED_PROMPTS = "flex_shared_prompts"


class PolicyModel(nn.Module):
    """A causal LM whose forward pass gives response log-probabilities instead of logits.

    Wrapping it lets a training engine hook one module, and keeps full-vocabulary logits from materialising.
    """

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm
        self.head = LogprobHead(lm.get_output_embeddings())

    def forward(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(logprobs, entropy)``, float32 [tokens] each, nats, of the tempered distribution.

        The entropy is detached unless ``entropy_gradient``: its gradient keeps another whole distribution a token.
        Raises ModelError for a packed batch that the model was not prepared for, since it would be computed wrongly.
        """
        layout = {}
        if batch.positions is not None:
            ready = self.lm.config._attn_implementation in (SHARED_PROMPTS, FLEX_SHARED_PROMPTS)
            if ready != (batch.shared is not None):
                raise ModelError("a row with shared prompts, and no other, is for a model prepared by share_prompts")
            layout = {"position_ids": batch.positions} | ({SHARED_PROMPTS: batch.shared} if ready else {})
        hidden = self.lm.get_decoder()(input_ids=batch.input_ids, use_cache=False, **layout).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, batch.predictors)
        return self.head(hidden, batch.targets, temperature, entropy_gradient)


class LogprobHead(nn.Module):
    """The model's output layer, with its own parameters, chunk by chunk of the tokens.

    One call of one module, however many chunks there are: ZeRO-3 gathers a weight when its module is called, and ranks
    whose batches need different numbers of chunks would otherwise wait for each other for ever.
    """

    def __init__(self, output: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = output.weight, getattr(output, "bias", None)
        self.chunk = max(1, LOGIT_ELEMENTS // output.weight.shape[0])  # tokens

    def forward(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``hidden`` [tokens, width] and ``targets`` int64 [tokens]; returns as PolicyModel does.

        The logits of a chunk are computed again in the backward pass, so that only one chunk's exist at once.
        """
        parts = []
        whole = len(hidden) <= self.chunk or not torch.is_grad_enabled()
        for begin in range(0, max(len(hidden), 1), self.chunk):
            part = slice(begin, begin + self.chunk)
            args = (hidden[part], targets[part], temperature, entropy_gradient)
            parts.append(self._logprobs(*args) if whole else checkpoint(self._logprobs, *args, use_reentrant=False))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _logprobs(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = linear(hidden, self.weight, self.bias).float()
        if temperature != 1.0:
            logits = logits / temperature
        return TokenLogprobs.apply(logits, targets, entropy_gradient)


class TokenLogprobs(torch.autograd.Function):
    """``(logprobs, entropy)`` [tokens] of ``targets`` under ``logits`` [tokens, vocabulary].

    Its gradient is written out, so that one tensor of that shape is kept and one made, where autograd has several:
    with l = log p, d l[t] / d logits = onehot(t) - p, and d entropy / d logits = -p (l + entropy).
    """

    @staticmethod
    def forward(ctx, logits, targets, entropy_gradient):
        logp = logits.log_softmax(-1)
        p = logp.exp()
        logprobs = logp.gather(-1, targets[:, None]).squeeze(-1)
        entropy = -(p * logp if entropy_gradient else logp.mul_(p)).sum(-1)
        ctx.save_for_backward(p, targets, *((logp, entropy) if entropy_gradient else ()))
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx, of_logprobs, of_entropy):
        p, targets, *about_entropy = ctx.saved_tensors
        gradient = p * -of_logprobs[:, None]
        gradient.scatter_add_(-1, targets[:, None], of_logprobs[:, None])
        if about_entropy:
            logp, entropy = about_entropy
            gradient -= p * (logp + entropy[:, None]) * of_entropy[:, None]
        return gradient, None, None
