"""The rule book as data in memory: tiers, criteria, the decision table, reward and wording.

Plain frozen records that pickle; ``agrl.relevance.rulebook`` reads them from YAML and checks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from agrl.errors import DataError
from agrl.relevance.records import TIERS, Order

FORMAT, READING, CONSISTENCY, TIER = "format", "reading", "consistency", "tier"
"""The reward components beside the criteria; ``reading`` only where the rule book can check readings."""


@dataclass(frozen=True)
class TierText:
    """What a tier is called and when it is given."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A stated understanding (of the query, of the product): one line of a response."""

    label: str
    meaning: str


@dataclass(frozen=True)
class Criterion:
    """A question about the pair and the verdicts that answer it (name -> meaning, best first)."""

    label: str
    question: str
    verdicts: dict[str, str]


@dataclass(frozen=True)
class Rule:
    """One line of the decision table: criterion -> accepted verdicts (a criterion left out means any) -> tier."""

    when: dict[str, tuple[str, ...]]
    tier: int

    def matches(self, verdicts: dict[str, str]) -> bool:
        """Whether the verdicts fall under this rule."""
        return all(verdicts[criterion] in accepted for criterion, accepted in self.when.items())


@dataclass(frozen=True)
class Gate:
    """``component`` earns nothing unless ``requires`` is fully earned."""

    component: str
    requires: str


@dataclass(frozen=True)
class RewardSpec:
    """Weights of the components (>= 0, finite, not all zero), the tier's credit and the gates."""

    weights: dict[str, float]
    tier_credit: str  # "exact" or "ordinal"
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class Hints:
    """``levels``: the facts (criteria, or "tier") that each level gives away, level 1 first; ``template``: Jinja2."""

    levels: tuple[tuple[str, ...], ...]
    template: str


@dataclass(frozen=True)
class Prompt:
    """Jinja2 templates of one prompt style."""

    system: str
    user: str


@dataclass(frozen=True)
class ReadingCheck:
    """How verdicts can be checked against the response's own readings (``reading: items``).

    ``query``/``product``: names of the two sections. ``kind``: the criterion whose verdict is ``same`` exactly when
    the two stated kinds are equal ("" for none). ``needs``: the criterion ("" for none) whose verdict follows from
    needs and features, by the names in ``outcomes``: "met", "partial", "unmet" -> verdict.
    """

    query: str
    product: str
    kind: str
    same: str
    needs: str
    outcomes: dict[str, str]


@dataclass(frozen=True)
class Line:
    """One line of a response: ``label: value``. ``values``: the values allowed, None for free text."""

    kind: str  # "section", "criterion" or "tier"
    key: str
    prefix: str  # "Label: "
    values: frozenset[str] | None


@dataclass(frozen=True, eq=False)
class RuleBook:
    """A shop's rules: what to judge, how verdicts decide the tier, what earns reward, how to ask.

    ``table``: one verdict per criterion, in the order of ``criteria`` -> tier; every combination is there.
    ``source``: the YAML text it was read from, so that a run folder can keep it.
    """

    name: str
    description: str
    tiers: dict[int, TierText]
    tier_label: str
    sections: dict[str, Section]
    reading: str  # "items" or "free"
    reading_check: ReadingCheck | None
    reading_fallback: dict[str, str]
    criteria: dict[str, Criterion]
    rules: tuple[Rule, ...]
    table: dict[tuple[str, ...], int]
    reward: RewardSpec
    hints: Hints
    prompts: dict[str, Prompt]
    source: str

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the reward components, in order."""
        return component_names(self.criteria, self.reading_check)

    def decide(self, verdicts: dict[str, str]) -> int:
        """The tier that the decision table gives. Raises DataError when a verdict is missing or unknown."""
        try:
            return self.table[tuple([verdicts[criterion] for criterion in self.criteria])]
        except KeyError as error:
            raise DataError(
                f"rule book {self.name}: the verdicts {verdicts} lack a criterion or name an unknown verdict ({error})",
                hint=f"give one verdict for each of: {', '.join(self.criteria)}",
            ) from None

    def combinations(self) -> Iterator[dict[str, str]]:
        """Every combination of verdicts, in the order of the file."""
        yield from verdict_combinations(self.criteria)

    def possible_verdicts(self, tier: int, known: dict[str, str] | None = None) -> list[dict[str, str]]:
        """All combinations that decide ``tier`` and agree with the verdicts already ``known``."""
        known = known or {}
        return [
            verdicts
            for verdicts in self.combinations()
            if self.decide(verdicts) == tier and all(verdicts.get(name) == value for name, value in known.items())
        ]

    def implied_verdicts(self, tier: int) -> dict[str, str]:
        """The verdicts that a tier alone settles: those equal in every combination which decides it."""
        possible = self.possible_verdicts(tier)
        if not possible:
            return {}
        return {name: value for name, value in possible[0].items() if all(p[name] == value for p in possible)}

    def layout(self, order: Order) -> tuple[Line, ...]:
        """The lines of a response in the given order."""
        return self._layouts[order]

    @cached_property
    def _layouts(self) -> dict[Order, tuple[Line, ...]]:
        readings = [Line("section", name, f"{s.label}: ", None) for name, s in self.sections.items()]
        verdicts = [Line("criterion", n, f"{c.label}: ", frozenset(c.verdicts)) for n, c in self.criteria.items()]
        tier = Line("tier", TIER, f"{self.tier_label}: ", frozenset(str(t) for t in TIERS))
        return {
            Order.think_then_respond: (*readings, *verdicts, tier),
            Order.respond_then_think: (tier, *readings, *verdicts),
            Order.verdicts_only: (*verdicts, tier),
            Order.tier_only: (tier,),
        }


def component_names(criteria: dict[str, Criterion], check: ReadingCheck | None) -> tuple[str, ...]:
    """Format, every criterion, reading where it can be checked, consistency, tier."""
    return (FORMAT, *criteria, *((READING,) if check else ()), CONSISTENCY, TIER)


def verdict_combinations(criteria: dict[str, Criterion]) -> Iterator[dict[str, str]]:
    """Every combination of one verdict per criterion."""
    for values in product(*(criterion.verdicts for criterion in criteria.values())):
        yield dict(zip(criteria, values, strict=True))
