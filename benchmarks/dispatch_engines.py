"""Engines whose speed is known, for benchmarks/dispatch.py: one that sleeps, and vLLM held back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from actors.engine import RolloutEngine
from actors.generation import EngineSettings, Generation, GenerationRequest, Pace, Progress, Sampled, SamplingSettings


def take_number(folder: Path) -> int:
    """A number that no other process has: engines of a pool are built alike, and here they are to differ."""
    for number in range(10_000):
        try:
            os.close(os.open(folder / f"engine-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return number
    raise RuntimeError(f"{folder} has no number left")


def lengths(request: GenerationRequest, longest: int) -> np.ndarray:
    """Tokens of each sample: int [n], from a quarter of the longest on, the same for the same seed."""
    return np.random.default_rng(request.seed).integers(longest // 4, longest + 1, request.n)


class SleepingEngine:
    """Decodes ``max_concurrent`` sequences at once, ``RATE`` tokens a second together, times its own speed.

    ``folder``: holds ``speeds``, a number a line, of which each engine takes one.
    """

    RATE = 8000.0

    def __init__(self, folder: str, settings: EngineSettings) -> None:
        speeds = [float(line) for line in (Path(folder) / "speeds").read_text().split()]
        self._rate = self.RATE * speeds[take_number(Path(folder)) % len(speeds)]
        self._room, self._batch, self._over = settings.max_concurrent, 0, 0
        self._left: dict[tuple[str, int], int] = {}  # request and sample -> tokens to go
        self._requests: dict[str, GenerationRequest] = {}

    def advance(self, batch: int, requests: list, sampling: SamplingSettings, pace: Pace, drop: list[str]) -> Progress:
        begin = time.monotonic()
        if batch != self._batch:
            self._drop(list(self._requests))
        self._batch = batch
        self._drop(drop)
        for request in requests:
            self._requests[request.request_id] = request
            for sample, length in enumerate(lengths(request, sampling.max_tokens)):
                self._left[request.request_id, sample] = int(length)
        finished, tokens = [], 0
        while self._left and batch > self._over:
            tokens += self._step(begin, tokens)
            finished += self._take_finished(sampling)
            if time.monotonic() - begin >= (pace.least_s if finished else pace.most_s):
                break
        if batch <= self._over:
            self._drop(list(self._requests))
        return Progress(finished, tokens, time.monotonic() - begin if tokens else 0.0, self._begun(sampling))

    def _begun(self, sampling: SamplingSettings) -> float:
        whole = sum(int(lengths(request, sampling.max_tokens).sum()) for request in self._requests.values())
        return (whole - sum(self._left.values())) / max(len(self._requests), 1)

    def end_batch(self, batch: int) -> None:
        self._over = batch

    def _step(self, begin: float, before: int) -> int:
        """Decode a token of each running sample; sleeps until as long has passed as all since ``begin`` takes."""
        running = list(self._left)[: self._room]
        for key in running:
            self._left[key] -= 1
        made = len(running)
        time.sleep(max(0.0, begin + (before + made) / self._rate - time.monotonic()))
        for key in running:
            if not self._left[key]:
                del self._left[key]
        return made

    def _take_finished(self, sampling: SamplingSettings) -> list[Generation]:
        running = {name for name, _ in self._left}
        return [
            self._generation(self._requests.pop(name), sampling) for name in list(self._requests) if name not in running
        ]

    def _generation(self, request: GenerationRequest, sampling: SamplingSettings) -> Generation:
        none = np.zeros(0, np.float32)
        samples = [Sampled(np.zeros(n, np.int32), none, "stop", "") for n in lengths(request, sampling.max_tokens)]
        return Generation(request.request_id, samples, 0, request.n * len(request.prompt_ids), 0)

    def _drop(self, names: list[str]) -> None:
        for name in names:
            self._requests.pop(name, None)
        self._left = {key: left for key, left in self._left.items() if key[0] in self._requests}


class HeldBackEngine(RolloutEngine):
    """vLLM; engines after the first sleep after each step three times as long as it took: a quarter of the speed.

    ``model_path``: the model's folder has another one, ``numbers``, beside it.
    """

    def __init__(self, model_path: str, settings: EngineSettings) -> None:
        super().__init__(model_path, settings)
        self._first = take_number(Path(model_path).parent / "numbers") == 0
        self._slow = not self._first
        self._step, self._in_hand.step = self._in_hand.step, self._held_back

    def slow(self, is_slow: bool) -> None:
        self._slow = is_slow and not self._first

    def _held_back(self, version: int) -> list[Generation]:
        begin = time.monotonic()
        finished = self._step(version)
        if self._slow:
            time.sleep(3 * (time.monotonic() - begin))
        return finished
