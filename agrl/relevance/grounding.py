"""Grounded references: the policy's own reading of a pair, and after it what is known of the pair.

No teacher and no hint: verdicts and tier come from gold, or from the policy's own answers where there is none, and only
what the rule book's own check finds sound is kept (compare STaR's rationalisation, arXiv 2203.14465).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from agrl.relevance.reading import reading_supports
from agrl.relevance.records import Example, Judgement
from agrl.relevance.rules import RuleBook

UNPARSED, UNSOUND, NO_GOLD, DISAGREE = "unparsed", "reading", "no gold", "disagreement"
REASONS = {
    UNPARSED: "no answer parses",
    UNSOUND: "no reading supports what is known",
    NO_GOLD: "gold is missing or contradicts the decision table",
    DISAGREE: "the answers disagree",
}
"""Why a pair gets no reference."""


class Gold(str, Enum):
    """What is known of a pair."""

    verdicts = "verdicts"  # every verdict, and the tier
    tier = "tier"  # the tier alone: verdicts are the policy's own that lead to it
    none = "none"  # nothing: what most of the policy's sound answers say


@dataclass(frozen=True)
class Answer:
    """One answer of the policy. ``judgement``: None where it does not parse. ``logprob``: mean of its tokens, nats."""

    judgement: Judgement | None
    logprob: float


@dataclass(frozen=True)
class Grounded:
    """A reference, or why there is none (a key of ``REASONS``). ``share``: of the answers that say the same."""

    judgement: Judgement | None
    reason: str = ""
    share: float = 0.0


def ground(book: RuleBook, example: Example, answers: Sequence[Answer], gold: Gold, agreement: float = 0.5) -> Grounded:
    """The best reference that the answers to one pair give.

    Of several sound ones the one whose readings most answers share, then the likeliest. ``agreement``: without gold,
    the share of all answers that must be sound and of one tier.
    """
    parsed = [answer for answer in answers if answer.judgement is not None]
    if not parsed:
        return Grounded(None, UNPARSED)
    if (complete := _COMPLETE[gold](book, example)) is None:
        return Grounded(None, NO_GOLD)
    found = [replace(answer, judgement=complete(answer.judgement)) for answer in parsed]
    sound = [answer for answer in found if answer.judgement and is_sound(book, answer.judgement)]
    if not sound:
        return Grounded(None, UNSOUND)
    if gold == Gold.none:
        tier, count = Counter(answer.judgement.tier for answer in sound).most_common(1)[0]
        if count < agreement * len(answers):
            return Grounded(None, DISAGREE)
        sound = [answer for answer in sound if answer.judgement.tier == tier]
    return _commonest(sound, len(answers))


def is_sound(book: RuleBook, judgement: Judgement) -> bool:
    """Whether the verdicts decide the tier and follow from the readings, as far as that can be checked."""
    return book.decide(judgement.verdicts) == judgement.tier and reading_supports(book, judgement) is not False


def _commonest(sound: Sequence[Answer], asked: int) -> Grounded:
    said = [(answer, repr(sorted(answer.judgement.readings.items()))) for answer in sound]
    counts = Counter(text for _, text in said)
    best, text = max(said, key=lambda pair: (counts[pair[1]], pair[0].logprob))
    return Grounded(best.judgement, share=counts[text] / asked)


Completing = Callable[[Judgement], Judgement | None]
"""An answer with what is known in the place of what it says; None where they cannot be brought together."""


def _with_verdicts(book: RuleBook, example: Example) -> Completing | None:
    known = {name: example.verdicts[name] for name in book.criteria if name in example.verdicts}
    if len(known) < len(book.criteria) or book.decide(known) != example.tier:
        return None
    return lambda said: Judgement(example.tier, known, said.readings)


def _with_tier(book: RuleBook, example: Example) -> Completing | None:
    """Its own verdicts where they lead to the tier and follow from its reading; else the first that do."""
    possible = book.possible_verdicts(example.tier, example.verdicts)
    if not possible:
        return None

    def complete(said: Judgement) -> Judgement | None:
        own = sorted(possible, key=lambda verdicts: verdicts != said.verdicts)
        found = (Judgement(example.tier, verdicts, said.readings) for verdicts in own)
        return next((judgement for judgement in found if is_sound(book, judgement)), None)

    return complete


def _with_nothing(book: RuleBook, example: Example) -> Completing:
    return lambda said: said


_COMPLETE = {Gold.verdicts: _with_verdicts, Gold.tier: _with_tier, Gold.none: _with_nothing}
