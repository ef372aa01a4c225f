"""A vLLM engine: grouped generation with log-probabilities, and new weights into a running engine.

vLLM is imported when an engine is built, so that the driver can name these classes without paying for it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from actors.engine_build import build_engine, check_version
from actors.engine_requests import RequestsInHand, scheduler_of
from actors.engine_weights import check_adapters, check_held, none_missing, on_worker
from actors.generation import EngineSettings, Generation, GenerationRequest, Pace, Progress, SamplingSettings
from agrl.errors import ActorError, AgrlError, WeightSyncError
from agrl.models.files import files_of_the_model
from agrl.network import this_host
from agrl.transport.collective import Meeting
from agrl.transport.parcel import Parcel, TransferFailed, is_adapter

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
        check_version()
        from agrl.models.tokens import load_tokenizer

        self.version = 0
        self._model_path = model_path
        self._batch, self._over = 0, 0  # in hand; that has ended, as another thread says
        self._broadcast: set[str] = set()  # the names in the last broadcast
        self._received, self._adapters_sent = set(), set()  # those in this one; in the last one of adapters
        self._buckets = 0  # that have come of this one
        self._adapter: Any = None  # vLLM's name of the adapters in use
        self._can_sleep = settings.sleeps and not on_cpu
        self._unfinished = settings.unfinished
        self._asleep: set[str] = set()
        self._told = 0, time.monotonic()  # tokens at the last ``gauges``, and when
        with files_of_the_model(model_path) as path:
            self._engine = build_engine(path, model_path, settings, on_cpu)
        self._in_hand = RequestsInHand(self._engine, load_tokenizer(model_path), settings.max_model_len)
        gc.collect()
        gc.freeze()  # the collector need not walk vLLM's and torch's modules again and again while it generates

    def advance(
        self,
        batch: int,
        requests: Sequence[GenerationRequest],
        sampling: SamplingSettings,
        pace: Pace,
        drop: Sequence[str],
    ) -> Progress:
        """Take more requests of a batch and work on all that it has, until some are finished: see ``Pace``.

        ``drop``: ids of requests that are no longer wanted. What is left of another batch is dropped. With nothing to
        do it answers at once. Raises DataError for a prompt that leaves no room for a response.
        """
        begin = time.monotonic()
        if batch != self._batch:
            self._in_hand.drop()
        self._batch = batch
        self._in_hand.drop(drop)
        if self._asleep and requests:  # vLLM would queue them, and wait for ever
            raise ActorError(f"request {requests[0].request_id} came to an engine that sleeps: {sorted(self._asleep)}")
        # with it, a new prompt finds nothing that older weights computed
        salt = str(self.version) if self._unfinished == "keep" else ""
        for request in requests:
            self._in_hand.add(request, request.sampling or sampling, self._adapter, salt)
        if not self._in_hand:
            return Progress([])
        if self.version < 0:
            raise ActorError("asked to generate with the half of new weights: the broadcast before did not end")
        finished: list[Generation] = []
        before = self._in_hand.sampled
        while self._in_hand and batch > self._over:
            finished += self._in_hand.step(self.version)
            if time.monotonic() - begin >= (pace.least_s if finished else pace.most_s):
                break
        if batch <= self._over:
            self._in_hand.drop()
        return Progress(finished, self._in_hand.sampled - before, time.monotonic() - begin, self._in_hand.begun)

    def end_batch(self, batch: int) -> None:
        """Drop what is left of a batch, and answer. For another thread, while ``advance`` is at work."""
        self._over = batch

    def hand_over(self) -> None:
        """Another driver goes on with this engine: drop what this one had asked, whose batches it knows nothing of."""
        self._in_hand.drop()
        self._batch = self._over = 0

    # ---- weights --------------------------------------------------------------------------------------------------

    def open_transport(self, transport: str, meeting: Meeting | None) -> None:
        """Connect every worker to the learner. ``meeting``: of the first worker. Raises TransferFailed, ConfigError."""
        self._workers("open", transport, meeting)

    def take_weights(self, transport: str, *parcels: Parcel) -> None:
        """Load a bucket that is handed over; ``finish_weights`` ends the broadcast: until then there is no version.

        ``parcels``: of the learner ranks that send. Raises WeightSyncError, which names the weight and this host, for
        one that arrived damaged; TransferFailed when somebody else is gone.
        """
        if parcels[0].number == 0:
            self._begin_weights()
        self._buckets += 1
        self._received |= {entry.name for entry in parcels[0].entries}
        self._load(f"weights of bucket {parcels[0].number}", "take", transport, parcels)

    def receive_weights(self, transport: str) -> None:
        """Load all buckets of a broadcast, as the learner announces them to those that it is connected to.

        Raises what ``take_weights`` raises.
        """
        self._begin_weights()
        self._buckets, self._received = self._load("weights", "receive", transport)[0]

    def _begin_weights(self) -> None:
        if self.version >= 0:
            self._in_hand.mark(self.version)
        self.version, self._buckets, self._received = -1, 0, set()

    def _load(self, what: str, method: str, *args: Any) -> list[Any]:
        try:
            return self._workers(method, *args)
        except WeightSyncError:
            raise
        except Exception as error:
            raise WeightSyncError(f"vLLM refused {what}: {error!r}") from error

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
        self._forget_prompts(version)
        self.version = version
        return version

    def _forget_prompts(self, version: int) -> None:
        """Nothing that older weights computed may serve a new prompt."""
        if self._in_hand and self._unfinished == "keep":  # by ``salt``: vLLM empties no cache that is in use
            return
        again = bool(self._in_hand) and self._unfinished == "recompute"
        if not self._engine.reset_prefix_cache(reset_running_requests=again):
            raise WeightSyncError(f"the prefix cache could not be reset for version {version}")

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
        found = self._engine.collective_rpc(on_worker, args=(method, *args))
        failures = [answer for answer in found if isinstance(answer, AgrlError)]
        if failures:  # a worker's own first, before what befell somebody else
            raise min(failures, key=lambda error: isinstance(error, TransferFailed))
        return found

    def gauges(self) -> dict[str, float]:
        """Samples being decoded and waiting, the share of the KV cache in use, the version of the weights (not while
        they are replaced), and tokens sampled a second since this was last called. For another thread."""
        scheduler = scheduler_of(self._engine)
        running, waiting = scheduler.get_request_counts()
        (before, then), self._told = self._told, (self._in_hand.sampled, time.monotonic())
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
