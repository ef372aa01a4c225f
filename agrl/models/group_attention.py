"""Attention over packed rows (``agrl.models.layout``) on a CPU, with no copy of any prompt's keys.

What a response sees is its prompt and itself: two attentions, whose results merge by their log-sum-exps. All responses
of a group meet their prompt in one call, so nothing is masked and only the responses are gathered.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.autograd.function import once_differentiable

from agrl.models.layout import SharedPrompts

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class GroupAttention(torch.autograd.Function):
    """``q`` [N, H, D], ``k`` and ``v`` [N, K, D], a row of N tokens: [N, H, D].

    FlashAttention's gradient (arXiv 2307.08691, algorithm 2) looks at a query's output and log-sum-exp alone, so given
    those of the whole, each half's gradient is computed by itself, as in Ring Attention (arXiv 2310.01889).
    """

    @staticmethod
    def forward(ctx, q, k, v, shared: SharedPrompts, scale: float | None):
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        for queries, keys, causal in spans(shared):
            found, normaliser = FLASH(*map(heads, (q[queries], k[keys], v[keys])), 0.0, causal, scale=scale)
            out[queries], lse[queries] = found[0].transpose(0, 1), normaliser[0].T
        if len(shared.branch_spans):
            _add_own(q, k, v, out, lse, shared, scale)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.shared, ctx.scale = shared, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        for queries, keys, causal in spans(ctx.shared):
            row = [heads(x) for x in (gradient[queries], q[queries], k[keys], v[keys], out[queries])]
            found = FLASH_BACKWARD(*row, lse[queries].T[None], 0.0, causal, scale=ctx.scale)
            for total, part, where in zip((dq, dk, dv), found, (queries, keys, keys), strict=True):
                total[where] += part[0].transpose(0, 1)
        if len(ctx.shared.branch_spans):
            b = ctx.shared.branches
            row = [b.take(x) for x in (gradient, q, k, v, out)]
            row[0] = row[0].masked_fill(b.filler[..., None], 0)
            normaliser = b.take(lse[..., None])[..., 0].masked_fill(b.filler, torch.inf)
            found = FLASH_BACKWARD(*row, normaliser, 0.0, True, scale=ctx.scale)
            for total, part in zip((dq, dk, dv), found, strict=True):
                total.index_add_(0, b.tokens, b.untake(part))
        return dq, dk, dv, None, None


def spans(shared: SharedPrompts) -> Iterator[tuple[slice, slice, bool]]:
    """Every prompt with itself, causally, and the responses of a group with their prompt."""
    ends = [*shared.trunk_spans[1:, 0].tolist(), shared.tokens]
    for (begin, length), end in zip(shared.trunk_spans.tolist(), ends, strict=True):
        trunk = slice(begin, begin + length)
        yield trunk, trunk, True
        if end > trunk.stop:
            yield slice(trunk.stop, end), trunk, False


def heads(row: torch.Tensor) -> torch.Tensor:
    """[T, H, D] as [1, H, T, D]."""
    return row.transpose(0, 1)[None]


def _add_own(q, k, v, out, lse, shared: SharedPrompts, scale: float | None) -> None:
    """Merge into ``out`` [N, H, D] and ``lse`` [N, H] what each response sees of itself."""
    b = shared.branches
    found, normaliser = FLASH(*(b.take(x) for x in (q, k, v)), 0.0, True, scale=scale)
    found, own = b.untake(found), b.untake(normaliser[..., None])[..., 0]
    prompt = lse.index_select(0, b.tokens)
    whole = torch.logaddexp(prompt, own)
    share = [(part - whole).exp().to(out.dtype)[..., None] for part in (prompt, own)]
    out.index_copy_(0, b.tokens, out.index_select(0, b.tokens) * share[0] + found * share[1])
    lse.index_copy_(0, b.tokens, whole)
