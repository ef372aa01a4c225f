"""An engine's memory: the parts fill what it may use, and no block is counted that does not fit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.config.compose import load_config
from agrl.models.engine_memory import ADAPTER_RANKS, cache_blocks, engine_memory
from tests.unit.models.test_memory import LARGE

CONFIG = load_config(["experiment=agrl_tiny", "model.path=none", "model.dtype=bfloat16"])
GPU = 80 * 2**30


def rollout(**keys):
    return replace(CONFIG, rollout=replace(CONFIG.rollout, **keys))


@given(st.floats(0.3, 1.0), st.sampled_from([1, 2, 4, 8, 16]))
def test_an_engine_fills_its_share_of_a_gpu_and_no_more(share, shards):
    found = engine_memory(LARGE, rollout(gpu_memory_utilization=share, tensor_parallel=shards), GPU)
    assert found.limit == int(GPU * share)
    assert found.cache == 0 or found.peak == found.limit
    heads = max(1, LARGE.kv_heads // shards)
    assert found.tokens * 2 * LARGE.layers * heads * LARGE.head_dim * 2 <= found.cache
    alone = engine_memory(LARGE, rollout(gpu_memory_utilization=share), GPU)
    assert found.tokens >= alone.tokens and found.weights <= alone.weights


def test_a_gpu_too_small_for_the_weights_leaves_no_cache():
    found = engine_memory(LARGE, rollout(gpu_memory_utilization=0.85), 16 * 2**30)
    assert found.cache == 0 and found.sequences == 0 and found.fixed > found.limit


@given(st.integers(0, 2**36), st.sampled_from([16, 32]), st.sampled_from([1, 2, 8, 16]), st.sampled_from([2, 4]))
def test_blocks_fit_and_one_more_would_not(cache, block, shards, size):
    found = cache_blocks(LARGE, cache, block, shards, size)
    whole = 2 * block * max(1, LARGE.kv_heads // shards) * LARGE.head_dim * size * LARGE.layers
    assert found * whole <= cache < (found + 1) * whole


@pytest.mark.parametrize("rank", [1, 8, 9, 64])
def test_room_for_adapters_is_of_a_rank_that_vllm_has(rank):
    adapted = replace(LARGE, lora_rank=rank, adapters=rank * 1_000_000)
    found = engine_memory(adapted, rollout(), GPU).adapters
    assert found == 2_000_000 * next(r for r in ADAPTER_RANKS if r >= rank)


def test_a_sequence_takes_whole_blocks():
    config = replace(rollout(kv_cache_gib=1.0), task=replace(CONFIG.task, max_prompt_tokens=30, max_response_tokens=3))
    found = engine_memory(LARGE, config)
    assert found.limit == 0 and found.cache == 2**30 and found.tokens % 32 == 0
    assert found.sequences == found.tokens / 64
