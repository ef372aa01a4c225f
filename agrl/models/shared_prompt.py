"""Attention over rows that share prompts (``agrl.models.layout``): the one place in a model that must know the layout.

Everything that works token by token (embedding, norms, MLP) sees no padding and no token twice, so the forward and
backward pass of a prompt happen once a group.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from agrl.errors import ModelError
from agrl.models.group_attention import GroupAttention
from agrl.models.layout import SharedPrompts, pad_batch, share_batch
from agrl.models.logprobs import FLEX_SHARED_PROMPTS, SHARED_PROMPTS
from agrl.models.probe import gap, probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")  # they change which keys count, and how much


def shared_prompt_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prompts: SharedPrompts | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: ``query`` [B, H, N, D], ``key``, ``value`` [B, K, N, D] -> [B, N, H, D].

    Without ``shared_prompts`` it is plain causal attention over the rows of a padded batch. Raises ModelError for
    attention that is more than a softmax.
    """
    _refuse(module, dropout, kwargs)
    if shared_prompts is None:
        return _causal(query, key, value, scaling), None
    row = [x[0].transpose(0, 1) for x in (query, key, value)]
    return GroupAttention.apply(*row, shared_prompts, scaling)[None], None


def flex_shared_prompt_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prompts: SharedPrompts | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """The same in one call of FlexAttention, without a copy of any key, for GPUs. On a CPU it has no gradient."""
    _refuse(module, dropout, kwargs)
    if shared_prompts is None:
        return _causal(query, key, value, scaling), None
    attend = _compiled_flex() if query.is_cuda else flex_attention
    out = attend(query, key, value, block_mask=shared_prompts.block_mask, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2), None


@cache
def _compiled_flex():
    return torch.compile(flex_attention, dynamic=True)  # rows differ in length


def _refuse(module: torch.nn.Module, dropout: float, kwargs: dict[str, object]) -> None:
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ModelError(f"{type(module).__name__} attends with {name}, which packed prompts cannot take")
    if dropout:
        raise ModelError(
            f"{type(module).__name__} drops attention at random, which makes ratios of probabilities random"
        )


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> torch.Tensor:
    """``q`` [B, H, N, D] attends causally to ``k`` and ``v`` [B, K, N, D]: [B, N, H, D]."""
    out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] > k.shape[1], scale=scale)
    return out.transpose(1, 2)


def share_prompts(lm: PreTrainedModel, flex: bool = False) -> str:
    """Make ``lm`` take shared prompts too, with ``GroupAttention`` (CPU) or FlexAttention (GPU).

    Returns "", or why it cannot: then it stays as it was. Models differ in more than their configuration tells, so a
    small batch is tried in both layouts.
    """
    from transformers import AttentionInterface

    name = FLEX_SHARED_PROMPTS if flex else SHARED_PROMPTS

    other = set(getattr(lm.config, "layer_types", None) or ()) - {"full_attention"}
    if other:
        return f"it has layers of {', '.join(sorted(other))}"
    AttentionInterface.register(name, flex_shared_prompt_attention if flex else shared_prompt_attention)
    before, expected = lm.config._attn_implementation, probe(lm, pad_batch)
    lm.set_attn_implementation(name)
    if lm.config._attn_implementation != name:
        return "its attention cannot be replaced"
    try:
        reason = gap(lm, probe(lm, share_batch), expected)
    except (ModelError, RuntimeError) as error:  # RuntimeError: FlexAttention could not be compiled
        reason = str(error)
    if reason:
        lm.set_attn_implementation(before)
    return reason
