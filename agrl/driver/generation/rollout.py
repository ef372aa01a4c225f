"""Grouped rollouts with scores: requests go out to the engines, each group is scored as soon as it is finished."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.generation import Generation, GenerationRequest, SamplingSettings
from agrl.driver.services.services import Services
from agrl.relevance.records import Example, Rollout, ScoredGroup


@dataclass
class Unscored:
    """The rollouts of one prompt, and the ticket for their scores."""

    example: Example
    rollouts: list[Rollout]
    ticket: object


def generate(
    s: Services, prompts: Sequence[tuple[Example, int]], n: int, step: int, temperature: float
) -> list[Unscored]:
    """``n`` rollouts of each (example, hint level), in the order of ``prompts``; their scores are under way.

    Seeds depend on the run's seed, the step, the example and the hint level alone, so a step can be repeated whatever
    the number of actors is and whichever of them died.
    """
    requests = [
        GenerationRequest(str(i), s.encoder.prompt(example, level), n, _seed(s, step, example.id, level))
        for i, (example, level) in enumerate(prompts)
    ]
    sampling = SamplingSettings(temperature, max_tokens=s.config.task.max_response_tokens, logprobs=True)
    found: dict[int, Unscored] = {}
    for generation, actor in s.rollouts.generate(requests, sampling):
        i = int(generation.request_id)
        example, level = prompts[i]
        rollouts = _rollouts(requests[i].prompt_ids, generation, actor, example, level)
        ticket = s.rewards.submit([(example, r.text, r.finish_reason) for r in rollouts])
        found[i] = Unscored(example, rollouts, ticket)
    return [found[i] for i in range(len(prompts))]


def collect(s: Services, unscored: Sequence[Unscored]) -> list[ScoredGroup]:
    """The groups with their scores, as soon as these are there."""
    return [ScoredGroup(u.example, u.rollouts, s.rewards.collect(u.ticket)) for u in unscored]


def roll_out(
    s: Services, prompts: Sequence[tuple[Example, int]], n: int, step: int, temperature: float
) -> list[ScoredGroup]:
    """Generate and collect."""
    return collect(s, generate(s, prompts, n, step, temperature))


def _rollouts(prompt: np.ndarray, generation: Generation, actor: int, example: Example, level: int) -> list[Rollout]:
    return [
        Rollout(
            example_id=example.id,
            prompt_ids=prompt,
            response_ids=sample.ids,
            logprobs=sample.logprobs,
            text=sample.text,
            version=generation.version,
            actor=actor,
            finish_reason=sample.finish_reason,
            hint_level=level,
        )
        for sample in generation.samples
    ]


def _seed(s: Services, step: int, example_id: str, level: int) -> int:
    key = f"{s.config.trainer.seed}/{step}/{example_id}/{level}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")
