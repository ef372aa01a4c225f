"""Attention over packed rows (``agrl.models.layout``): the one place in a model that must know the layout.

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
from agrl.models.layout import SharedPrompts, pack_batch, pad_batch
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

    Without ``shared_prompts`` it is plain causal attention over the rows of a padded batch. Two batched calls of SDPA
    serve all groups: gathering costs less than a call for each. Raises ModelError for attention that is more than a
    softmax.
    """
    _refuse(module, dropout, kwargs)
    if shared_prompts is None:
        return _attend(query, key, value, None, scaling), None
    rows, row = shared_prompts.rows, [x[0].transpose(0, 1) for x in (query, key, value)]
    q, k, v = (_take(x, rows.trunks) for x in row)
    results = [_attend(q, k, v, None, scaling).flatten(0, 1)]
    if len(rows.branches):
        q, k, v = (_take(x, i) for x, i in zip(row, (rows.branches, rows.keys, rows.keys), strict=True))
        results.append(_attend(q, k, v, rows.visible, scaling).flatten(0, 1))
    return torch.cat(results).index_select(0, rows.where)[None], None


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
        return _attend(query, key, value, None, scaling), None
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


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """``q`` [R, H, T, D] attends to ``k`` and ``v`` [R, K, M, D], causally or where ``visible``: [R, T, H, D].

    Under a mask the query heads of one key head become further query positions: the fast kernels of CUDA take either
    a mask or grouped heads.
    """
    heads, shared = q.shape[1], q.shape[1] // k.shape[1]
    if visible is None:
        out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared > 1, scale=scale)
    else:
        folded, mask = q.reshape(len(q), k.shape[1], -1, q.shape[-1]), visible.repeat(1, 1, shared, 1)
        out = scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=scale)
        out = out.reshape(len(q), heads, -1, out.shape[-1])
    return out.transpose(1, 2)


def _take(row: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Tokens ``index`` [R, T] of ``row`` [N, H, D]: [R, H, T, D]."""
    return row.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def share_prompts(lm: PreTrainedModel, flex: bool = False) -> str:
    """Make ``lm`` take packed batches too, with SDPA or FlexAttention.

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
        reason = gap(lm, probe(lm, pack_batch), expected)
    except ModelError as error:
        reason = str(error)
    if reason:
        lm.set_attn_implementation(before)
    return reason
