"""How prompts and responses lie in a batch: padded, a row each, or in one row, with or without sharing prompts.

The row that shares them is ``prompt | r1 | ... | rG | next group ...``. A response attends to its prompt and, causally,
to itself; its positions continue from the prompt's end. A sequence that shares its prompt with no other is a group of
one: ordinary packing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask

from agrl.models.block_mask import make_block_mask


@dataclass(frozen=True)
class Branches:
    """The responses under shared prompts as a batch of R rows of T tokens, shorter ones filled up with token 0.

    ``index`` int64 [R, T], into the row of N tokens; ``filler`` bool [R, 1, T]; ``tokens`` int64 [n], those of all
    responses, and ``places`` int64 [n] where they stand in the batch.
    """

    index: torch.Tensor
    filler: torch.Tensor
    tokens: torch.Tensor
    places: torch.Tensor

    def take(self, row: torch.Tensor) -> torch.Tensor:
        """[N, H, D] -> [R, H, T, D]."""
        return row.index_select(0, self.index.flatten()).unflatten(0, self.index.shape).transpose(1, 2)

    def untake(self, batch: torch.Tensor) -> torch.Tensor:
        """[R, H, T, D] -> those of ``tokens`` [n, H, D]."""
        return batch.transpose(1, 2).flatten(0, 1).index_select(0, self.places)


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
    def branches(self) -> Branches:
        """For batched calls."""
        begin, length = self.branch_spans[:, :2].T[:, :, None]
        columns = np.arange(length.max(initial=0))
        real = columns < length
        index = np.where(real, begin + columns, 0)
        arrays = index, ~real[:, None], index[real], np.flatnonzero(real)
        return Branches(*(torch.from_numpy(array).to(self.device) for array in arrays))

    @cached_property
    def block_mask(self) -> BlockMask:
        """For one call of FlexAttention."""
        return make_block_mask(*(torch.from_numpy(array).to(self.device) for array in _owners(self)))


@dataclass
class Batch:
    """Prompts and responses laid out for a model: ``input_ids`` int64 [B, L].

    ``predictors`` int64 [tokens] are the places, in [B * L], whose hidden state predicts each response token;
    ``targets`` int64 [tokens] are the response tokens, sequence by sequence. ``positions`` int64 [B, L] count tokens
    from the start of a sequence, None: by the column. ``shared``: who attends to whom; None: causally, within a row of
    a padded batch and, where positions are given, from one position 0 to the next.
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
    return Batch(torch.from_numpy(ids), _concatenate(predictors), _concatenate(responses))


def pack_batch(prompts: list[np.ndarray], responses: list[np.ndarray]) -> Batch:
    """Lay out prompts and responses (lists of int [P_i] and [T_i], at least one token each) one after another."""
    ids, positions, predictors, end = [], [], [], 0
    for prompt, response in zip(prompts, responses, strict=True):
        length = len(prompt) + len(response)
        ids += [prompt, response]
        positions.append(np.arange(length))
        predictors.append(end + np.arange(len(prompt) - 1, length - 1))
        end += length
    row = [_concatenate(parts) for parts in (ids, predictors, responses, positions)]
    return Batch(row[0][None], row[1], row[2], row[3][None])


def share_batch(prompts: list[np.ndarray], responses: list[np.ndarray]) -> Batch:
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
    row = [_concatenate(parts) for parts in (ids, predictors, responses, positions)]
    shared = SharedPrompts(np.array(trunks), np.array(branches, np.int64).reshape(-1, 4), end)
    return Batch(row[0][None], row[1], row[2], row[3][None], shared)


LAYOUTS = {"shared": share_batch, "packed": pack_batch, "padded": pad_batch}
"""By the values of ``learner.packing``."""


def _concatenate(parts: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def _owners(shared: SharedPrompts) -> tuple[np.ndarray, np.ndarray]:
    """Of each token its group and its branch, 0 on a trunk, both counted along the row: int64 [N] each."""
    group, branch = np.zeros(shared.tokens, np.int64), np.zeros(shared.tokens, np.int64)
    group[shared.trunk_spans[1:, 0]] = 1
    for number, (begin, length) in enumerate(shared.branch_spans[:, :2]):
        branch[begin : begin + length] = number + 1
    return group.cumsum(), branch
