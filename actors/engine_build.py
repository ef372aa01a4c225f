"""Starting a vLLM engine: the versions that work, and the settings that training needs."""

from __future__ import annotations

from typing import Any

from actors.generation import EngineSettings
from agrl.errors import ConfigError, ModelError
from agrl.models.engine_memory import ADAPTER_RANKS, BATCH_TOKENS, CPU_BLOCK
from agrl.models.paths import without_patterns

SUPPORTED_VLLM = ("0.25", "0.34")  # from, up to but not including; tested with 0.32


def check_version() -> None:
    """Raises ConfigError naming the installed vLLM and the supported range."""
    import vllm
    from packaging.version import Version

    low, high = SUPPORTED_VLLM
    if not Version(low) <= Version(vllm.__version__) < Version(high):
        raise ConfigError(
            f"vLLM {vllm.__version__} is installed; this version of AGRL works with {low} up to (not including) {high}",
            hint="install one of these, for example with `make setup`",
        )


def build_engine(path: str, model_path: str, settings: EngineSettings, on_cpu: bool) -> Any:
    """``path``: where the files of ``model_path`` are."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    device = (
        {
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
            "block_size": CPU_BLOCK,  # the shorter, the more of a short prompt is shared
            "enforce_eager": True,
            "enable_chunked_prefill": False,  # on a CPU, vLLM fails when it splits the prompt of a seeded request
        }
        if on_cpu
        else {"gpu_memory_utilization": settings.gpu_memory_utilization, "enable_sleep_mode": settings.sleeps}
    )
    options = dict(
        load_format="hf",  # left to itself, vLLM prefers Mistral's consolidated.safetensors to what the learner loads
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_concurrent,
        max_num_batched_tokens=max(BATCH_TOKENS, settings.max_model_len),
        tensor_parallel_size=settings.tensor_parallel,
        # in a placement group vLLM would ask Ray for places of its own
        distributed_executor_backend="mp" if settings.tensor_parallel > 1 else None,
        seed=settings.seed,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",  # of the distribution that was sampled from, at any temperature
        disable_log_stats=True,
        trust_remote_code=False,
        # new weights come between two steps, and must not come upon one that is under way
        async_scheduling=False if settings.unfinished else None,
        **device,
    )
    try:
        with without_patterns(path) as plain:
            args = EngineArgs(model=plain, **options)
            if settings.lora_rank and _takes_adapters(args):
                args.enable_lora, args.max_loras = True, 1
                args.max_lora_rank = next(rank for rank in ADAPTER_RANKS if rank >= settings.lora_rank)
            return LLMEngine.from_engine_args(args)
    except Exception as error:
        raise ModelError(
            f"vLLM cannot serve {model_path!r}: {error}",
            hint="the actor's log says more; task.max_*_tokens, rollout.max_concurrent and kv_cache_gib set its memory",
        ) from error


def _takes_adapters(args: Any) -> bool:
    """Whether vLLM serves low-rank updates of this model beside its weights."""
    from vllm.model_executor.models.interfaces import supports_lora

    config = args.create_model_config()
    return supports_lora(config.registry.resolve_model_cls(config.architectures, config)[0])
