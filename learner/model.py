"""One rank's share of the model in training: its forward passes, what tokens weigh, and the checked optimizer step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from agrl.algorithms.batch import Minibatch, TrainSequence
from agrl.errors import DivergenceError
from agrl.models.layout import LAYOUTS, Batch
from learner.throughput import Work

NOTHING = np.zeros(1, np.int32)


class Engine(Protocol):
    """What trains: ``learner.engine.TrainingEngine``."""

    @property
    def device(self) -> torch.device: ...

    def logprobs(
        self, batch: Batch, temperature: float, entropy_gradient: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def backward(self, loss: torch.Tensor) -> None: ...

    def step(self, lr: float) -> float: ...


Reference = Callable[[Batch, float], tuple[torch.Tensor, torch.Tensor]]
"""The start model: log-probabilities and entropies of the response tokens of a batch at a temperature."""


@dataclass
class StepSums:
    """Statistics of one training call on one rank: ``total`` adds over ranks, ``maximum`` takes the largest."""

    total: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    maximum: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.total[name] += float(value)


@dataclass
class Model:
    """The engine of rank ``rank`` of ``world``, and what passes through it.

    ``reference``: the start model, where one is needed.

    ``packing``: how sequences are laid out, of ``LAYOUTS``; the models must have been prepared for it.
    """

    engine: Engine
    work: Work
    reference: Reference | None = None
    rank: int = 0
    world: int = 1
    packing: str = "shared"

    def forward(
        self,
        sequences: list[TrainSequence],
        temperature: float,
        entropy_gradient: bool = False,
        reference: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of the response tokens, [tokens] each, those of a dummy for no sequences.

        With gradient where it is enabled; ``reference``: under the start model.
        """
        prompts, responses = [s.prompt_ids for s in sequences], [s.response_ids for s in sequences]
        batch = LAYOUTS[self.packing](prompts or [NOTHING], responses or [NOTHING])
        self.work.count(batch, sequences, torch.is_grad_enabled())
        if reference:
            return self.reference(batch.to(self.engine.device), temperature)
        return self.engine.logprobs(batch, temperature, entropy_gradient)

    def micro_batches(self, minibatch: Minibatch) -> list[list[int]]:
        """This rank's micro-batches, each a list of indices; empty ones keep the ranks' collectives in step."""
        return minibatch.micro[self.rank]

    @torch.no_grad()
    def frozen_logprobs(
        self, sequences: list[TrainSequence], plan: list[Minibatch], temperature: float, reference: bool = False
    ) -> dict[int, np.ndarray]:
        """Log-probabilities of this rank's responses as they are now: index -> float32 [T]."""
        found: dict[int, np.ndarray] = {}
        for minibatch in plan:
            for micro in self.micro_batches(minibatch):
                batch = [sequences[i] for i in micro]
                logprobs, _ = self.forward(batch, temperature, reference=reference)
                found.update(zip(micro, split(logprobs, batch), strict=False))
        return found

    def token_weights(self, sequences: list[TrainSequence], minibatch: Minibatch, micro: list[int]) -> torch.Tensor:
        """What every token weighs in the loss, float32 [tokens]: 0 for the dummy of an empty micro-batch."""
        if not micro:
            return torch.zeros(1, device=self.engine.device)
        return self.per_token([sequences[i] for i in micro], [minibatch.weights[i] for i in micro], torch.float32)

    def per_token(self, sequences: list[TrainSequence], values: list, dtype: torch.dtype) -> torch.Tensor:
        """One value a sequence, repeated for each of its response tokens: [tokens]."""
        lengths = torch.tensor([len(s.response_ids) for s in sequences])
        return torch.tensor(values, dtype=dtype).repeat_interleave(lengths).to(self.engine.device)

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradient of this rank's part of a sum over all ranks."""
        self.engine.backward(loss * self.world)  # the engine averages over ranks

    def step(self, sums: StepSums, lr: float) -> None:
        """Apply what was accumulated. Raises DivergenceError when the loss or the gradient is not finite."""
        if not np.isfinite(sums.total["loss"]):
            raise DivergenceError(
                f"the loss is not finite on learner rank {self.rank}; the weights were not updated",
                hint="lower learner.lr or learner.max_grad_norm and resume from the last checkpoint",
            )
        norm = self.engine.step(lr)
        sums.maximum["grad_norm"] = max(sums.maximum["grad_norm"], norm) if np.isfinite(norm) else norm
        if not np.isfinite(norm):
            raise DivergenceError(
                f"the gradient norm is not finite on learner rank {self.rank}",
                hint="lower learner.lr and resume from the last checkpoint: the weights of this process are spoilt",
            )


def split(values: torch.Tensor, sequences: list[TrainSequence]) -> Iterable[np.ndarray]:
    """Values of all response tokens [tokens] as one array a sequence; nothing for no sequences."""
    if not sequences:
        return []
    return np.split(values.detach().cpu().numpy(), np.cumsum([len(s.response_ids) for s in sequences])[:-1])
