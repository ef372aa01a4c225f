"""Cross-entropy on responses: the supervised start."""

from __future__ import annotations

from agrl.algorithms.batch import Minibatch, TrainSequence
from learner.model import Model, StepSums


def train_sft(model: Model, sequences: list[TrainSequence], plan: list[Minibatch], lr: float) -> StepSums:
    """One optimizer step a minibatch, its tokens weighted by the plan."""
    sums = StepSums()
    for minibatch in plan:
        for micro in model.micro_batches(minibatch):
            logprobs, _ = model.forward([sequences[i] for i in micro], 1.0)
            loss = -(logprobs * model.token_weights(sequences, minibatch, micro)).sum()
            model.backward(loss)
            sums.add({"loss": loss.item(), "tokens": len(logprobs) if micro else 0})
        model.step(sums, lr)
    return sums
