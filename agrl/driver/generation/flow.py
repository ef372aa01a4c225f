"""Prompts that engines work on without an end, each scored as soon as its group is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from agrl.driver.generation.rollout import collect, request, sampling, to_scorers
from agrl.driver.services.services import Services
from agrl.relevance.records import Example, ScoredGroup

Prompts = list[tuple[Example, int]]
"""Examples, and the step for which each was drawn."""


@dataclass
class _Running:
    example: Example
    step: int
    prompt: np.ndarray
    asked: str  # the name by which the engines know it


class Flow:
    """``len``: prompts under way. One thread adds and takes; another may ``wake`` it.

    A prompt counts as under way until it is ``taken``, so that what waits between the two is not forgotten.
    """

    def __init__(self, services: Services) -> None:
        self._s = services
        self._running: dict[str, _Running] = {}  # by example id
        self._finished: SimpleQueue = SimpleQueue()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def running(self) -> Prompts:
        """In the order in which they were added."""
        return [(each.example, each.step) for each in self._running.values()]

    def add(self, prompts: Sequence[tuple[Example, int]]) -> None:
        """Begin with these; the seed of each depends on the step for which it was drawn, as in ``generate``."""
        n, temperature = self._s.config.trainer.rollouts_per_prompt, self._s.config.rollout.temperature
        requests = [request(self._s, example.id, example, 0, n, step) for example, step in prompts]
        names = self._s.rollouts.stream.ask(requests, sampling(self._s, temperature), self._finished)
        for (example, step), asked, name in zip(prompts, requests, names, strict=True):
            self._running[example.id] = _Running(example, step, asked.prompt_ids, name)

    def next(self) -> ScoredGroup | None:
        """A finished group with its scores; waits for one. None when somebody has called ``wake``.

        Raises what ended the engines.
        """
        answer = self._finished.get()
        if answer is None:
            return None
        if isinstance(answer, BaseException):
            raise answer
        generation, actor = answer
        running = self._running[generation.request_id]
        unscored = to_scorers(self._s, running.prompt, generation, actor, running.example)
        return collect(self._s, [unscored])[0]

    def taken(self, group: ScoredGroup) -> None:
        """The group is no longer under way."""
        del self._running[group.example.id]

    def wake(self) -> None:
        """Let ``next`` return."""
        self._finished.put(None)

    def stop(self) -> None:
        """Take what is unfinished out of the engines."""
        self._s.rollouts.stream.withdraw([each.asked for each in self._running.values()])
