"""Packed rows for FlexAttention: which blocks of keys a block of queries sees, found without looking at every pair."""

from __future__ import annotations

import torch
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128


def make_block_mask(group: torch.Tensor, branch: torch.Tensor, block: int = BLOCK) -> BlockMask:
    """The mask of a packed row of N tokens, of whose ``group`` [N] and ``branch`` [N] (0: the prompt) neither falls.

    A token sees what stands before it in its group's prompt and in its own branch (branches count on from group to
    group). A block of queries is given the blocks of keys of which it sees something, exactly: intervals of groups and
    of branches meet, since both are in order along the row. ``create_block_mask`` would compare all N x N pairs.
    """
    tokens = len(group)

    def visible(batch, head, query, key):
        same = branch[key] == branch[query]
        return (key <= query) & (group[key] == group[query]) & (same | (branch[key] == 0))

    segment = torch.cumsum(_changes(group) | _changes(branch), 0)
    prompt_group = torch.where(branch == 0, group, -1)
    first_prompt = torch.where(branch == 0, group, tokens)
    own = _blocks(segment, block)
    groups, prompts = _blocks(group, block), (_blocks(first_prompt, block)[0], _blocks(prompt_group, block)[1])
    seen = _meet(own, own) | _meet(groups, prompts)
    seen &= torch.ones_like(seen).tril()
    indices = torch.argsort(seen.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
    return BlockMask.from_kv_blocks(
        seen.sum(-1, dtype=torch.int32)[None, None],
        indices[None, None].contiguous(),
        BLOCK_SIZE=block,
        mask_mod=visible,
        seq_lengths=(tokens, tokens),
    )


def _changes(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values.new_zeros(1, dtype=torch.bool), values[1:] != values[:-1]])


def _blocks(values: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the greatest value of each block, [blocks] each."""
    short = -len(values) % block
    rows = torch.cat([values, values[-1:].expand(short)]).view(-1, block)
    return rows.amin(-1), rows.amax(-1)


def _meet(queries: tuple[torch.Tensor, torch.Tensor], keys: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Whether two intervals have something in common, for each block of queries and of keys: bool [blocks, blocks]."""
    return (queries[0][:, None] <= keys[1]) & (keys[0] <= queries[1][:, None])
