"""Reinforcement learning on scored rollouts, checked against the weights that they claim to be sampled from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from agrl.algorithms.batch import Minibatch, TrainSequence
from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.policy_loss import LossSettings, TokenBatch, policy_loss
from agrl.relevance.records import Provenance
from learner.model import Model, StepSums, split
from learner.sync_check import SyncGap


@dataclass
class Frozen:
    """Log-probabilities as they were before the first update: index -> float32 [T].

    Of ``old`` those of the first minibatch are missing: for them, the forward pass of the loss still is the old policy.
    ``reference`` is empty without a KL term.
    """

    old: dict[int, np.ndarray] = field(default_factory=dict)
    reference: dict[int, np.ndarray] = field(default_factory=dict)


def train_policy(
    model: Model,
    sequences: list[TrainSequence],
    plan: list[Minibatch],
    loss: LossSettings,
    temperature: float,
    lr: float,
    version: int,
    max_mean_gap: float | None,
) -> StepSums:
    """One batch: an optimizer step a minibatch.

    ``version`` is the learner's; rollouts of the same version are compared with it before the first update, and beyond
    ``max_mean_gap`` (None: no check) WeightSyncError is raised with the weights untouched. Of rollouts of an earlier
    version it is only measured how far the policy has moved away from them.
    """
    sums, gap, aged, frozen = StepSums(), SyncGap(), SyncGap(), Frozen()
    frozen.old = model.frozen_logprobs(sequences, plan[1:], temperature)
    _compare(gap, aged, version, [(sequences[i], learner) for i, learner in frozen.old.items()])
    if loss.kl_coef > 0:
        frozen.reference = model.frozen_logprobs(sequences, plan, temperature, reference=True)
    for number, minibatch in enumerate(plan):
        for micro in model.micro_batches(minibatch):
            batch = [sequences[i] for i in micro]
            logprobs, entropy = model.forward(batch, temperature, loss.entropy_coef > 0)
            if number == 0:
                _compare(gap, aged, version, list(zip(batch, split(logprobs, batch), strict=True)))
            weights = model.token_weights(sequences, minibatch, micro)
            tokens = _token_batch(model, sequences, micro, logprobs, entropy, weights, frozen)
            token_loss, statistics = policy_loss(tokens, loss)
            total = token_loss.sum()
            model.backward(total)
            if micro:
                sums.add({"loss": total.item(), "tokens": len(token_loss), **statistics})
                sums.add({"entropy": entropy.detach().sum().item()})
        if number == 0 and max_mean_gap is not None:
            gap.check(version, max_mean_gap)
        model.step(sums, lr)
    sums.add(gap.sums())
    sums.add({f"aged_{name}": value for name, value in aged.sums().items()})
    sums.maximum["gap_max"] = gap.maximum
    return sums


def kl_to_reference(
    model: Model, sequences: list[TrainSequence], plan: list[Minibatch], temperature: float, estimator: str
) -> dict[int, float]:
    """KL(policy || reference) estimated from each of this rank's responses: index -> sum over its tokens, nats.

    Both are computed here, under the prompt that a response is trained under: guided answers have no rollout
    log-probabilities under it, and the sum would add up the two engines' rounding.
    """
    policy = model.frozen_logprobs(sequences, plan, temperature)
    reference = model.frozen_logprobs(sequences, plan, temperature, reference=True)
    tensor = torch.from_numpy
    return {i: float(kl_estimate(tensor(policy[i]), tensor(reference[i]), estimator).sum()) for i in policy}


def _token_batch(
    model: Model,
    sequences: list[TrainSequence],
    micro: list[int],
    logprobs: torch.Tensor,
    entropy: torch.Tensor,
    weights: torch.Tensor,
    frozen: Frozen,
) -> TokenBatch:
    if not micro:
        zero, index = torch.zeros_like(logprobs), torch.zeros_like(logprobs, dtype=torch.int64)
        return TokenBatch(logprobs, zero, zero, zero, index.to(torch.int8), index, weights, entropy, zero)
    batch = [sequences[i] for i in micro]
    flat = lambda parts: torch.from_numpy(np.concatenate(parts)).float().to(logprobs.device)  # noqa: E731
    return TokenBatch(
        logprobs=logprobs,
        old_logprobs=flat([frozen.old[i] for i in micro]) if micro[0] in frozen.old else logprobs.detach(),
        rollout_logprobs=flat([s.rollout_logprobs for s in batch]),
        advantages=model.per_token(batch, [s.advantage for s in batch], torch.float32),
        provenance=model.per_token(batch, [int(s.provenance) for s in batch], torch.int8),
        sequences=model.per_token(batch, list(range(len(batch))), torch.int64),
        weights=weights,
        entropy=entropy,
        reference_logprobs=flat([frozen.reference[i] for i in micro]) if frozen.reference else None,
    )


def _compare(gap: SyncGap, aged: SyncGap, version: int, pairs: list[tuple[TrainSequence, np.ndarray]]) -> None:
    for sequence, learner in pairs:
        if sequence.provenance == Provenance.ON_POLICY:
            compared = gap if sequence.version == version else aged
            compared.add(sequence.actor, learner, sequence.rollout_logprobs)
