"""Direct preference optimization on pairs of responses."""

from __future__ import annotations

import torch

from agrl.algorithms.batch import Minibatch, PreferencePair, TrainSequence
from agrl.algorithms.preference import PreferenceSettings, dpo_loss
from learner.model import Model, StepSums


def train_preference(
    model: Model, pairs: list[PreferencePair], minibatch: Minibatch, settings: PreferenceSettings, lr: float
) -> StepSums:
    """One optimizer step on a batch of pairs; every pair weighs the same."""
    sums = StepSums()
    for micro in model.micro_batches(minibatch):
        batch = [pairs[i] for i in micro]
        chosen, rejected = [p.chosen for p in batch], [p.rejected for p in batch]
        logps = _sequence_sums(model, chosen + rejected)
        if not micro:
            model.backward(0.0 * logps.sum())
            continue
        tokens = [len(s.response_ids) for s in chosen + rejected]
        loss, statistics = dpo_loss(
            *logps.split(len(batch)),
            logps.new_tensor([p.reference_chosen for p in batch]),
            logps.new_tensor([p.reference_rejected for p in batch]),
            settings.beta,
            settings.label_smoothing,
            settings.sft_coef,
            chosen_tokens=logps.new_tensor(tokens[: len(batch)]),
        )
        total = (loss * logps.new_tensor([minibatch.weights[i] for i in micro])).sum()
        model.backward(total)
        sums.add({"loss": total.item(), "tokens": sum(tokens), "pairs": len(batch), **statistics})
    model.step(sums, lr)
    return sums


def sequence_logprobs(model: Model, sequences: list[TrainSequence], plan: list[Minibatch]) -> dict[int, float]:
    """Log-probability of each of this rank's responses, nats: index -> sum over its tokens."""
    found = model.frozen_logprobs(sequences, plan, 1.0)
    return {i: float(logprobs.sum(dtype="float64")) for i, logprobs in found.items()}


def _sequence_sums(model: Model, sequences: list[TrainSequence]) -> torch.Tensor:
    """Log-probabilities with gradient, summed over each sequence's response: [sequences], [1] of a dummy for none."""
    logprobs, _ = model.forward(sequences, 1.0)
    if not sequences:
        return logprobs
    index = model.per_token(sequences, list(range(len(sequences))), torch.int64)
    return torch.zeros(len(sequences), device=logprobs.device).index_add(0, index, logprobs)
