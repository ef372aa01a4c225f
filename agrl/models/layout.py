"""How prompts and responses lie in a batch: padded, a row each, or packed in one, a prompt once for all that share it.

The packed row is ``prompt | r1 | ... | rG | next group ...``. A response attends to its prompt and, causally, to
itself; its positions continue from the prompt's end. A sequence that shares its prompt with no other is a group of one:
ordinary packing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask

from agrl.models.block_mask import make_block_mask


@dataclass(frozen=True)
class Rows:
    """A packed row taken apart for batched attention; all index tensors int64, into the row of N tokens.

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


@dataclass(frozen=True)
class SharedPrompts:
    """Who attends to whom in a packed row, in the two forms that attention functions take, made when first asked for.

    ``trunk_spans`` int [S, 2]: begin and length of each trunk; ``branch_spans`` int [R, 4]: begin and length of each
    branch, and of the prompt that it follows.
    """

    trunk_spans: np.ndarray
    branch_spans: np.ndarray
    tokens: int
    device: torch.device | str = "cpu"

    def to(self, device: torch.device) -> SharedPrompts:
        return replace(self, device=device)

    @cached_property
    def rows(self) -> Rows:
        """For batched calls of SDPA."""
        return Rows(*(torch.from_numpy(array).to(self.device) for array in _rows(self)))

    @cached_property
    def block_mask(self) -> BlockMask:
        """For one call of FlexAttention."""
        return make_block_mask(*(torch.from_numpy(array).to(self.device) for array in _owners(self)))


@dataclass
class Batch:
    """Prompts and responses laid out for a model: ``input_ids`` int64 [B, L].

    ``predictors`` int64 [tokens] are the places, in [B * L], whose hidden state predicts each response token;
    ``targets`` int64 [tokens] are the response tokens, sequence by sequence. ``positions`` int64 [B, L] count tokens
    from the start of a sequence, None: by the column; ``shared``: who attends to whom, None: causally along the row.
    """

    input_ids: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor | None = None
    shared: SharedPrompts | None = None

    def to(self, device: torch.device) -> Batch:
        parts = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if part is None else part.to(device) for part in parts))


def pad_batch(prompts: list[np.ndarray], responses: list[np.ndarray], pad_id: int = 0) -> Batch:
    """Lay out prompts and responses (lists of int [P_i] and [T_i], at least one token each) a row each.

    Padding stands after every real token, so under causal attention no mask is needed.
    """
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    ids = np.full((len(prompts), width), pad_id, np.int64)
    predictors = []
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[i, : len(prompt)] = prompt
        ids[i, len(prompt) : len(prompt) + len(response)] = response
        predictors.append(i * width + np.arange(len(prompt) - 1, len(prompt) + len(response) - 1))
    flat = [torch.from_numpy(np.concatenate(parts).astype(np.int64)) for parts in (predictors, responses)]
    return Batch(torch.from_numpy(ids), *flat)


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
    shared = SharedPrompts(np.array(trunks), np.array(branches, np.int64).reshape(-1, 4), end)
    return Batch(row[0][None], row[2], row[3], row[1][None], shared)


def _owners(shared: SharedPrompts) -> tuple[np.ndarray, np.ndarray]:
    """Of each token its group and its branch, 0 on a trunk, both counted along the row: int64 [N] each."""
    group, branch = np.zeros(shared.tokens, np.int64), np.zeros(shared.tokens, np.int64)
    group[shared.trunk_spans[1:, 0]] = 1
    for number, (begin, length) in enumerate(shared.branch_spans[:, :2]):
        branch[begin : begin + length] = number + 1
    return group.cumsum(), branch


def _rows(shared: SharedPrompts) -> tuple[np.ndarray, ...]:
    """The fields of ``Rows``."""
    own, prompt = np.hsplit(shared.branch_spans, 2)
    trunk, trunk_real = _indices(shared.trunk_spans)
    branch, branch_real = _indices(own)
    before, before_real = _indices(prompt)
    count, width = branch.shape
    causal = np.broadcast_to(np.tri(width, dtype=bool), (count, width, width))
    seen = np.broadcast_to(before_real[:, None], (count, width, before.shape[1]))
    where = np.empty(shared.tokens, np.int64)
    real = np.concatenate([trunk_real.ravel(), branch_real.ravel()])
    where[np.concatenate([trunk.ravel(), branch.ravel()])[real]] = np.flatnonzero(real)
    keys, visible = np.concatenate([before, branch], 1), np.concatenate([seen, causal], 2)[:, None]
    return trunk, branch, keys, visible, where


def _indices(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of each span (begin, length) as a row filled up with 0, and which are real: [rows, longest] each."""
    begin, length = spans.astype(np.int64).T[:, :, None]
    columns = np.arange(length.max(initial=0))
    real = columns < length
    return np.where(real, begin + columns, 0), real
