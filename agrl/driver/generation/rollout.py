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
    requests = [request(s, str(i), example, level, n, step) for i, (example, level) in enumerate(prompts)]
    found: dict[int, Unscored] = {}
    for generation, actor in s.rollouts.generate(requests, sampling(s, temperature)):
        i = int(generation.request_id)
        found[i] = to_scorers(s, requests[i].prompt_ids, generation, actor, *prompts[i])
    return [found[i] for i in range(len(prompts))]


def request(s: Services, name: str, example: Example, level: int, n: int, step: int) -> GenerationRequest:
    """``n`` samples of an example's prompt with the hint of a level, for ``step``."""
    return GenerationRequest(name, s.encoder.prompt(example, level), n, _seed(s, step, example.id, level))


def sampling(s: Services, temperature: float) -> SamplingSettings:
    """As for everything that may be trained on."""
    return SamplingSettings(temperature, max_tokens=s.config.task.max_response_tokens, logprobs=True)


def to_scorers(
    s: Services, prompt: np.ndarray, generation: Generation, actor: int, example: Example, level: int = 0
) -> Unscored:
    """The rollouts of what an engine has generated, on their way to the reward actors."""
    rollouts = _rollouts(prompt, generation, actor, example, level)
    ticket = s.rewards.submit([(example, r.text, r.finish_reason) for r in rollouts])
    return Unscored(example, rollouts, ticket)


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
            version=sample.spans[0][0] if sample.spans else generation.version,
            actor=actor,
            finish_reason=sample.finish_reason,
            hint_level=level,
            spans=sample.spans if len(sample.spans) > 1 else (),
        )
        for sample in generation.samples
    ]


def _seed(s: Services, step: int, example_id: str, level: int) -> int:
    key = f"{s.config.trainer.seed}/{step}/{example_id}/{level}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")
