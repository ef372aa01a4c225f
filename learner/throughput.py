"""What passes through the learner's models, in tokens and floating-point operations, against what the device can do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from agrl.algorithms.batch import TrainSequence
from agrl.models.layout import Batch


@dataclass(frozen=True)
class ModelCost:
    """What a dense decoder multiplies by: ``body`` and ``head``, the weights of its linear layers and of its output
    layer; ``frozen``: those of the body that are not trained; ``attention``: layers x heads x size of a head."""

    body: int
    head: int
    attention: int
    frozen: int = 0
    frozen_head: bool = False

    @classmethod
    def of(cls, lm: nn.Module) -> ModelCost:
        """Count a model that is whole in this process: before ZeRO-3 takes it apart."""
        output, config = lm.get_output_embeddings(), lm.config
        linear = [m.weight for m in lm.modules() if isinstance(m, nn.Linear) and m is not output]
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            body=sum(w.numel() for w in linear),
            head=output.weight.numel(),
            attention=config.num_hidden_layers * config.num_attention_heads * head_size,
            frozen=sum(w.numel() for w in linear if not w.requires_grad),
            frozen_head=not output.weight.requires_grad,
        )

    def operations(self, tokens: int, keys: int, predicted: int, backward: bool) -> float:
        """Floating-point operations for ``tokens`` that attend to ``keys`` in all, ``predicted`` of them scored.

        Two for each weight and token, four for each key and unit of attention (its two products); the backward pass
        costs twice as much, once for activations and once for weights (arXiv 2001.08361, appendix B). What is computed
        again to save memory does not count, nor does padding.
        """
        forward = 2.0 * self.body * tokens + 4.0 * self.attention * keys + 2.0 * self.head * predicted
        if not backward:
            return forward
        return 3 * forward - 2.0 * self.frozen * tokens - 2.0 * self.head * predicted * self.frozen_head


@dataclass
class Work:
    """Counts the forward passes of a model.

    ``computed``: tokens that passed through it, a shared prompt once, padding included; ``useful``: tokens of the
    sequences, each with a prompt of its own, which is what they would be without sharing and padding.
    """

    cost: ModelCost
    computed: int = 0
    useful: int = 0
    operations: float = 0.0

    def count(self, batch: Batch, sequences: list[TrainSequence], backward: bool) -> None:
        """Add one pass over ``batch``, which lays out ``sequences``."""
        lengths = [s.length for s in sequences] or [0]
        tokens, keys = sum(lengths), sum(n * (n + 1) // 2 for n in lengths)
        self.computed += batch.input_ids.numel()
        self.useful += tokens
        if batch.positions is not None:  # a packed token attends to as many as come before it in its sequence
            tokens, keys = batch.positions.numel(), int(batch.positions.sum()) + batch.positions.numel()
        self.operations += self.cost.operations(tokens, keys, len(batch.targets), backward)

    def sums(self) -> dict[str, float]:
        """To be added over ranks; begins anew."""
        found = {"work_computed": self.computed, "work_useful": self.useful, "work_operations": self.operations}
        self.computed, self.useful, self.operations = 0, 0, 0.0
        return found


@lru_cache(maxsize=4)
def peak_operations(dtype: str, device: str) -> float:
    """Floating-point operations a second of a large square matrix product here and now: the best of five."""
    size = 8192 if device.startswith("cuda") else 1024
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    best = float("inf")
    for _ in range(6):  # the first warms up
        begin = time.perf_counter()
        (a @ a)[0, 0].item()  # reading an element waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best


def throughput_metrics(sums: dict[str, float], seconds: float) -> dict[str, float]:
    """``learner/*`` metrics of one training call from sums over all ranks and the slowest rank's seconds."""
    return {
        "learner/seconds": seconds,
        "learner/computed_tokens_per_s": sums["work_computed"] / seconds,
        "learner/useful_tokens_per_s": sums["work_useful"] / seconds,
        "learner/flop_utilisation": sums["work_operations"] / seconds / sums["work_peak"],
    }
