"""The start weights, broadcast before anything is evaluated: a model that cannot be trained here is refused at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.generation import GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from agrl.algorithms.batch import TrainSequence
from agrl.config.schema import Config
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.learners import LearnerGroup
from agrl.errors import ModelError, WeightSyncError
from agrl.transport.parcel import TransferFailed

SAMPLES = 4  # of one prompt an actor
TOKENS = 16  # of each


def try_broadcast(config: Config, learner: LearnerGroup, rollouts: RolloutPool, prompts: Sequence[np.ndarray]) -> None:
    """Give every rollout actor the learner's weights, and let it answer a prompt with them.

    Raises ModelError when vLLM does not take the weights as the learner names them, or computes other log-probabilities
    with them than the learner does (``sync.check``).
    """
    path = config.model.path
    try:
        broadcast_weights(learner, rollouts)
    except TransferFailed:  # of those who take part, whatever the model
        raise
    except WeightSyncError as error:
        raise ModelError(
            f"{path} cannot be trained: vLLM does not take its weights from the learner: {error}",
            hint="transformers and vLLM name or shape them differently; `agrl eval` and `agrl sft` still take it",
        ) from error
    gap = _gap(config, learner, rollouts, prompts) if config.sync.check else 0.0
    if not gap <= config.sync.max_mean_gap:
        raise ModelError(
            f"{path}: from the same weights the rollout engines and the learner compute log-probabilities that differ "
            f"by {gap:.2e} nats a token, more than sync.max_mean_gap={config.sync.max_mean_gap:g}",
            hint="in low precision this can be rounding: raise sync.max_mean_gap (about 0.05 suits bfloat16); in "
            "float32 vLLM computes this model in another way than transformers, and it should not be trained",
        )


def _gap(config: Config, learner: LearnerGroup, rollouts: RolloutPool, prompts: Sequence[np.ndarray]) -> float:
    """Nats a token by which a response's log-probability differs, averaged over the responses of the worst actor."""
    requests = [
        GenerationRequest(str(i), prompts[i % len(prompts)], SAMPLES, seed=config.trainer.seed + i)
        for i in range(config.rollout.actors)
    ]
    sampling = SamplingSettings(max_tokens=min(TOKENS, config.task.max_response_tokens))
    by_actor: dict[int, float] = {}
    for generation, actor in rollouts.generate(requests, sampling):
        prompt = requests[int(generation.request_id)].prompt_ids
        sequences = [TrainSequence(prompt, sample.ids, sample.logprobs) for sample in generation.samples]
        sums = np.array([s.rollout_logprobs.sum(dtype="float64") for s in sequences])
        lengths = np.array([len(s.response_ids) for s in sequences])
        by_actor[actor] = float((np.abs(learner.sequence_logprobs(sequences) - sums) / lengths).mean())
    rollouts.metrics()  # this was no rollout for training: forget what it took
    return float(np.max(list(by_actor.values())))
