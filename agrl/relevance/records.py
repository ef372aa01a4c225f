"""The records that every part of the system passes round: examples, judgements, rollouts, scores, groups.

Plain data, no behaviour beyond small derived facts. Nothing here knows Ray, vLLM, DeepSpeed or torch; token ids and
log-probabilities are numpy arrays so that they cross a Ray boundary without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np

TIERS = (4, 3, 2, 1)
"""The relevance tiers, best first: 4 Excellent, 3 Related, 2 Mismatch, 1 Irrelevant."""

GOOD_TIERS = (4, 3)
"""Tiers that count as *good* in good-versus-bad metrics; the others are *bad*."""


class Order(str, Enum):
    """What a response states, and where in it the tier stands."""

    think_then_respond = "think_then_respond"  # readings, verdicts, tier
    respond_then_think = "respond_then_think"  # tier, readings, verdicts
    verdicts_only = "verdicts_only"  # verdicts and tier, no readings: a classifier of several labels
    tier_only = "tier_only"  # the tier and no reasoning: a classifier, to compare with

    @property
    def reads(self) -> bool:
        """Whether a response states what it has understood."""
        return self in (Order.think_then_respond, Order.respond_then_think)


class RewardMode(str, Enum):
    """Which rewards a response earns."""

    rules = "rules"  # the weighted, gated sum of the rule book's components (RRS)
    decomposed = "decomposed"  # every component normalised inside its group, then summed (GDPO)
    sparse = "sparse"  # the tier alone: the standard GRPO baseline


@dataclass(frozen=True)
class Product:
    """A product as the shop describes it. Only ``title`` is required."""

    title: str
    category: str = ""  # category path, "Home > Kitchen > Grinders"
    brand: str = ""
    attributes: dict[str, str] = field(default_factory=dict)  # name -> value
    text: str = ""  # free description


@dataclass(frozen=True)
class Judgement:
    """What a response (or a teacher, or a person) says about one query-product pair.

    ``readings``: section name -> the stated understanding, for the sections that the rule book names.
    ``verdicts``: criterion name -> verdict name, for every criterion of the rule book; empty, like the readings, where
    the tier alone was asked for.
    """

    tier: int
    verdicts: dict[str, str]
    readings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ParseFailure:
    """Why a response is not a judgement. ``reason`` is one of ``agrl.relevance.parse.REASONS``."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Example:
    """One query-product pair with what is known about it.

    ``tier`` and ``verdicts`` are gold (human or exact); a criterion missing from ``verdicts`` has no gold verdict,
    and a pair that nobody has judged has the tier None.
    ``reference`` is a whole judgement with reasoning to imitate: a teacher's, which may be wrong where gold is right.
    ``hint_level`` > 0 (SFT rows only) shows the gold hint of that level in the prompt, so that hints are learned.
    """

    id: str
    query: str
    product: Product
    tier: int | None
    verdicts: dict[str, str] = field(default_factory=dict)
    reference: Judgement | None = None
    segment: str = "plain"
    hint_level: int = 0


class Provenance(IntEnum):
    """Where a trained token came from; selects its loss term, token by token."""

    MASKED = 0  # not trained (prompt, padding)
    ON_POLICY = 1  # sampled by the policy under the prompt it is trained on: clipped surrogate
    EXPERT = 2  # ground-truth trajectory, behaviour probability taken as 1: shaped, no clip (LUFFY)
    TRANSFER = 3  # sampled under a hinted prompt, trained under the un-hinted one (HINT)


@dataclass
class Rollout:
    """One sampled (or guided) response with everything needed to train on it.

    ``prompt_ids`` int32 [P]: the prompt it is *trained* under. ``response_ids`` int32 [T]: exactly what was sampled,
    end-of-sequence token included. ``logprobs`` float32 [T], nats: the behaviour policy's, of the distribution that
    was sampled from; all zero for EXPERT tokens. ``version``: of the weights that sampled its first token (-1: no
    policy did). ``spans``: (version, tokens) one after another, where new weights came while it was sampled.
    ``actor``: index of the rollout actor (-1: none).
    """

    example_id: str
    prompt_ids: np.ndarray
    response_ids: np.ndarray
    logprobs: np.ndarray
    text: str
    version: int
    actor: int = -1
    finish_reason: str = "stop"  # "stop", or "length" when cut off at the token limit
    hint_level: int = 0
    provenance: Provenance = Provenance.ON_POLICY
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def versions(self) -> tuple[tuple[int, int], ...]:
        """(version of the weights, tokens that they sampled), the oldest first."""
        return self.spans or ((self.version, len(self.response_ids)),)


@dataclass(frozen=True)
class Component:
    """One reward component of one response: a value in [0, 1], or invalid with the reason."""

    value: float
    valid: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Score:
    """A response judged against gold.

    ``components``: name -> Component, every name of the rule book's reward. ``total``: the weighted, gated sum;
    NaN with ``valid`` False when nothing could be computed. ``correct``: the stated tier is the gold tier.
    ``sound``: correct, every known verdict right, consistent with the decision table, and the verdicts follow
    from the response's own stated reading (where the rule book can check that); what guidance accepts.
    """

    total: float
    valid: bool
    components: dict[str, Component]
    correct: bool
    consistent: bool
    sound: bool
    judgement: Judgement | None
    failure: str = ""  # ParseFailure.reason, "" when parsed


@dataclass
class ScoredGroup:
    """All rollouts of one prompt in one step, with their scores (same order and length)."""

    example: Example
    rollouts: list[Rollout]
    scores: list[Score]

    @property
    def correct_fraction(self) -> float:
        """Share of the group's rollouts whose tier is right, 0 for an empty group."""
        return sum(s.correct for s in self.scores) / len(self.scores) if self.scores else 0.0
