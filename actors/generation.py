"""What goes into a rollout engine and what comes out: settings, requests, samples. Knows nothing of vLLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is built.

    ``max_model_len``: tokens of prompt and response together. ``max_concurrent``: sequences decoded together.
    ``gpu_memory_utilization``: share of a GPU's memory. ``lora_rank``: of low-rank updates that are to be served beside
    the model's weights, where vLLM can. ``sleeps``: it leaves its GPU to others in between. ``unfinished``: what
    becomes of requests that new weights find unfinished, see ``UNFINISHED``; "" where they never find any. Of CPU
    engines only: ``kv_cache_gib`` and ``threads``, 0 for its share of the host's CPUs.
    """

    dtype: str = "bfloat16"
    kv_cache_gib: float = 0.5
    max_model_len: int = 2048
    max_concurrent: int = 256
    seed: int = 0
    gpu_memory_utilization: float = 0.85
    tensor_parallel: int = 1
    threads: int = 0
    lora_rank: int = 0
    sleeps: bool = False
    unfinished: str = ""

    def environment(self) -> dict[str, str]:
        """The environment variables that must be set before torch and vLLM are imported in the engine's process."""
        threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
        return threads | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the scheduler in this process: weights change between two steps
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines and learner take turns on the same cores
            "GOMP_SPINCOUNT": "30000",  # idle threads spin a little: never is slower, for long starves others
        }


UNFINISHED = ("recompute", "keep")
"""What becomes of the keys and values of a request that new weights find unfinished: computed again by the new weights,
or kept, so that its next tokens attend to what older weights made of those before."""


@dataclass(frozen=True)
class SamplingSettings:
    """``temperature`` 0 takes the likeliest token. No top-p or top-k: cutting the tail biases importance ratios."""

    temperature: float = 1.0
    max_tokens: int = 256
    logprobs: bool = True


@dataclass(frozen=True)
class GenerationRequest:
    """``n`` samples of one prompt. ``prompt_ids`` int32 [P]. The same ``seed`` and weights give the same samples.

    ``sampling``: its own, where others that it is generated beside have another.
    """

    request_id: str
    prompt_ids: np.ndarray
    n: int = 1
    seed: int | None = None
    sampling: SamplingSettings | None = None


@dataclass(frozen=True)
class Sampled:
    """One response. ``ids`` int32 [T], the sampled end token included. ``text``: without special tokens.

    ``logprobs`` float32 [T], nats, of the distribution that was sampled from; empty when not asked for. ``spans``:
    (version of the weights, tokens that they sampled), the oldest first.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: str  # "stop", or "length" when cut off at the token limit
    text: str
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Generation:
    """All samples of one request, and the version of the weights that ended them.

    ``prompt_tokens``: the prompt's once for each sample; ``cached_tokens``: those of them that the engine had already
    computed.
    """

    request_id: str
    samples: list[Sampled]
    version: int
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def response_tokens(self) -> int:
        return sum(len(sample.ids) for sample in self.samples)


@dataclass(frozen=True)
class Pace:
    """How long an engine works until it answers: until something is finished, but ``least_s`` seconds unless it has
    nothing left to do, and ``most_s`` at most."""

    least_s: float = 0.05
    most_s: float = 0.1


@dataclass(frozen=True)
class Progress:
    """What an engine has done in one call. ``generations``: finished. ``tokens``: sampled, of unfinished requests too.

    ``seconds``: that it was at work. ``begun``: tokens that an unfinished request has so far, on average.
    """

    generations: list[Generation]
    tokens: int = 0
    seconds: float = 0.0
    begun: float = 0.0
