"""What the network carries in one training step, by what it is for (docs/placement.md)."""

from __future__ import annotations

from dataclasses import dataclass

from agrl.config.schema import Config
from agrl.models.architecture import BYTES, Architecture


@dataclass(frozen=True)
class Traffic:
    """Bytes of a step. ``gradients``, ``gathers``: that each learner rank sends (and receives as many), of gradients
    that are added up and of weights that ZeRO gathers. ``weights``: that the learner's host sends to the engines.
    ``rollouts``: token ids and log-probabilities from the engines to the driver and on to the ranks.
    """

    gradients: int
    gathers: int
    weights: int
    rollouts: int
    ranks: int
    ranks_per_host: int

    @property
    def per_rank(self) -> int:
        return self.gradients + self.gathers

    @property
    def total(self) -> int:
        """Over all ranks and engines."""
        return self.per_rank * self.ranks + self.weights + self.rollouts

    @property
    def link(self) -> int:
        """Bytes that leave the busiest host: of the first learner rank."""
        return self.per_rank + self.weights + self.rollouts


def step_traffic(
    architecture: Architecture, config: Config, ranks: int, engines: int, learner_hosts: int = 1, engine_hosts: int = 1
) -> Traffic:
    """Bytes of one RL step: ``ranks`` learner ranks on ``learner_hosts``, ``engines`` on ``engine_hosts`` others."""
    a, learner, size = architecture, config.learner, BYTES[config.model.dtype]
    ring = (ranks - 1) / ranks
    steps = learner.optimizer_steps_per_batch
    weights = (a.adapters if a.lora_rank else a.parameters) * size * engine_hosts
    t = config.trainer
    tokens = t.prompts_per_step * t.rollouts_per_prompt * config.task.max_response_tokens
    return Traffic(
        gradients=round(2 * ring * a.trainable * size * steps),
        gathers=0,
        weights=weights,
        rollouts=tokens * 8 * 2,
        ranks=ranks,
        ranks_per_host=-(-ranks // learner_hosts),
    )
