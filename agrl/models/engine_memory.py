"""What a rollout engine takes of one GPU, part by part, and how many sequences it holds (docs/placement.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agrl.config.schema import Config
from agrl.models.architecture import BYTES, Architecture


@dataclass(frozen=True)
class EngineMemory:
    """Bytes of one tensor-parallel shard of an engine.

    ``workspace``: activations of the largest batch, what vLLM finds when it tries one. ``cache``: the KV cache, 0 where
    nothing is left for it. ``adapters``: room for low-rank updates. ``sequences``: of task.max_prompt_tokens +
    task.max_response_tokens that the cache of all shards together holds; ``tokens``: that it holds. ``limit``: what
    rollout.gpu_memory_utilization leaves of the GPU, 0 on a CPU.
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
        return self.fixed + self.cache

    def parts(self) -> dict[str, int]:
        """Name -> bytes, in the order of the table."""
        return {name: value for name, value in asdict(self).items() if name not in ("tokens", "sequences", "limit")}


def engine_memory(architecture: Architecture, config: Config, gpu_bytes: int = 0) -> EngineMemory:
    """Bytes of an engine of ``architecture`` under ``config`` on a GPU of ``gpu_bytes``; 0: on a CPU."""
    a, shards, size = architecture, config.rollout.tensor_parallel, BYTES[config.model.dtype]
    longest = config.task.max_prompt_tokens + config.task.max_response_tokens
    weights, workspace = a.parameters * size // shards, max(8192, longest) * a.hidden * size * 4
    limit = int(gpu_bytes * config.rollout.gpu_memory_utilization)
    cache = max(0, limit - weights - workspace) if gpu_bytes else int(config.rollout.kv_cache_gib * 2**30)
    per_token = a.kv_bytes(config.model.dtype) // min(shards, a.kv_heads)
    tokens = cache // per_token
    return EngineMemory(weights, a.adapters * size, workspace, cache, tokens, tokens / longest, limit)
