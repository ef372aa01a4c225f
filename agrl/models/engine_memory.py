"""What a rollout engine takes of one GPU, part by part, and how many sequences it holds (docs/placement.md).

The KV cache is cut into blocks as in PagedAttention (arXiv 2309.06180); what vLLM finds besides it when it tries a
batch is reckoned here from the same batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agrl.config.schema import Config
from agrl.models.architecture import BYTES, Architecture

ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for; smaller ones take it too
CPU_BLOCK, GPU_BLOCK = 32, 16  # tokens: the least of the CPU's attention, and what vLLM takes on a GPU
BATCH_TOKENS = 8192  # of one pass, or the longest sequence
GRAPHS = 1 << 30  # bytes: CUDA's context and vLLM's graphs, as its documentation expects them; not measured here


@dataclass(frozen=True)
class EngineMemory:
    """Bytes of one tensor-parallel shard of an engine.

    ``adapters``: room for low-rank updates. ``workspace``: activations and logits of the largest batch, which vLLM
    tries at its start, and on a GPU its context and graphs. ``cache``: the KV cache, 0 where nothing is left for it.
    ``tokens``: that the caches of all shards together hold; ``sequences``: of task.max_prompt_tokens +
    task.max_response_tokens. ``limit``: what rollout.gpu_memory_utilization leaves of the GPU, 0 on a CPU.
    """

    weights: int
    adapters: int
    workspace: int
    cache: int
    tokens: int
    sequences: float
    limit: int = 0

    @property
    def fixed(self) -> int:
        """What must fit beside the cache."""
        return self.weights + self.adapters + self.workspace

    @property
    def peak(self) -> int:
        """With the cache."""
        return self.fixed + self.cache

    def parts(self) -> dict[str, int]:
        """Name -> bytes, in the order of the table."""
        return {name: value for name, value in asdict(self).items() if name not in ("tokens", "sequences", "limit")}


def engine_memory(architecture: Architecture, config: Config, gpu_bytes: int = 0) -> EngineMemory:
    """Bytes of an engine of ``architecture`` under ``config`` on a GPU of ``gpu_bytes``; 0: on a CPU.

    There rollout.kv_cache_gib is the cache, and what vLLM packs for its kernels is not counted.
    """
    a, shards, size = architecture, config.rollout.tensor_parallel, BYTES[config.model.dtype]
    longest = config.task.max_prompt_tokens + config.task.max_response_tokens
    weights = ((a.parameters - a.small) // shards + a.small) * size  # norms are in every shard
    adapters = _adapter_room(a) * size
    workspace = _workspace(a, config, max(BATCH_TOKENS, longest), size) + (GRAPHS if gpu_bytes else 0)
    limit = int(gpu_bytes * config.rollout.gpu_memory_utilization)
    cache = max(0, limit - weights - adapters - workspace) if gpu_bytes else int(config.rollout.kv_cache_gib * 2**30)
    block = GPU_BLOCK if gpu_bytes else CPU_BLOCK
    blocks = cache_blocks(a, cache, block, shards, size)
    return EngineMemory(weights, adapters, workspace, cache, blocks * block, blocks / -(-longest // block), limit)


def cache_blocks(architecture: Architecture, cache: int, block: int, shards: int, size: int) -> int:
    """Blocks of ``block`` tokens in ``cache`` bytes of one shard: a key and a value a token, layer and head of it.

    Of fewer heads than shards each shard has one.
    """
    a = architecture
    page = 2 * block * max(1, a.kv_heads // shards) * a.head_dim * size  # of one layer
    return cache // page // a.layers


def _adapter_room(a: Architecture) -> int:
    """Numbers of one slot for low-rank updates, of the next rank that vLLM has; no part of it is taken as sharded."""
    if not a.lora_rank:
        return 0
    room = next((rank for rank in ADAPTER_RANKS if rank >= a.lora_rank), a.lora_rank)
    return a.adapters * room // a.lora_rank


def _workspace(a: Architecture, config: Config, tokens: int, size: int) -> int:
    """The largest layer's in- and outputs for a batch, and what sampling makes of a row of logits a sequence.

    Logits are there as they come, in float32, tempered, and as log-probabilities.
    """
    shards = config.rollout.tensor_parallel
    feed_forward = 3 * a.intermediate // shards
    attention = 2 * (a.heads + a.kv_heads) * a.head_dim // shards
    passing = tokens * size * (3 * a.hidden + max(feed_forward, attention))
    return passing + config.rollout.max_concurrent * a.vocabulary * (size + 3 * 4)
