"""Greedy judgements of whole example sets through the rollout actors, and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from actors.generation import GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.errors import ConfigError, DataError
from agrl.relevance.metrics import Prediction, evaluate
from agrl.relevance.parse import CUT_OFF, parse
from agrl.relevance.records import Example, ParseFailure


def evaluation_sets(config: Config, encoder: PromptEncoder) -> dict[str, list[Example]]:
    """The configured sets: name -> examples, in their order; at most ``data.max_evaluation`` each, drawn at random.

    Raises ConfigError when none is configured, DataError when a prompt is too long: leaving it out would change what
    is measured.
    """
    if not config.data.evaluation:
        raise ConfigError("data.evaluation names no file", hint="give +data.evaluation.NAME=FILE")
    sets = {}
    for name, path in config.data.evaluation.items():
        examples = drawn(read_examples(path), config.data.max_evaluation, config.data.evaluation_seed)
        if len(encoder.fitting(examples, hinted=False)) < len(examples):
            longest = max(examples, key=lambda e: len(encoder.prompt(e)))
            raise DataError(
                f"{path}: the prompt of example {longest.id!r} has {len(encoder.prompt(longest))} tokens, more than "
                f"task.max_prompt_tokens={config.task.max_prompt_tokens}",
                hint="raise task.max_prompt_tokens, or shorten the prompt in the rule book",
            )
        sets[name] = examples
    return sets


def drawn(examples: list[Example], most: int, seed: int) -> list[Example]:
    """At most ``most`` of the examples, 0 for all, in their order: at random, because files are often sorted."""
    if not most or len(examples) <= most:
        return examples
    chosen = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(chosen.tolist())]


def predict(
    rollouts: RolloutPool, encoder: PromptEncoder, examples: Sequence[Example], max_tokens: int
) -> list[Prediction]:
    """The greedy answer to every example, parsed; in the order of ``examples``."""
    requests = [GenerationRequest(str(i), encoder.prompt(example), 1) for i, example in enumerate(examples)]
    sampling = SamplingSettings(temperature=0.0, max_tokens=max_tokens, logprobs=False)
    found: dict[int, Prediction] = {}
    for generation, _ in rollouts.generate(requests, sampling):
        i, sample = int(generation.request_id), generation.samples[0]
        cut_off = sample.finish_reason == "length"
        parsed = ParseFailure(CUT_OFF) if cut_off else parse(encoder.book, sample.text, encoder.task.order)
        failed = isinstance(parsed, ParseFailure)
        found[i] = Prediction(examples[i], sample.text, None if failed else parsed, parsed.reason if failed else "")
    return [found[i] for i in range(len(examples))]


def evaluate_sets(
    rollouts: RolloutPool, encoder: PromptEncoder, sets: dict[str, list[Example]], max_tokens: int
) -> dict[str, dict[str, Any]]:
    """Metrics of every set: name -> the dict of ``agrl.relevance.metrics.evaluate``."""
    return {
        name: evaluate(encoder.book, predict(rollouts, encoder, examples, max_tokens))
        for name, examples in sets.items()
    }
