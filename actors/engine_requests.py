"""The requests that a vLLM engine works on: samples into it, finished groups out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.generation import Generation, GenerationRequest, Sampled, SamplingSettings
from agrl.errors import DataError


@dataclass
class _Group:
    """One request. ``waiting``: our ids of its unfinished samples and their places. ``outputs``: of the others.

    ``spans``: by place, (version, tokens) of what is not sampled by the present weights, and of all when it has ended.
    """

    request: GenerationRequest
    waiting: dict[str, int] = field(default_factory=dict)
    outputs: dict[int, Any] = field(default_factory=dict)
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


class RequestsInHand:
    """Several requests in one engine, added and dropped while others are decoded.

    ``sampled``: tokens so far, of unfinished samples too.
    """

    def __init__(self, engine: Any, tokenizer: Any, max_model_len: int) -> None:
        self._engine, self._tokenizer, self._limit = engine, tokenizer, max_model_len
        self._scheduler = scheduler_of(engine)
        self._groups: dict[str, _Group] = {}  # by request id
        self._group_of: dict[str, _Group] = {}  # by our id of a sample
        self._ids: dict[str, str] = {}  # our id of a sample -> vLLM's own
        self._added, self.sampled = 0, 0
        self._unfinished = 0.0  # tokens of all that are in hand

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def begun(self) -> float:
        """Tokens that a request in hand has so far, on average."""
        return self._unfinished / max(len(self._groups), 1)

    def add(self, request: GenerationRequest, sampling: SamplingSettings, adapter: Any, salt: str = "") -> None:
        """A request of vLLM for each sample: one for all of them would not say how much of each prompt was cached.

        ``adapter``: vLLM's name of low-rank updates. ``salt``: only prompts with the same share cached keys and values.
        Raises DataError for a prompt that leaves no room for a response.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        length = len(request.prompt_ids)
        if not 0 < length < self._limit:
            raise DataError(
                f"request {request.request_id}: its prompt has {length} tokens, an engine takes 1 to {self._limit - 1}",
                hint="raise task.max_prompt_tokens, or leave out the long examples",
            )
        group = self._groups[request.request_id] = _Group(request)
        self._added += 1
        seed = None if request.seed is None else _spread(request.seed)
        for sample in range(request.n):
            params = SamplingParams(
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=None if seed is None else seed + sample,
                logprobs=0 if sampling.logprobs else None,  # 0: of the sampled token alone
                flat_logprobs=True,
                detokenize=False,  # one decode of the finished response is cheaper than one a token
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            name, prompt = f"{self._added}-{sample}", {"prompt_token_ids": request.prompt_ids.tolist()}
            group.waiting[name] = sample
            self._group_of[name] = group
            prompt |= {"cache_salt": salt} if salt else {}
            self._ids[name] = self._engine.add_request(name, prompt, params, lora_request=adapter)

    def mark(self, version: int) -> None:
        """Other weights come: what no earlier mark knows of was sampled by those of ``version``."""
        for name, group in self._group_of.items():
            spans = group.spans.setdefault(group.waiting[name], [])
            if tokens := self._scheduler.requests[self._ids[name]].num_output_tokens - _tokens(spans):
                spans.append((version, tokens))

    def step(self, version: int) -> list[Generation]:
        """One step of the engine; the requests whose last sample it finished, as sampled by weights of ``version``."""
        finished = []
        stepped = self._engine.step()
        done = [output for output in stepped if output.finished and output.request_id in self._group_of]
        made = self._scheduler.get_request_counts()[0] + len(done)  # a token for each that ran
        self.sampled += made
        self._unfinished += made
        for output in done:
            group = self._group_of.pop(output.request_id)
            del self._ids[output.request_id]
            place = group.waiting.pop(output.request_id)
            group.outputs[place] = output
            spans = group.spans.setdefault(place, [])
            if tokens := len(output.outputs[0].token_ids) - _tokens(spans):
                spans.append((version, tokens))
            if not group.waiting:
                del self._groups[group.request.request_id]
                finished.append(self._generation(group, version))
                self._unfinished = max(self._unfinished - finished[-1].response_tokens, 0.0)
        return finished

    def drop(self, request_ids: Sequence[str] | None = None) -> None:
        """Take requests out of the engine, all of them by default; nothing for those that it does not have."""
        names = list(self._groups) if request_ids is None else [name for name in request_ids if name in self._groups]
        self._unfinished -= len(names) * self.begun
        waiting = [sample for name in names for sample in self._groups.pop(name).waiting]
        for sample in waiting:
            del self._group_of[sample], self._ids[sample]
        if waiting:
            self._engine.abort_request(waiting)

    def _generation(self, group: _Group, version: int) -> Generation:
        from agrl.models.tokens import decode_response

        request, samples = group.request, []
        for place, output in sorted(group.outputs.items()):
            sample = output.outputs[0]
            ids = list(sample.token_ids)
            logprobs = np.asarray(sample.logprobs.logprobs if sample.logprobs else [], dtype=np.float32)
            text = decode_response(self._tokenizer, ids)
            about = str(sample.finish_reason), text, tuple(group.spans[place])
            samples.append(Sampled(np.asarray(ids, dtype=np.int32), logprobs, *about))
        cached = sum(output.num_cached_tokens or 0 for output in group.outputs.values())
        return Generation(request.request_id, samples, version, request.n * len(request.prompt_ids), cached)


def _tokens(spans: Sequence[tuple[int, int]]) -> int:
    return sum(tokens for _, tokens in spans)


def scheduler_of(engine: Any) -> Any:
    """vLLM's scheduler, which is in this process: see ``EngineSettings.environment``."""
    return engine.engine_core.engine_core.scheduler


def _spread(seed: int) -> int:
    """A 32-bit seed far from those of neighbouring requests: sample i of a request has this seed + i."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
