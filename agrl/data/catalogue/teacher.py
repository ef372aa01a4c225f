"""True judgements, and those of a simulated general-purpose teacher that does not know the shop's rules.

The teacher reads products well and is wrong in systematic ways: it overlooks what is to be avoided, takes an accessory
for the thing itself, calls a partial match a match, and has a decision table of its own. Its errors are nearly
deterministic, which makes its reasoning a poor thing to imitate and a hard habit to unlearn: the right answer is rarely
sampled.
"""

from __future__ import annotations

from random import Random

from agrl.data.catalogue.products import Item
from agrl.data.catalogue.queries import BRAND, KIND, Need, Wanted, verdict_of
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
    return _judgement(taxonomy, wanted.kind, wanted.needs, item, category, attributes, book)


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
        category = self.taxonomy.relation(kind, item.kind)
        belong = "accessory" in (category, self.taxonomy.relation(item.kind, kind))
        if belong and self._errs("accessory"):
            category = "same"
        if category == "substitute" and self._errs("substitute"):
            category = "unrelated"
        attributes = verdict_of(needs, item.facts)
        if attributes == "partial" and self._errs("partial"):
            attributes = "met"
        book = None if self._errs("table") else self.book
        return _judgement(self.taxonomy, kind, needs, item, category, attributes, book)

    def _read_query(self, wanted: Wanted) -> tuple[str, tuple[Need, ...]]:
        kind, needs = wanted.kind, []
        for need in wanted.needs:
            if need.name == KIND and self._errs("alternative"):
                kind = need.value
            elif not self._overlooks(need):
                needs.append(need)
        return kind, tuple(needs)

    def _overlooks(self, need: Need) -> bool:
        avoided = need.avoid and need.name != KIND
        return (avoided and self._errs("negation")) or (need.implicit and self._errs("implicit"))

    def _errs(self, name: str) -> bool:
        return self.rng.random() < getattr(self.errors, name)


def _judgement(
    taxonomy: Taxonomy,
    kind: str,
    needs: tuple[Need, ...],
    item: Item,
    category: str,
    attributes: str,
    book: RuleBook | None,
) -> Judgement:
    """A judgement in the words of a reading; without a rule book the tier is the teacher's own."""
    verdicts = {"category": category, "attributes": attributes}
    readings = {
        "query": join_items(kind, [need.text for need in needs]),
        "product": join_items(item.kind, features(taxonomy, needs, item)),
    }
    tier = TEACHER_TABLE[category, attributes] if book is None else book.decide(verdicts)
    return Judgement(tier=tier, verdicts=verdicts, readings=readings)


def features(taxonomy: Taxonomy, needs: tuple[Need, ...], item: Item) -> list[str]:
    """What the product has, its kind apart: attributes and brand in the listing's order, then the numbers asked about.

    All attributes and not only those that matter: a reading that repeats the query's words where it should look at the
    product would be right so often that a small model learns nothing else.
    """
    below = [n for n in taxonomy.kinds[item.kind].attributes if n in item.facts and n not in item.titled]
    numbers = [f"{need.name} {item.facts[need.name]}" for need in needs if need.side and need.name in item.facts]
    return [item.facts[name] for name in (*item.titled, BRAND, *below)] + numbers


def check_rulebook(book: RuleBook) -> None:
    """Raises DataError when the rule book does not judge by the catalogue's criteria and verdicts."""
    found = {name: set(criterion.verdicts) for name, criterion in book.criteria.items()}
    if found != VERDICTS or not {"query", "product"} <= book.sections.keys():
        wanted = "; ".join(f"{name}: {', '.join(sorted(verdicts))}" for name, verdicts in VERDICTS.items())
        raise DataError(
            f"the catalogue cannot be made for rule book {book.name}: it judges other criteria",
            hint=f"a rule book for it has the sections query and product and the criteria {wanted}",
        )
