"""Sequences packed in one row without padding, a prompt that several of them share standing there once.

The row is ``prompt | r1 | ... | rG | next group ...``: everything that works token by token (embedding, norms, MLP)
sees no padding and no token twice; only the attention function knows the layout. A response attends to its prompt and,
causally, to itself; its positions continue from the prompt's end. So the forward and backward pass of a prompt happen
once a group, and a sequence that shares its prompt with no other is ordinary packing: a group of one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from agrl.errors import ModelError
from agrl.models.logprobs import SHARED_PROMPTS, Batch, PolicyModel, pad_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")  # they change which keys count, and how much
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # nats; 0.1 in lower precision


@dataclass
class SharedPrompts:
    """Who attends to whom in a row of N tokens; all index tensors int64, into the row.

    ``trunks`` [S, L]: a group's prompt, or a whole sequence that shares its prompt with none; causal attention.
    ``branches`` [R, T]: the responses under shared prompts, which attend to ``keys`` [R, P + T], prompt and response,
    where ``visible`` bool [R, 1, T, P + T]. Shorter ones are filled up with index 0. ``where`` [N]: the place of each
    token of the row among the results, those of the trunks [S * L] before those of the branches [R * T].
    """

    trunks: torch.Tensor
    branches: torch.Tensor
    keys: torch.Tensor
    visible: torch.Tensor
    where: torch.Tensor

    def to(self, device: torch.device) -> SharedPrompts:
        return SharedPrompts(*(getattr(self, field.name).to(device) for field in fields(self)))


def pack_batch(prompts: list[np.ndarray], responses: list[np.ndarray]) -> Batch:
    """Lay out prompts and responses (lists of int [P_i] and [T_i], at least one token each) as one row.

    Sequences with an equal prompt share it; ``predictors`` and ``targets`` keep the order of the arguments.
    """
    groups: dict[bytes, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt.astype(np.int64).tobytes(), []).append(i)
    ids, positions, trunks, branches, end = [], [], [], [], 0
    predictors: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for members in groups.values():
        begin, length = end, len(prompts[members[0]])
        ids.append(prompts[members[0]])
        positions.append(np.arange(length))
        end += length
        for i in members:
            own = np.arange(end, end + len(responses[i]))
            predictors[i] = np.concatenate([[begin + length - 1], own[:-1]])
            ids.append(responses[i])
            positions.append(length + np.arange(len(own)))
            if len(members) > 1:
                branches.append((end, len(own), begin, length))
            end += len(own)
        trunks.append((begin, length if len(members) > 1 else end - begin))
    row = [torch.from_numpy(np.concatenate(part).astype(np.int64)) for part in (ids, positions, predictors, responses)]
    return Batch(row[0][None], row[2], row[3], row[1][None], _layout(np.array(trunks), np.array(branches), end))


def _layout(trunks: np.ndarray, branches: np.ndarray, tokens: int) -> SharedPrompts:
    """From spans: ``trunks`` [S, 2] of begin and length, ``branches`` [R, 4] of these and of the prompt's."""
    own, prompt = np.hsplit(branches.reshape(-1, 4), 2)
    trunk, trunk_real = _rows(trunks)
    branch, branch_real = _rows(own)
    before, before_real = _rows(prompt)
    count, width = branch.shape
    causal = np.broadcast_to(np.tri(width, dtype=bool), (count, width, width))
    seen = np.broadcast_to(before_real[:, None], (count, width, before.shape[1]))
    where = np.empty(tokens, np.int64)
    real = np.concatenate([trunk_real.ravel(), branch_real.ravel()])
    where[np.concatenate([trunk.ravel(), branch.ravel()])[real]] = np.flatnonzero(real)
    keys, visible = np.concatenate([before, branch], 1), np.concatenate([seen, causal], 2)[:, None]
    return SharedPrompts(*(torch.from_numpy(array) for array in (trunk, branch, keys, visible, where)))


