"""What a learner rank takes of its device's memory, part by part, before anything is loaded (docs/placement.md).

Weights, gradients and optimizer are those of ZeRO (arXiv 1910.02054, section 3 and figure 1), activations are counted
as in arXiv 2205.05198 (section 4.1), for a decoder with gated feed-forward layers and RMS norms and without dropout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agrl.config.schema import Config
from agrl.models.architecture import BYTES, Architecture
from agrl.models.logprobs import LOGIT_ELEMENTS
from agrl.transport.checksum import CHUNK
from agrl.transport.parcel import BUCKET_BYTES

REDUCE_BUCKET = 500_000_000
"""Numbers of the buffer in which ZeRO adds up gradients, at most (DeepSpeed's default): ``learner.engine`` asks for one
that holds all that is trained where that is less."""
MAX_LIVE = 1_000_000_000
"""Numbers of the weights that ZeRO-3 keeps gathered at a time: DeepSpeed's ``stage3_max_live_parameters``."""


@dataclass(frozen=True)
class LearnerMemory:
    """Bytes of one rank. The first five are there all the time, the next three one at a time beside them.

    ``weights``: that are computed with. ``gradients``: as they are accumulated. ``optimizer``: weights in float32 and
    Adam's two moments. ``buckets``: in which ZeRO adds up gradients. ``reference``: the start model, where one is kept.
    ``activations``: of a micro-batch, with the logits of a chunk and the weights that ZeRO-3 gathers. ``update``: of an
    optimizer step. ``broadcast``: two buckets of weights on their way to the engines, and a weight that is gathered.
    """

    weights: int
    gradients: int
    optimizer: int
    buckets: int
    reference: int
    activations: int
    update: int
    broadcast: int

    @property
    def steady(self) -> int:
        """What is there all the time."""
        return self.weights + self.gradients + self.optimizer + self.buckets + self.reference

    @property
    def peak(self) -> int:
        """The most there is at any time."""
        return self.steady + max(self.activations, self.update, self.broadcast)

    def parts(self) -> dict[str, int]:
        """Name -> bytes, in the order of the table."""
        return asdict(self)


def learner_memory(architecture: Architecture, config: Config, ranks: int) -> LearnerMemory:
    """Bytes of one of ``ranks`` learner ranks that trains ``architecture`` under ``config``.

    Ranks with a GPU of their own (learner.gpus_per_rank) are reckoned as on a GPU, others as on a CPU.
    """
    a, stage, size = architecture, config.learner.zero_stage, BYTES[config.model.dtype]
    on_gpu, mixed = config.learner.gpus_per_rank > 0, size < 4
    held, trained = a.parameters + a.adapters, a.trainable
    share = trained / ranks if stage >= 1 else trained  # that this rank's optimizer updates
    weights = held * size
    if stage == 3:  # a shard, and beside it what is kept whole
        small = a.small + a.small_adapters
        weights = held * size / ranks + small * size
    bucket = min(REDUCE_BUCKET, trained) * size if stage else 0
    masters = 4 if mixed or stage else 0
    reference = config.learner.kl_coef > 0 and not a.lora_rank
    return LearnerMemory(
        weights=round(weights),
        gradients=round((share if stage >= 2 else trained) * size),
        optimizer=round(share * (masters + 8)),
        buckets=bucket,
        reference=a.parameters * size if reference else 0,
        # from stage 2 on a micro-batch's gradients are added to those that are there
        activations=activation_bytes(a, config) + gathered_bytes(a, config, ranks) + round(size * share * (stage >= 2)),
        update=round(_update(a, stage, share, mixed, on_gpu)),
        broadcast=broadcast_bytes(a, config, ranks),
    )


def _update(a: Architecture, stage: int, share: float, mixed: bool, on_gpu: bool) -> float:
    """The gradient in float32, and what Adam makes beside its state: the root of the second moment, on a CPU twice.

    Without ZeRO a CPU goes weight by weight; all else is one flat tensor, or as good as one (torch's ``foreach``).
    """
    gradient = 4 * share if mixed or stage else 0
    if stage == 0 and not on_gpu:
        return gradient + 8 * (a.largest_adapter if a.lora_rank else a.largest)
    return gradient + (4 if on_gpu else 8) * share


def checkpoint_bytes(a: Architecture, config: Config, ranks: int) -> list[int]:
    """Bytes that each rank writes into a checkpoint, or into a snapshot: without what is frozen, but for an output
    layer that is tied to the embedding, which DeepSpeed writes all the same below ZeRO-3.

    Without ZeRO rank 0 writes all; ZeRO 1 and 2 write the weights once and float32 ones beside them, ZeRO 3 only these.
    """
    stage, size, trained = config.learner.zero_stage, BYTES[config.model.dtype], a.trainable
    states = 12 * trained / ranks if stage else (12 if size < 4 else 8) * trained
    first = 0 if stage == 3 else size * (trained + (a.embedding if a.lora_rank and a.tied else 0))
    others = states if stage else 0
    return [round(first + states), *[round(others)] * (ranks - 1)]


def activation_bytes(a: Architecture, config: Config) -> int:
    """What a pass over ``learner.micro_batch_tokens`` keeps for its backward half, and works with at its peak.

    The logits of a chunk exist three times in float32 (with their logarithm and their softmax); with an entropy bonus
    five times in the backward pass.
    """
    size, tokens = BYTES[config.model.dtype], config.learner.micro_batch_tokens
    work = tokens * 3 * a.intermediate * size  # gradients within a feed-forward layer
    if config.model.gradient_checkpointing:
        work += tokens * block_bytes(a, size)  # a block computed again
    chunk = min(LOGIT_ELEMENTS // a.vocabulary * a.vocabulary, tokens * a.vocabulary)
    head = (5 if config.learner.entropy_coef > 0 else 3) * 4 * chunk
    if not a.lora_rank:
        head += a.vocabulary * a.hidden * size  # the gradient of the output layer of one chunk
    return kept_bytes(a, config) + max(head, work)


def kept_bytes(a: Architecture, config: Config) -> int:
    """What the forward pass keeps, but for logits: of all blocks, or of each its input (arXiv 1604.06174)."""
    size = BYTES[config.model.dtype]
    block = a.hidden * size if config.model.gradient_checkpointing else block_bytes(a, size)
    last = (4 if a.lora_rank else 4 + size) * a.hidden + a.hidden * size  # the last norm, and what the head is given
    angles = 2 * a.head_dim * size  # of rotary positions
    return config.learner.micro_batch_tokens * (a.layers * block + last + angles)


def block_bytes(a: Architecture, size: int) -> int:
    """Bytes that the forward pass of a block keeps of one token, where a number of the model has ``size`` bytes.

    Norms keep their input in float32 and what it is scaled to, linear layers their input, attention its query, key,
    value and log-sum-exp, the gated layer its two halves and the activated one. Frozen norms keep their input alone;
    low-rank updates what passes between their factors.
    """
    query, key = a.heads * a.head_dim, a.kv_heads * a.head_dim
    normed = 2 * a.hidden + (query + key if a.query_norm else 0)
    norms = normed * (4 if a.lora_rank else 4 + size)
    inputs = size * (2 * a.hidden + query + a.intermediate)
    attention = size * (query + 2 * key) + 4 * a.heads
    return norms + inputs + attention + size * 3 * a.intermediate + size * 7 * a.lora_rank


def gathered_bytes(a: Architecture, config: Config, ranks: int) -> int:
    """Weights that ZeRO-3 gathers for a pass at most, and the gradients of a bucket put in order for all ranks."""
    if config.learner.zero_stage < 3 or ranks == 1:
        return 0
    size = BYTES[config.model.dtype]
    large = a.parameters + a.adapters - a.small - a.small_adapters
    return size * (min(large, MAX_LIVE + a.block) + min(REDUCE_BUCKET, a.trainable))


def broadcast_bytes(a: Architecture, config: Config, ranks: int) -> int:
    """Two buckets, one filled while the other leaves, each large enough for the largest weight (one where all fits);
    in ZeRO-3 that weight whole, and what its checksum widens. Of low-rank updates these alone. The object store takes
    less of a GPU: its buckets lie on the CPU."""
    size, stage = BYTES[config.model.dtype], config.learner.zero_stage
    travelling, largest = (a.adapters, a.largest_adapter) if a.lora_rank else (a.parameters, a.largest)
    bucket = max(BUCKET_BYTES, largest * size)
    buckets = 2 if travelling * size > bucket else 1
    widened = 4 * min(CHUNK["cuda" if config.learner.gpus_per_rank else "cpu"], largest) if size < 4 else 0
    return buckets * bucket + (largest * size if stage == 3 else 0) + widened
