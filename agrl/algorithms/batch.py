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


@dataclass
class Unit:
    """What a plan does not take apart: indices (of sequences with one prompt, or of a pair) and their tokens."""

    indices: list[int]
    tokens: int


def plan_minibatches(
    sequences: list[TrainSequence],
    optimizer_steps: int,
    ranks: int,
    micro_batch_tokens: int,
    aggregation: str = "token",
    max_response_tokens: int = 1,
    packing: str = "shared",
) -> list[Minibatch]:
    """Split a batch into optimizer steps, ranks and micro-batches of at most ``micro_batch_tokens`` tokens.

    Sequences keep their order across optimizer steps (so a group stays together). ``packing``: "shared", neighbours
    with an equal prompt stay together as far as the budget allows, and their prompt counts once; "packed", every
    sequence counts whole; "padded", as padded to the longest of its micro-batch. A sequence longer than the budget
    travels alone.
    ``aggregation`` and ``max_response_tokens``: see ``agrl.algorithms.aggregation.token_weights``.
    """
    bounds = np.linspace(0, len(sequences), min(optimizer_steps, len(sequences)) + 1).astype(int)
    plans = []
    for begin, end in pairwise(bounds):
        units = _units(sequences, range(begin, end), micro_batch_tokens, packing)
        micro = _deal(units, ranks, micro_batch_tokens, packing)
        lengths = np.array([len(sequences[i].response_ids) for i in range(begin, end)])
        weights = token_weights(lengths, aggregation, max_response_tokens)
        plans.append(Minibatch(micro, dict(zip(range(begin, end), weights.tolist(), strict=True))))
    return plans


def plan_pairs(pairs: list[PreferencePair], ranks: int, micro_batch_tokens: int, packing: str = "shared") -> Minibatch:
    """One optimizer step on pairs, split as ``plan_minibatches`` does; ``micro`` and ``weights`` are by pair.

    Both responses of a pair stay together, and every pair weighs the same.
    """
    units = []
    for i, pair in enumerate(pairs):
        one, other = pair.chosen, pair.rejected
        tokens = {
            "shared": one.length + _own_tokens(other, one),
            "packed": one.length + other.length,
            "padded": 2 * max(one.length, other.length),
        }
        units.append(Unit([i], tokens[packing]))
    weights = dict.fromkeys(range(len(pairs)), 1.0 / max(len(pairs), 1))
    return Minibatch(_deal(units, ranks, micro_batch_tokens, packing), weights)


def _units(sequences: list[TrainSequence], indices: range, budget: int, packing: str) -> list[Unit]:
    units: list[Unit] = []
    for i in indices:
        sharing = packing == "shared" and units
        own = _own_tokens(sequences[i], sequences[i - 1]) if sharing else sequences[i].length
        if own < sequences[i].length and units[-1].tokens + own <= budget:
            units[-1].indices.append(i)
            units[-1].tokens += own
        else:
            units.append(Unit([i], sequences[i].length))
    return units


def _own_tokens(sequence: TrainSequence, other: TrainSequence) -> int:
    """What ``sequence`` adds to a micro-batch that holds ``other``."""
    one, two = sequence.prompt_ids, other.prompt_ids
    same = one is two or np.array_equal(one, two)
    return len(sequence.response_ids) if same else sequence.length


def _deal(units: list[Unit], ranks: int, budget: int, packing: str) -> list[list[list[int]]]:
    """Each unit, the largest first, to the rank that has least; packed into micro-batches within the budget."""
    dealt: list[list[Unit]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for unit in sorted(units, key=lambda u: -u.tokens):
        rank = tokens.index(min(tokens))
        dealt[rank].append(unit)
        tokens[rank] += unit.tokens
    micro = [_fill(own, budget, packing) for own in dealt]
    most = max(len(m) for m in micro)
    return [m + [[] for _ in range(most - len(m))] for m in micro]


def _fill(largest_first: list[Unit], budget: int, packing: str) -> list[list[int]]:
    batches: list[list[Unit]] = []
    for unit in largest_first:
        if not batches or _cost([*batches[-1], unit], packing) > budget:
            batches.append([])
        batches[-1].append(unit)
    return [[i for unit in batch for i in unit.indices] for batch in batches]


def _cost(batch: list[Unit], packing: str) -> int:
    return len(batch) * max(u.tokens for u in batch) if packing == "padded" else sum(u.tokens for u in batch)