def _rows(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of each span (begin, length) as a row filled up with 0, and which are real: [rows, longest] each."""
    begin, length = spans.astype(np.int64).T[:, :, None]
    columns = np.arange(length.max(initial=0))
    real = columns < length
    return np.where(real, begin + columns, 0), real


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

    Without ``shared_prompts`` it is plain causal attention over the rows of a padded batch. Two batched calls serve all
    groups: gathering costs less than a call for each. Raises ModelError for attention that is more than a softmax.
    """
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ModelError(f"{type(module).__name__} attends with {name}, which packed prompts cannot take")
    options = {"scale": scaling, "dropout_p": dropout}
    if shared_prompts is None:
        return _attend(query, key, value, None, options), None
    layout, row = shared_prompts, [x[0].transpose(0, 1) for x in (query, key, value)]
    q, k, v = (_take(x, layout.trunks) for x in row)
    results = [_attend(q, k, v, None, options).flatten(0, 1)]
    if len(layout.branches):
        q, k, v = (_take(x, i) for x, i in zip(row, (layout.branches, layout.keys, layout.keys), strict=True))
        results.append(_attend(q, k, v, layout.visible, options).flatten(0, 1))
    return torch.cat(results).index_select(0, layout.where)[None], None


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor | None, options: dict[str, float | None]
) -> torch.Tensor:
    """``q`` [R, H, T, D] attends to ``k`` and ``v`` [R, K, M, D], causally or where ``visible``: [R, T, H, D].

    Under a mask the query heads of one key head become further query positions: the fast kernels of CUDA take either
    a mask or grouped heads.
    """
    heads, shared = q.shape[1], q.shape[1] // k.shape[1]
    if visible is None:
        out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared > 1, **options)
    else:
        folded, mask = q.reshape(len(q), k.shape[1], -1, q.shape[-1]), visible.repeat(1, 1, shared, 1)
        out = scaled_dot_product_attention(folded, k, v, attn_mask=mask, **options)
        out = out.reshape(len(q), heads, -1, out.shape[-1])
    return out.transpose(1, 2)


def _take(row: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Tokens ``index`` [R, T] of ``row`` [N, H, D]: [R, H, T, D]."""
    return row.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def share_prompts(lm: PreTrainedModel) -> str:
    """Make ``lm`` take packed batches too. Returns "", or why it cannot: then it stays as it was.

    Models differ in more than their configuration tells, so a small batch is tried in both layouts.
    """
    from transformers import AttentionInterface

    other = set(getattr(lm.config, "layer_types", None) or ()) - {"full_attention"}
    if other:
        return f"it has layers of {', '.join(sorted(other))}"
    AttentionInterface.register(SHARED_PROMPTS, shared_prompt_attention)
    before, expected = lm.config._attn_implementation, _probe(lm, pad_batch)
    lm.set_attn_implementation(SHARED_PROMPTS)
    if lm.config._attn_implementation != SHARED_PROMPTS:
        return "its attention cannot be replaced"
    try:
        gap = (_probe(lm, pack_batch) - expected).abs().mean().item()
        reason = "" if gap <= PROBE_TOLERANCE.get(lm.dtype, 0.1) else f"its log-probabilities change by {gap:.1e} nats"
    except ModelError as error:
        reason = str(error)
    if reason:
        lm.set_attn_implementation(before)
    return reason


@torch.no_grad()
def _probe(lm: PreTrainedModel, lay_out) -> torch.Tensor:
    generator = np.random.default_rng(0)
    draw = lambda n: generator.integers(0, lm.config.vocab_size, n)  # noqa: E731
    prompt = draw(7)
    batch = lay_out([prompt, prompt, draw(4), prompt], [draw(n) for n in (3, 5, 4, 1)])
    training = lm.training
    found, _ = PolicyModel(lm.eval())(batch.to(lm.device))
    lm.train(training)
    return found
