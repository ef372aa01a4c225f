"""True judgements, and those of a simulated general-purpose teacher that does not know the shop's rules.

The teacher reads fluently and is wrong in systematic ways: it misses what is to be avoided, takes an accessory for the
thing itself, calls a partial match a match, and has a decision table of its own. What it says is consistent in its own
terms, which is what makes its reasoning a poor thing to imitate and a hard habit to unlearn: the right answer is rarely
sampled.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from agrl.data.catalogue.products import Item
from agrl.data.catalogue.queries import KIND, Need, Wanted, verdict_of
from agrl.data.catalogue.spec import TeacherErrors
from agrl.data.catalogue.taxonomy import Taxonomy
from agrl.errors import DataError
from agrl.relevance.reading import join_items
from agrl.relevance.records import Judgement
from agrl.relevance.rules import RuleBook

VERDICTS = {
    "category": {"same", "substitute", "accessory", "unrelated"},
    "attributes": {"met", "partial", "unmet"},
}
"""The criteria, with their verdicts, of every rule book that the catalogue can be made for."""

TEACHER_TABLE = {
    ("same", "met"): 4,
    ("same", "partial"): 4,
    ("same", "unmet"): 1,
    ("substitute", "met"): 2,
    ("substitute", "partial"): 1,
    ("substitute", "unmet"): 1,
    ("accessory", "met"): 4,
    ("accessory", "partial"): 4,
    ("accessory", "unmet"): 3,
    ("unrelated", "met"): 2,
    ("unrelated", "partial"): 2,
    ("unrelated", "unmet"): 1,
}
"""(category, attributes) -> the tier that the teacher finds natural."""


def true_judgement(book: RuleBook, taxonomy: Taxonomy, wanted: Wanted, item: Item) -> Judgement:
    """The exact judgement: true readings, gold verdicts, and the tier that the rule book decides."""
    category = taxonomy.relation(wanted.kind, item.kind)
    attributes = wanted.attributes_verdict(item.facts)
    return _judgement(wanted.kind, wanted.needs, item.kind, item, category, attributes, book=book)


class Teacher:
    """The simulated teacher. All randomness comes from ``rng``."""

    def __init__(self, book: RuleBook, taxonomy: Taxonomy, errors: TeacherErrors, rng: Random) -> None:
        self.book = book
        self.taxonomy = taxonomy
        self.errors = errors
        self.rng = rng

    def judge(self, wanted: Wanted, item: Item) -> Judgement:
        """The teacher's judgement: its readings, its verdicts on them, its tier."""
        kind, needs = self._read_query(wanted)
        offered = self._read_kind(item.kind)
        category = self.taxonomy.relation(kind, offered)
        if category == "substitute" and self._errs("substitute"):
            category = "unrelated"
        attributes = verdict_of(needs, item.facts)
        if attributes == "partial" and self._errs("partial"):
            attributes = "met"
        book = None if self._errs("table") else self.book
        return _judgement(kind, needs, offered, item, category, attributes, book)

    def _read_query(self, wanted: Wanted) -> tuple[str, tuple[Need, ...]]:
        kind, needs = wanted.kind, []
        for need in wanted.needs:
            if need.name == KIND and self._errs("alternative"):
                kind = need.value
            elif need.name != KIND and need.avoid and self._errs("negation"):
                needs += [] if need.aside else [replace(need, avoid=False)]
            elif not (need.implicit and self._errs("implicit")):
                needs.append(need)
        return self._read_kind(kind), tuple(needs)

    def _read_kind(self, name: str) -> str:
        host = self.taxonomy.kinds[name].host
        return host if host and self._errs("accessory") else name

    def _errs(self, name: str) -> bool:
        return self.rng.random() < getattr(self.errors, name)


def _judgement(
    kind: str, needs: tuple[Need, ...], offered: str, item: Item, category: str, attributes: str, book: RuleBook | None
) -> Judgement:
    """A judgement in the words of a reading; without a rule book the tier is the teacher's own."""
    verdicts = {"category": category, "attributes": attributes}
    readings = {
        "query": join_items(kind, [need.text for need in needs]),
        "product": join_items(offered, features(needs, item)),
    }
    tier = TEACHER_TABLE[category, attributes] if book is None else book.decide(verdicts)
    return Judgement(tier=tier, verdicts=verdicts, readings=readings)


def features(needs: tuple[Need, ...], item: Item) -> list[str]:
    """What the product has of what is asked about: "electric", "price 40". Its kind is stated apart."""
    return [
        f"{need.name} {item.facts[need.name]}" if need.side else item.facts[need.name]
        for need in needs
        if need.name != KIND and need.name in item.facts
    ]


def check_rulebook(book: RuleBook) -> None:
    """Raises DataError when the rule book does not judge by the catalogue's criteria and verdicts."""
    found = {name: set(criterion.verdicts) for name, criterion in book.criteria.items()}
    if found != VERDICTS or not {"query", "product"} <= book.sections.keys():
        wanted = "; ".join(f"{name}: {', '.join(sorted(verdicts))}" for name, verdicts in VERDICTS.items())
        raise DataError(
            f"the catalogue cannot be made for rule book {book.name}: it judges other criteria",
            hint=f"a rule book for it has the sections query and product and the criteria {wanted}",
        )
