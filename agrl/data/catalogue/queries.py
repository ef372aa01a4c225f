"""What shoppers want, as structure, and how they say it: eleven kinds of query, from plain to long-tail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from agrl.data.catalogue.taxonomy import Kind, Taxonomy

KIND, BRAND = "kind", "brand"
"""Names of the two facts that every product has beside its attributes."""

EXTRAS = {"plain": (1,), "synonym": (1,), "accessory": (4, 3, 3), "": (13, 7)}
"""Segment ("": any other) -> weights of 0, 1, ... needs beyond what makes a query one of its segment. Without a second
need nothing could be met in part."""


@dataclass(frozen=True)
class Need:
    """One thing asked of a product: that the fact ``name`` has a value, lies under or over a number, or is avoided."""

    name: str  # an attribute or number of the taxonomy, BRAND or KIND
    value: str
    side: str = ""  # "under" or "over" for numbers
    avoid: bool = False
    said: str = ""  # the words of the query that ask for it
    implicit: bool = False  # said without naming the value
    aside: bool = False  # avoided in a roundabout way ("anything but"), easily overlooked

    @property
    def text(self) -> str:
        """The need in canonical words, as a reading states it: "electric", "not electric", "price under 50"."""
        if self.side:
            return f"{self.name} {self.side} {self.value}"
        return f"not {self.value}" if self.avoid else self.value

    def met_by(self, facts: Mapping[str, str]) -> bool:
        """Exact gold: whether a product with these facts (name -> value) has what is asked for."""
        found = facts.get(self.name)
        if self.side:
            number = None if found is None else int(found)
            return number is not None and (
                number < int(self.value) if self.side == "under" else number > int(self.value)
            )
        return (found != self.value) if self.avoid else (found == self.value)


@dataclass(frozen=True)
class Wanted:
    """A query: its text, and what it asks for."""

    text: str
    kind: str
    needs: tuple[Need, ...]
    segment: str

    def attributes_verdict(self, facts: Mapping[str, str]) -> str:
        """Gold verdict on the needs: met (all of them), unmet (none, or an avoided thing is there) or partial."""
        return verdict_of(self.needs, facts)


def verdict_of(needs: tuple[Need, ...], facts: Mapping[str, str]) -> str:
    """See ``Wanted.attributes_verdict``."""
    missed = [need for need in needs if not need.met_by(facts)]
    if not missed:
        return "met"
    return "unmet" if len(missed) == len(needs) or any(need.avoid for need in missed) else "partial"


class QueryMaker:
    """Draws queries of a segment. All randomness comes from ``rng``."""

    def __init__(self, taxonomy: Taxonomy, rng: Random) -> None:
        self.taxonomy = taxonomy
        self.rng = rng

    def draw(self, segment: str) -> Wanted:
        """One query of a segment (a name of SEGMENTS)."""
        rng, shop = self.rng, self.taxonomy
        kind = rng.choice(shop.accessories if segment == "accessory" else shop.mains)
        text, needs = SEGMENTS[segment](self, kind)
        wanted = shop.kinds[kind.substitute] if segment == "alternative" else kind
        free = [name for name in wanted.attributes if name not in {need.name for need in needs}]
        weights = EXTRAS.get(segment, EXTRAS[""])
        count = min(rng.choices(range(len(weights)), weights)[0], len(free), 3 - len(needs))
        for name in rng.sample(free, count):
            extra = self.ask(name)
            text, needs = f"{extra.said} {text}", [extra, *needs]  # needs stay in the order of the words
        return Wanted(self.chatty(text), wanted.name, tuple(needs), segment)

    def chatty(self, text: str) -> str:
        """Now and then a word that means nothing."""
        return f"{self.rng.choice(('best', 'good', 'nice', 'cheap'))} {text}" if self.rng.random() < 0.12 else text

    def ask(self, name: str, avoid: bool = False) -> Need:
        """Asks for a random value of an attribute, in one of its words."""
        value = self.rng.choice(list(self.taxonomy.attributes[name]))
        return Need(name, value, avoid=avoid, said=self.word(value, self.taxonomy.attributes[name][value], 0.3))

    def ask_number(self, kind: Kind) -> Need:
        """Asks for a limit that some products are under and others over."""
        name = self.rng.choice(kind.numbers)
        _, values = self.taxonomy.numbers[name]
        return Need(name, str(self.rng.choice(values[1:-1])), side=self.rng.choice(("under", "over")))

    def word(self, name: str, others: tuple[str, ...], share: float) -> str:
        """The name itself or, with the given share, another word for it."""
        return self.rng.choice(others) if others and self.rng.random() < share else name

    def implied(self, kind: Kind) -> tuple[str, str]:
        """An (attribute, value) of the kind that can be asked for without naming it."""
        pairs = [
            (name, value)
            for name in kind.attributes
            for value in self.taxonomy.attributes[name]
            if value in self.taxonomy.implicit
        ]
        return self.rng.choice(pairs)


Phrase = tuple[str, list[Need]]


def _plain(make: QueryMaker, kind: Kind) -> Phrase:
    return kind.name, []


def _synonym(make: QueryMaker, kind: Kind) -> Phrase:
    return make.rng.choice(kind.synonyms), []


def _brand(make: QueryMaker, kind: Kind) -> Phrase:
    brand = make.rng.choice(make.taxonomy.brands[kind.department])
    return f"{brand} {kind.name}", [Need(BRAND, brand, said=brand)]


def _attribute(make: QueryMaker, kind: Kind) -> Phrase:
    need = make.ask(make.rng.choice(kind.attributes))
    return f"{need.said} {kind.name}", [need]


def _multi(make: QueryMaker, kind: Kind) -> Phrase:
    first, second = (make.ask(name) for name in make.rng.sample(kind.attributes, 2))
    return make.rng.choice((f"{first.said} {second.said} {kind.name}", f"{first.said} {kind.name} {second.said}")), [
        first,
        second,
    ]


def _implicit(make: QueryMaker, kind: Kind) -> Phrase:
    name, value = make.implied(kind)
    said = make.rng.choice(make.taxonomy.implicit[value])
    return f"{kind.name} {said}", [Need(name, value, said=said, implicit=True)]


def _knowledge(make: QueryMaker, kind: Kind) -> Phrase:
    return make.rng.choice(kind.uses), []


def _negation(make: QueryMaker, kind: Kind) -> Phrase:
    frame, aside = make.rng.choice(
        (("{kind} not {said}", False), ("non {said} {kind}", False), ("{kind} except {said}", True))
    )
    if make.rng.random() < 0.15:
        brand = make.rng.choice(make.taxonomy.brands[kind.department])
        need = Need(BRAND, brand, avoid=True, said=brand)
    else:
        need = make.ask(make.rng.choice(kind.attributes), avoid=True)
    return frame.format(kind=kind.name, said=need.said), [replace(need, aside=aside)]


def _alternative(make: QueryMaker, kind: Kind) -> Phrase:
    """Asks for the substitute of a kind: what serves the same purpose, and not the kind itself."""
    name = make.word(kind.name, kind.synonyms, 0.3)
    frame = make.rng.choice(("alternative to {}", "instead of {}", "replacement for {}", "something like {} but other"))
    return frame.format(f"a {name}"), [Need(KIND, kind.name, avoid=True, said=name)]


def _numeric(make: QueryMaker, kind: Kind) -> Phrase:
    need = make.ask_number(kind)
    unit, _ = make.taxonomy.numbers[need.name]
    side = make.rng.choice(("under", "below", "less than") if need.side == "under" else ("over", "above", "more than"))
    return f"{kind.name} {side} {need.value} {unit}", [need]


def _accessory(make: QueryMaker, kind: Kind) -> Phrase:
    host = make.taxonomy.kinds[kind.host]
    return make.rng.choice((kind.name, f"{kind.part} for {make.word(host.name, host.synonyms, 0.3)}")), []


SEGMENTS: dict[str, Callable[[QueryMaker, Kind], Phrase]] = {
    "plain": _plain,
    "synonym": _synonym,
    "brand": _brand,
    "attribute": _attribute,
    "multi": _multi,
    "knowledge": _knowledge,
    "numeric": _numeric,
    "accessory": _accessory,
    "implicit": _implicit,
    "negation": _negation,
    "alternative": _alternative,
}
"""Segment -> how such a query is said and what it asks for, the head of the traffic first."""
