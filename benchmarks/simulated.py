"""Engines and learner ranks that compute nothing, and say how long a real model would take.

Many of them share a Ray actor (``crowd.py``). The driver's side is real: every call is a call of Ray with its arguments
and results serialised, one for each engine and rank as ever, and the responses are text, token ids and
log-probabilities of the length that a model's would have. Answers come when a real model's would (``Model.waits``), or
at once.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.generation import Generation, GenerationRequest, Pace, Progress, Sampled, SamplingSettings
from agrl.network import Host, this_host
from agrl.relevance.records import TIERS, Judgement, Order
from agrl.relevance.response import render_response
from agrl.relevance.rulebook import load_rulebook
from agrl.transport.parcel import BUCKET_BYTES, Parcel
from learner.model import StepSums

WORDS = "grinder manual ceramic burr steel compact adjustable travel kitchen coffee premium quiet large small".split()


@dataclass(frozen=True)
class Model:
    """How fast a model is: by default one of 8 billion weights in bfloat16, an H100 for each engine and each rank.

    ``decode_s``, ``decode_sequence_s``: seconds of one decoding step, and for each sequence in it. ``prefill``: prompt
    tokens a second. ``learn``: tokens a second of one rank, forward and backward. ``weight_bytes`` travel at
    ``link_bytes`` a second. ``response``: tokens, mean. ``waits``: whether that time passes; else they answer at once.
    """

    decode_s: float = 0.008
    decode_sequence_s: float = 0.00005
    prefill: float = 25_000.0
    learn: float = 8_000.0
    weight_bytes: float = 16e9
    link_bytes: float = 25e9
    response: int = 300
    waits: bool = False

    @property
    def broadcast_s(self) -> float:
        return self.weight_bytes / self.link_bytes

    def pass_time(self, seconds: float) -> None:
        if self.waits:
            time.sleep(seconds)

    @property
    def buckets(self) -> int:
        return -(-int(self.weight_bytes) // BUCKET_BYTES)


class SimulatedEngine:
    """``RolloutEngine`` without a model. All its sequences decode together, a token each in every step."""

    def __init__(self, model: Model, settings: Any) -> None:
        self.version, self._model, self._room = 0, model, settings.max_concurrent
        self._batch, self._limit = 0, settings.max_model_len
        self._texts = texts(model.response)
        self._lock, self._ended, self._free_at = threading.Lock(), threading.Event(), 0.0
        self._clear()

    def _clear(self) -> None:
        self._waiting: list[tuple[str, int, int]] = []  # of sequences: request, sample, length
        self._active: list[tuple[int, str, int]] = []  # (step at which it ends, request, sample): a heap
        self._requests: dict[str, GenerationRequest] = {}
        self._left: dict[str, int] = {}
        self._lengths: dict[str, np.ndarray] = {}
        self._step, self._owed = 0, 0.0  # steps made; seconds for prompts not yet read

    def advance(
        self,
        batch: int,
        requests: Sequence[GenerationRequest],
        sampling: SamplingSettings,
        pace: Pace,
        drop: Sequence[str],
    ) -> Progress:
        asked = time.monotonic()
        with self._lock:  # calls come in many threads
            if batch != self._batch:
                self._batch = batch
                self._ended.clear()
                self._clear()
            if self._ended.is_set():
                self._clear()
            for name in drop:
                self._forget(name)
            for request in requests:
                self._add(request, sampling.max_tokens)
            finished, tokens, seconds = self._decode(pace.least_s, pace.most_s)
            return Progress(finished, tokens, self._passed(asked, seconds))

    def _passed(self, asked: float, seconds: float) -> float:
        """Wait for ``seconds`` from when the work could begin, or until the batch ends; how long that was."""
        begin = max(asked, self._free_at)
        if self._model.waits and self._ended.wait(max(0.0, begin + seconds - time.monotonic())):
            seconds = min(seconds, max(0.0, time.monotonic() - begin))
        self._free_at = begin + seconds
        return seconds

    def _decode(self, least_s: float, most_s: float) -> tuple[list[Generation], int, float]:
        """Until something is finished, but at least and at most so long; with tokens and seconds."""
        seconds, tokens, finished = self._owed, 0, []
        self._owed = 0.0
        while self._left and (not finished or seconds < least_s) and seconds < most_s:
            while self._waiting and len(self._active) < self._room:
                name, sample, length = self._waiting.pop()
                heapq.heappush(self._active, (self._step + length, name, sample))
            end, name, sample = heapq.heappop(self._active)
            steps, sequences = end - self._step, len(self._active) + 1
            seconds += steps * (self._model.decode_s + sequences * self._model.decode_sequence_s)
            tokens += steps * sequences
            self._step = end
            if name in self._left:
                self._left[name] -= 1
                if not self._left[name]:
                    finished.append(self._generation(name))
        return finished, tokens, seconds

    def _add(self, request: GenerationRequest, longest: int) -> None:
        name, random = request.request_id, np.random.default_rng(request.seed)
        lengths = random.gamma(4.0, self._model.response / 4.0, request.n).astype(int).clip(8, longest)
        self._requests[name], self._left[name], self._lengths[name] = request, request.n, lengths
        self._waiting = [(name, i, int(length)) for i, length in enumerate(lengths)] + self._waiting
        self._owed += len(request.prompt_ids) / self._model.prefill

    def _generation(self, name: str) -> Generation:
        request, lengths = self._requests[name], self._lengths[name]
        random = np.random.default_rng([request.seed or 0, 1])
        samples = [
            Sampled(
                random.integers(0, 1000, length, dtype=np.int32),
                random.random(length, dtype=np.float32) - 1.0,
                "stop",
                self._texts[int(random.integers(len(self._texts)))],
            )
            for length in lengths
        ]
        self._forget(name)
        prompts = request.n * len(request.prompt_ids)
        return Generation(name, samples, self.version, prompts, prompts - len(request.prompt_ids))

    def _forget(self, name: str) -> None:
        if self._left.pop(name, None) is not None:
            del self._requests[name], self._lengths[name]
            self._waiting = [item for item in self._waiting if item[0] != name]
            self._active = [item for item in self._active if item[1] != name]
            heapq.heapify(self._active)

    def end_batch(self, batch: int) -> None:
        if batch == self._batch:
            self._ended.set()

    def take_weights(self, transport: str, *parcels: Parcel) -> None:
        pass

    def open_transport(self, transport: str, meeting: Any) -> None:
        pass

    def receive_weights(self, transport: str) -> None:
        pass

    def finish_weights(self, version: int, buckets: int) -> int:
        self.version = version
        return version

    def info(self) -> dict[str, Any]:
        return {"adapters": False, "host": this_host().address}


def texts(tokens: int, count: int = 64) -> list[str]:
    """Judgements of every kind, in the form of the rule book, of about so many tokens."""
    book, random = load_rulebook("relevance"), np.random.default_rng(0)
    combinations = list(book.combinations())
    found = []
    for i in range(count):
        words = random.choice(WORDS, max(4, tokens // (2 * len(book.sections)))).tolist()
        readings = dict.fromkeys(book.sections, " ".join(words))
        verdicts = combinations[int(random.integers(len(combinations)))]
        tier = book.decide(verdicts) if i % 4 else int(random.choice(TIERS))
        found.append(render_response(book, Judgement(tier, verdicts, readings), Order.think_then_respond))
    return found


class SimulatedRank:
    """``LearnerRank`` without a model."""

    def __init__(self, model: Model, rank: int, world: int) -> None:
        self._model, self._rank, self._world = model, rank, world
        self._buckets = 0

    def host(self) -> Host:
        return this_host()

    def rendezvous(self) -> str:
        return "127.0.0.1:1"

    def setup(self, address: str, one_host: bool = True) -> tuple[str, str]:
        return "shared", ""

    def train_policy(self, sequences: Any, *more: Any) -> StepSums:
        """The batch is read by rank 0 alone: on a cluster each rank reads it, on a processor of its own."""
        sums = StepSums()
        if sequences is not None:
            found = sequences if isinstance(sequences, list) else list(sequences)
            prompts = {sequence.prompt_ids.tobytes(): len(sequence.prompt_ids) for sequence in found}
            own = sum(len(sequence.response_ids) for sequence in found)
            sums.maximum["seconds"] = (own + sum(prompts.values())) / self._world / self._model.learn
            self._model.pass_time(sums.maximum["seconds"])
            work = dict.fromkeys(("work_computed", "work_useful", "work_operations", "work_peak"), 1.0)
            sums.add({"loss": 0.0, "ratio": own, "clipped": 0.0, "entropy": own, "tokens": own, "sampled": own} | work)
            sums.maximum["grad_norm"] = 1.0
        return sums

    def sequence_logprobs(self, sequences: Any, plan: Any) -> dict[int, float]:
        return {}

    def served_beside(self) -> bool:
        return False

    def open_transport(self, transport: str, meeting: Any) -> None:
        return None

    def send_weights(self, transport: str, adapters: bool) -> int:
        self._model.pass_time(self._model.broadcast_s)
        return self._model.buckets

    def begin_weights(self, transport: str, adapters: bool) -> None:
        self._buckets = self._model.buckets

    def next_bucket(self) -> bool:
        self._buckets -= 1
        return self._buckets >= 0

    def parcel(self) -> Parcel:
        return Parcel(self._model.buckets - self._buckets - 1, ())
