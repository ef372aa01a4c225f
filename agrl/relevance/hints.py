"""Ground truth as guidance: hints that give some of it away in the prompt, and reference judgements to imitate."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from agrl.errors import DataError
from agrl.relevance.records import Example, Judgement
from agrl.relevance.response import one_line
from agrl.relevance.rules import TIER, RuleBook
from agrl.relevance.templates import compile_template


class Fact(NamedTuple):
    """One gold fact as a template sees it: the line's label and its right value."""

    label: str
    value: str


def hint_text(book: RuleBook, example: Example, level: int) -> str:
    """The hint of a level: the gold facts that the level names and the example has; "" when it has none, or at level 0.

    Raises DataError for a level that the rule book does not have.
    """
    if not 0 <= level <= len(book.hints.levels):
        raise DataError(
            f"hint level {level} of example {example.id!r}: rule book {book.name} has {len(book.hints.levels)} levels",
            hint="use a level from 0 (no hint) to the last one of hints.levels in the rule book",
        )
    names = book.hints.levels[level - 1] if level else ()
    facts = [fact for fact in (gold_fact(book, example, name) for name in names) if fact is not None]
    return compile_template(book.hints.template).render(facts=facts).strip() if facts else ""


def gold_fact(book: RuleBook, example: Example, name: str) -> Fact | None:
    """The gold value of a criterion, or of "tier"; None where the example has none."""
    if name == TIER:
        return Fact(book.tier_label, str(example.tier))
    verdict = example.verdicts.get(name)
    return None if verdict is None else Fact(book.criteria[name].label, one_line(verdict))


def hint_levels(book: RuleBook, example: Example) -> list[int]:
    """The levels, ascending, whose facts all have gold in this example."""
    return [
        level
        for level, names in enumerate(book.hints.levels, start=1)
        if all(name == TIER or name in example.verdicts for name in names)
    ]


def max_hint_level(book: RuleBook, example: Example) -> int:
    """The highest level whose facts all have gold in this example, 0 when there is none."""
    return max(hint_levels(book, example), default=0)


def reference_judgement(book: RuleBook, example: Example, complete: bool = False) -> Judgement | None:
    """A whole, right, rule-consistent judgement to imitate, or None when gold does not give one.

    The example's own reference where it agrees with everything gold; else gold verdicts and tier with the readings of
    the rule book's ``reading_fallback``. With ``complete``, verdicts without gold are filled in by a combination that
    decides the gold tier (the last in the file's order, so the strictest): good enough to teach the format of a
    response from labels alone, not to be counted as known.
    """
    reference = example.reference
    if reference is not None and _agrees(book, example, reference):
        return reference
    verdicts = {name: example.verdicts[name] for name in book.criteria if name in example.verdicts}
    possible = _possible(book, example.tier, tuple(verdicts.items()))
    if not possible or (len(verdicts) < len(book.criteria) and not complete):
        return None
    known = {"query": one_line(example.query), "title": one_line(example.product.title)}
    readings = {name: one_line(template.format(**known)) for name, template in book.reading_fallback.items()}
    return Judgement(tier=example.tier, verdicts=dict(possible[-1]), readings=readings)


@lru_cache(maxsize=4096)
def _possible(book: RuleBook, tier: int, known: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return book.possible_verdicts(tier, dict(known))


def _agrees(book: RuleBook, example: Example, reference: Judgement) -> bool:
    """Whether a reference is complete and says nothing that gold or the decision table contradicts."""
    return (
        reference.tier == example.tier
        and reference.readings.keys() == book.sections.keys()
        and reference.verdicts.keys() == book.criteria.keys()
        and all(reference.verdicts.get(name) == verdict for name, verdict in example.verdicts.items())
        and book.table.get(tuple(reference.verdicts[name] for name in book.criteria)) == reference.tier
    )
