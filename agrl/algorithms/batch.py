"""What the learner trains on: sequences with named, shape-annotated arrays, and the plan that splits them.

The plan is made in one place, before anything is sent to a rank, so that every token weighs the same whatever the
micro-batch size, the accumulation and the data-parallel size are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from agrl.algorithms.aggregation import token_weights
from agrl.relevance.records import Provenance


@dataclass
class TrainSequence:
    """One prompt and response to train on.

    ``prompt_ids`` int32 [P], ``response_ids`` int32 [T]; ``rollout_logprobs`` float32 [T], nats, of the behaviour
    policy; ``advantage`` of the whole response (ignored by SFT); ``provenance`` selects the loss of its tokens;
    ``version`` and ``actor`` say which weights and which rollout actor produced it, -1 where none did.
    """

    prompt_ids: np.ndarray
    response_ids: np.ndarray
    rollout_logprobs: np.ndarray
    advantage: float = 0.0
    provenance: Provenance = Provenance.ON_POLICY
    version: int = -1
    actor: int = -1

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass
class PreferencePair:
    """Two responses to one prompt, the first preferred; ``reference_*``: their log-probabilities (summed over tokens,
    nats) under the model that training starts from."""

    chosen: TrainSequence
    rejected: TrainSequence
    reference_chosen: float = 0.0
    reference_rejected: float = 0.0


@dataclass(frozen=True)
class Minibatch:
    """One optimizer step: ``micro[rank]`` is that rank's list of micro-batches, each a list of sequence indices.

    Every rank has the same number of micro-batches (empty ones at the end), because collectives need it.
    ``weights``: sequence index -> what each of its tokens weighs in the loss, which is a plain sum over all ranks and
    micro-batches: every denominator is in here.
    """

    micro: list[list[list[int]]]
    weights: dict[int, float]


def plan_minibatches(
    sequences: list[TrainSequence],
    optimizer_steps: int,
    ranks: int,
    micro_batch_tokens: int,
    aggregation: str = "token",
    max_response_tokens: int = 1,
) -> list[Minibatch]:
    """Split a batch into optimizer steps, ranks and micro-batches of at most ``micro_batch_tokens`` padded tokens.

    Sequences keep their order across optimizer steps (so a group stays together); inside a step they are dealt to the
    ranks by length, and each rank's are packed longest first. A sequence longer than the budget travels alone.
    ``aggregation`` and ``max_response_tokens``: see ``agrl.algorithms.aggregation.token_weights``.
    """
    bounds = np.linspace(0, len(sequences), min(optimizer_steps, len(sequences)) + 1).astype(int)
    plans = []
    for begin, end in pairwise(bounds):
        micro = _deal({i: sequences[i].length for i in range(begin, end)}, ranks, micro_batch_tokens)
        lengths = np.array([len(sequences[i].response_ids) for i in range(begin, end)])
        weights = token_weights(lengths, aggregation, max_response_tokens)
        plans.append(Minibatch(micro, dict(zip(range(begin, end), weights.tolist(), strict=True))))
    return plans


def plan_pairs(pairs: list[PreferencePair], ranks: int, micro_batch_tokens: int) -> Minibatch:
    """One optimizer step on pairs, split as ``plan_minibatches`` does; ``micro`` and ``weights`` are by pair.

    Both responses of a pair stay together, and every pair weighs the same.
    """
    lengths = {i: 2 * max(pair.chosen.length, pair.rejected.length) for i, pair in enumerate(pairs)}
    return Minibatch(_deal(lengths, ranks, micro_batch_tokens), dict.fromkeys(lengths, 1.0 / max(len(pairs), 1)))


def _deal(lengths: dict[int, int], ranks: int, budget: int) -> list[list[list[int]]]:
    """Indices dealt to the ranks by length and packed into micro-batches of at most ``budget`` padded tokens."""
    by_length = sorted(lengths, key=lambda i: (-lengths[i], i))
    micro = [_fill(by_length[rank::ranks], lengths, budget) for rank in range(ranks)]
    most = max(len(m) for m in micro)
    return [m + [[] for _ in range(most - len(m))] for m in micro]


def _fill(longest_first: list[int], lengths: dict[int, int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in longest_first:
        width = lengths[batches[-1][0]] if batches else 0  # the padded width: its first is its longest
        if not batches or width * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(index)
    return batches
