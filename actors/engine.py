"""The one file that knows vLLM: grouped generation with log-probabilities, and new weights into a running engine.

vLLM is imported when an engine is built, so that the driver can name these classes without paying for it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from actors.engine_weights import check_adapters, check_held, none_missing, on_worker
from actors.generation import EngineSettings, Generation, GenerationRequest, Sampled, SamplingSettings
from agrl.errors import ActorError, ConfigError, DataError, ModelError, WeightSyncError
from agrl.models.engine_memory import ADAPTER_RANKS, BATCH_TOKENS, CPU_BLOCK
from agrl.models.files import files_of_the_model
from agrl.models.paths import without_patterns
from agrl.network import this_host
from agrl.transport.collective import Meeting
from agrl.transport.parcel import Parcel, is_adapter

SUPPORTED_VLLM = ("0.25", "0.34")  # from, up to but not including; tested with 0.32
SHARED_MEMORY = "/dev/shm"
KEEP_WEIGHTS, DISCARD_WEIGHTS = 1, 2  # vLLM's levels of sleep; both discard the KV cache


class RolloutEngine:
    """A vLLM engine in this process.

    Raises ConfigError for a vLLM outside the supported range, ModelError for a model that vLLM cannot serve.
    """

    def __init__(self, model_path: str, settings: EngineSettings) -> None:
        for key, value in settings.environment().items():
            os.environ.setdefault(key, value)
        import torch

        on_cpu = not torch.cuda.is_available()
        if on_cpu:  # compiling takes half a minute at start; an eager CPU engine needs none of it
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        _check_version()
        from agrl.models.tokens import load_tokenizer

        self.version = 0
        self._settings, self._model_path, self._calls = settings, model_path, 0
        self._tokenizer = load_tokenizer(model_path)
        self._broadcast: set[str] = set()  # the names in the last broadcast
        self._received, self._adapters_sent = set(), set()  # those in this one; in the last one of adapters
        self._buckets = 0  # that have come of this one
        self._adapter: Any = None  # vLLM's name of the adapters in use
        self._can_sleep = settings.sleeps and not on_cpu
        self._asleep: set[str] = set()
        self._sampled, self._told = 0, (0, time.monotonic())  # tokens so far; at the last ``gauges``, and when
        with files_of_the_model(model_path) as path:
            self._engine = _build(path, model_path, settings, on_cpu)
        gc.collect()
        gc.freeze()  # the collector need not walk vLLM's and torch's modules again and again while it generates

    def generate(self, requests: Sequence[GenerationRequest], sampling: SamplingSettings) -> Iterator[Generation]:
        """The requests' samples, each request as soon as its last sample is finished.

        Raises DataError for a prompt that leaves no room for a response. Closing the iterator drops what is unfinished.
        """
        self._calls += 1
        waiting: dict[str, tuple[int, int]] = {}  # vLLM's id -> request and sample
        outputs: list[dict[int, Any]] = [{} for _ in requests]
        seconds = 0.0
        try:
            for index, request in enumerate(requests):
                for sample in range(request.n):
                    engine_id = f"{self._calls}-{index}-{sample}"
                    waiting[engine_id] = index, sample
                    self._add(engine_id, request, sample, sampling)
            while waiting:
                begin = time.perf_counter()
                stepped = self._engine.step()
                seconds += time.perf_counter() - begin
                for output in (output for output in stepped if output.finished):
                    index, sample = waiting.pop(output.request_id)
                    outputs[index][sample] = output
                    if len(outputs[index]) == requests[index].n:
                        yield self._generation(requests[index], outputs[index], seconds)
                        outputs[index], seconds = {}, 0.0
        finally:
            if waiting:
                self._engine.abort_request(list(waiting))

    def _add(self, engine_id: str, request: GenerationRequest, sample: int, sampling: SamplingSettings) -> None:
        """A request of vLLM for each sample: one for all of them would not say how much of each prompt was cached."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if self._asleep:  # vLLM would queue it, and wait for ever
            raise ActorError(f"request {request.request_id} came to an engine that sleeps: {sorted(self._asleep)}")
        length, limit = len(request.prompt_ids), self._settings.max_model_len
        if not 0 < length < limit:
            raise DataError(
                f"request {request.request_id}: its prompt has {length} tokens, the engine takes 1 to {limit - 1}",
                hint="raise task.max_prompt_tokens, or leave out the long examples",
            )
        params = SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=None if request.seed is None else _spread(request.seed) + sample,
            logprobs=0 if sampling.logprobs else None,  # 0: of the sampled token alone
            flat_logprobs=True,
            detokenize=False,  # one decode of the finished response is cheaper than one a token
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": request.prompt_ids.tolist()}
        self._engine.add_request(engine_id, prompt, params, lora_request=self._adapter)

    def _generation(self, request: GenerationRequest, outputs: dict[int, Any], seconds: float) -> Generation:
        from agrl.models.tokens import decode_response

        samples = []
        for _, output in sorted(outputs.items()):
            sample = output.outputs[0]
            ids = list(sample.token_ids)
            self._sampled += len(ids)
            logprobs = np.asarray(sample.logprobs.logprobs if sample.logprobs else [], dtype=np.float32)
            text = decode_response(self._tokenizer, ids)
            samples.append(Sampled(np.asarray(ids, dtype=np.int32), logprobs, str(sample.finish_reason), text))
        cached = sum(output.num_cached_tokens or 0 for output in outputs.values())
        prompts = request.n * len(request.prompt_ids)
        return Generation(request.request_id, samples, self.version, prompts, cached, seconds)

    # ---- weights --------------------------------------------------------------------------------------------------

    def open_transport(self, transport: str, meeting: Meeting | None) -> None:
        """Connect every worker to the learner. ``meeting``: of the first worker. Raises TransferFailed, ConfigError."""
        self._workers("open", transport, meeting)

    def take_weights(self, transport: str, *parcels: Parcel) -> None:
        """Load a bucket of a broadcast, of which ``finish_weights`` is the end: until then there is no version.

        ``parcels``: of the learner ranks that send. Raises WeightSyncError, which names the weight and this host, for
        one that arrived damaged; TransferFailed when somebody else is gone.
        """
        if parcels[0].number == 0:
            self.version, self._buckets, self._received = -1, 0, set()
        self._buckets += 1
        self._received |= {entry.name for entry in parcels[0].entries}
        try:
            self._workers("take", transport, parcels)
        except WeightSyncError:
            raise
        except Exception as error:
            raise WeightSyncError(f"vLLM refused weights of bucket {parcels[0].number}: {error!r}") from error

    def finish_weights(self, version: int, buckets: int) -> int:
        """The ``buckets`` that have come are ``version``; forget cached prompts. Returns ``version``.

        Raises WeightSyncError when a bucket or a weight is missing (one that vLLM has, or that the last broadcast had),
        when what the engine holds is not what was sent, or when the prompt cache cannot be emptied.
        """
        came, self._buckets = self._buckets, 0
        if came != buckets:
            raise WeightSyncError(f"{came} of the {buckets} buckets of version {version} came to host {this_host()}")
        names = self._received
        if any(is_adapter(name) for name in names):
            none_missing(version, self._adapters_sent - names)
            self._adapters_sent = names
            self._use_adapters(version)
        else:
            none_missing(version, self._broadcast - names)
            self._broadcast, self._adapter = names, None
            check_held(version, self._workers("finish"))
        if not self._engine.reset_prefix_cache():  # it refuses while requests run
            raise WeightSyncError(f"the prefix cache could not be reset for version {version}")
        self.version = version
        return version

    def _use_adapters(self, version: int) -> None:
        """vLLM takes adapters from a folder alone: one in memory, where this host has such."""
        from vllm.lora.request import LoRARequest

        memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        with TemporaryDirectory(prefix="agrl-adapters-", dir=memory) as folder:
            self._workers("write_adapters", folder)
            self._adapter = LoRARequest(f"version-{version}", 1, folder)
            try:
                self._engine.add_lora(LoRARequest(self._adapter.name, 1, folder, load_inplace=True))
            except Exception as error:
                raise WeightSyncError(f"vLLM refused the low-rank updates of version {version}: {error!r}") from error
        check_adapters(version, self._workers("finish_adapters"))

    # ---- turns on a shared GPU ------------------------------------------------------------------------------------

    def sleep(self, keep_weights: bool) -> None:
        """Free the GPU memory of weights and KV cache; ``keep_weights``: in main memory, or a broadcast brings others.

        An engine on a CPU, where vLLM has no such mode, keeps what it has and only takes no requests.
        """
        if self._can_sleep:
            self._engine.sleep(KEEP_WEIGHTS if keep_weights else DISCARD_WEIGHTS)
        self._asleep = {"weights", "kv_cache"}

    def wake(self, part: str) -> None:
        """Take back the memory of ``part``, "weights" or "kv_cache"; nothing where that is awake."""
        if part in self._asleep and self._can_sleep:
            self._engine.wake_up([part])
        self._asleep.discard(part)

    # ---------------------------------------------------------------------------------------------------------------

    def _workers(self, method: str, *args: Any) -> list[Any]:
        return self._engine.collective_rpc(on_worker, args=(method, *args))

    def gauges(self) -> dict[str, float]:
        """Samples being decoded and waiting, the share of the KV cache in use, the version of the weights (not while
        they are replaced), and tokens of finished samples a second since this was last called. For another thread."""
        scheduler = self._engine.engine_core.engine_core.scheduler  # in this process, see EngineSettings.environment
        running, waiting = scheduler.get_request_counts()
        (before, then), self._told = self._told, (self._sampled, time.monotonic())
        found = {
            "running": running,
            "queue_length": waiting,
            "kv_cache_share": scheduler.kv_cache_manager.usage,
            "tokens_per_s": (self._told[0] - before) / max(self._told[1] - then, 1e-9),
        }
        return found | ({"weight_version": self.version} if self.version >= 0 else {})

    def info(self) -> dict[str, Any]:
        """What runs where: version, process id, address of the host, vLLM's version, device and threads."""
        import torch
        import vllm

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {
            "version": self.version,
            "pid": os.getpid(),
            "host": this_host().address,
            "vllm": vllm.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
            "model": self._model_path,
            "adapters": self._engine.vllm_config.lora_config is not None,
        }


def _check_version() -> None:
    """Raises ConfigError naming the installed vLLM and the supported range."""
    import vllm
    from packaging.version import Version

    low, high = SUPPORTED_VLLM
    if not Version(low) <= Version(vllm.__version__) < Version(high):
        raise ConfigError(
            f"vLLM {vllm.__version__} is installed; this version of AGRL works with {low} up to (not including) {high}",
            hint="install one of these, for example with `make setup`",
        )


def _build(path: str, model_path: str, settings: EngineSettings, on_cpu: bool) -> Any:
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


def _spread(seed: int) -> int:
    """A 32-bit seed far from those of neighbouring requests: sample i of a request has this seed + i."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
