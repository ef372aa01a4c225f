"""What a learner rank takes of its device's memory, part by part, before anything is loaded (docs/placement.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agrl.config.schema import Config
from agrl.models.architecture import BYTES, Architecture
from agrl.models.logprobs import LOGIT_ELEMENTS


@dataclass(frozen=True)
class LearnerMemory:
    """Bytes of one rank. The first four are there all the time, the last three one at a time beside them.

    ``weights``: that are computed with. ``gradients``: as they are accumulated. ``optimizer``: weights in float32 and
    Adam's two moments. ``reference``: the start model, where one is kept. ``activations``: of a micro-batch, with what
    its pass gathers and the logits of a chunk. ``update``: of an optimizer step. ``broadcast``: two buckets.
    """

    weights: int
    gradients: int
    optimizer: int
    reference: int
    activations: int
    update: int
    broadcast: int

    @property
    def steady(self) -> int:
        """What is there all the time."""
        return self.weights + self.gradients + self.optimizer + self.reference

    @property
    def peak(self) -> int:
        """The most there is at any time."""
        return self.steady + max(self.activations, self.update, self.broadcast)

    def parts(self) -> dict[str, int]:
        """Name -> bytes, in the order of the table."""
        return asdict(self)


def learner_memory(architecture: Architecture, config: Config, ranks: int) -> LearnerMemory:
    """Bytes of one of ``ranks`` learner ranks that trains ``architecture`` under ``config``."""
    a, learner, size = architecture, config.learner, BYTES[config.model.dtype]
    stage, all_weights = learner.zero_stage, a.parameters + a.adapters
    share = lambda n, from_stage: n / ranks if stage >= from_stage else n  # noqa: E731
    tokens = learner.micro_batch_tokens
    logits = 3 * 4 * min(LOGIT_ELEMENTS, tokens * a.vocabulary)
    kept = size * tokens * a.layers * (2 * a.hidden if config.model.gradient_checkpointing else 18 * a.hidden)
    reference = config.learner.kl_coef > 0 and not a.lora_rank
    return LearnerMemory(
        weights=round(share(all_weights, 3) * size),
        gradients=round(share(a.trainable, 2) * size),
        optimizer=round(share(a.trainable, 1) * 12),
        reference=a.parameters * size if reference else 0,
        activations=kept + logits,
        update=round(share(a.trainable, 1) * 4),
        broadcast=2 * 128 * 2**20,
    )
