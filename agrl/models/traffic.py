"""What the network carries in one training step, by what it is for (docs/placement.md).

Collectives are rings: of r members each sends (r - 1) / r of what is gathered or scattered, and twice that where it is
added up everywhere (all-reduce). ZeRO's are those of arXiv 1910.02054, section 7, as DeepSpeed is asked for them here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agrl.config.schema import Config, Packing, Transport
from agrl.models.architecture import BYTES, Architecture

TOKEN_BYTES = 4  # an id, int32
SAMPLED_BYTES = 8  # an id and its log-probability, float32


@dataclass(frozen=True)
class Traffic:
    """Bytes of a step.

    ``gradients``, ``gathers``: that each learner rank sends, and receives as many: gradients that are added up, weights
    that ZeRO gathers. ``weights``: on their way to engines, once for each host that they go to; ``weights_out``: of
    these what leaves the first rank's host, where a chain of hosts takes one copy. ``rollouts``: prompts to the
    engines, answers from them and on to the ranks' hosts.
    """

    gradients: int
    gathers: int
    weights: int
    weights_out: int
    rollouts: int
    ranks: int
    learner_hosts: int

    @property
    def per_rank(self) -> int:
        """Bytes that a rank sends to other ranks."""
        return self.gradients + self.gathers

    @property
    def total(self) -> int:
        """Over all ranks and engines, whether or not they share a host."""
        return self.per_rank * self.ranks + self.weights + self.rollouts

    @property
    def link(self) -> int:
        """Bytes that leave the host of the first rank at most: of a ring one rank of a host sends to another host."""
        return (self.per_rank if self.learner_hosts > 1 else 0) + self.weights_out + self.rollouts


def step_traffic(
    architecture: Architecture, config: Config, ranks: int, engines: int, learner_hosts: int = 1, engine_hosts: int = 1
) -> Traffic:
    """Bytes of one RL step of full length: ``ranks`` learner ranks on ``learner_hosts`` hosts, ``engines`` of which
    some are on ``engine_hosts`` hosts other than that of the first rank."""
    a, size, stage = architecture, BYTES[config.model.dtype], config.learner.zero_stage
    ring = (ranks - 1) / ranks
    updates, (passes, forwards) = config.learner.optimizer_steps_per_batch, _passes(config, ranks)
    trained = a.trainable * size
    travelling = (a.adapters if a.lora_rank else a.parameters) * size
    gradients = ring * trained * (2 * updates if stage < 2 else 2 * passes if stage == 2 else passes)
    gathers = 0.0
    if stage in (1, 2):
        gathers = ring * trained * updates
    if stage == 3:
        large = a.parameters + a.adapters - a.small - a.small_adapters
        backward = passes * (2 if config.model.gradient_checkpointing else 1)
        gathers = ring * size * (large * (forwards + backward)) + ring * travelling
    away = 0 if config.sync.transport == Transport.ipc else engine_hosts
    out = min(away, 1) if config.sync.transport == Transport.collective else away
    return Traffic(
        gradients=round(gradients),
        gathers=round(gathers),
        weights=away * travelling,
        weights_out=out * travelling,
        rollouts=_rollouts(config, learner_hosts),
        ranks=ranks,
        learner_hosts=learner_hosts,
    )


def _passes(config: Config, ranks: int) -> tuple[int, int]:
    """Backward passes of a rank in a step, and forward passes: beside those of the loss, the old log-probabilities of
    all minibatches but the first, and the start model's under low-rank updates."""
    t, c = config.trainer, config.learner
    prompt, response = config.task.max_prompt_tokens, config.task.max_response_tokens
    group = t.rollouts_per_prompt
    shared = c.packing == Packing.shared
    tokens = t.prompts_per_step * (prompt + group * response if shared else group * (prompt + response))
    of_update = max(1, math.ceil(tokens / (c.optimizer_steps_per_batch * ranks * c.micro_batch_tokens)))
    backward = of_update * c.optimizer_steps_per_batch
    again = of_update * (c.optimizer_steps_per_batch - 1)
    reference = backward if c.kl_coef > 0 and config.model.lora_rank else 0
    return backward, backward + again + reference


def _rollouts(config: Config, learner_hosts: int) -> int:
    """Each prompt to its engine; each answer to the driver, and with its prompt to every host of ranks."""
    t = config.trainer
    prompt = config.task.max_prompt_tokens * TOKEN_BYTES
    answer = config.task.max_response_tokens * SAMPLED_BYTES
    to_engines, answers = t.prompts_per_step * prompt, t.prompts_per_step * t.rollouts_per_prompt * answer
    return to_engines + answers + learner_hosts * (t.prompts_per_step * t.rollouts_per_prompt * prompt + answers)
