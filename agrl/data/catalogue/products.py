"""Products: exact facts first, then the noisy listing that a seller makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from agrl.data.catalogue.queries import BRAND, KIND, Need, Wanted
from agrl.data.catalogue.taxonomy import Kind, Taxonomy
from agrl.relevance.records import Product

_STATED = 0.9  # share of a kind's attributes that a product has
_IN_TITLE = 0.4  # share of those that only the title tells, in the seller's words
_TRIES = 20


@dataclass(frozen=True)
class Item:
    """A product as it is: ``facts`` maps KIND, BRAND, attributes and numbers to their values.

    ``titled``: the attributes that its title tells, in their order there; the others are listed below it.
    """

    facts: Mapping[str, str]
    titled: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.facts[KIND]


class ProductMaker:
    """Draws products and their listings. All randomness comes from ``rng``."""

    def __init__(self, taxonomy: Taxonomy, rng: Random) -> None:
        self.taxonomy = taxonomy
        self.rng = rng

    def related(self, wanted: Wanted, relation: str) -> Kind | None:
        """A kind with this relation to what is wanted; None where there is none.

        Unrelated kinds are the tempting ones half of the time: the same department, or the host of a wanted accessory.
        """
        shop, rng = self.taxonomy, self.rng
        kind = shop.kinds[wanted.kind]
        if relation == "same":
            return kind
        if relation == "substitute":
            return shop.kinds[kind.substitute] if kind.substitute else None
        if relation == "accessory":
            offered = shop.accessories_of(kind.name)
            return rng.choice(offered) if offered else None
        if kind.host and rng.random() < 0.4:
            return shop.kinds[kind.host]
        near = rng.random() < 0.5
        while True:
            other = rng.choice(list(shop.kinds.values()))
            if shop.relation(kind.name, other.name) == "unrelated" and (
                not near or other.department == kind.department
            ):
                return other

    def item(self, kind: Kind, needs: tuple[Need, ...], met_share: float) -> Item:
        """A product of a kind that meets each need with probability ``met_share``, where its kind allows."""
        rng, shop = self.rng, self.taxonomy
        facts = {KIND: kind.name, BRAND: rng.choice(shop.brands[kind.department])}
        for name in kind.attributes:
            if rng.random() < _STATED:
                facts[name] = rng.choice(list(shop.attributes[name]))
        for name in kind.numbers:
            facts[name] = str(rng.choice(shop.numbers[name][1]))
        for need in needs:
            self._settle(facts, kind, need, meet=rng.random() < met_share)
        titled = [name for name in kind.attributes if name in facts and rng.random() < _IN_TITLE]
        rng.shuffle(titled)
        return Item(facts, tuple(titled))

    def _settle(self, facts: dict[str, str], kind: Kind, need: Need, meet: bool) -> None:
        """Draws the fact that a need is about again until it is as it should be, where the kind has such a fact."""
        choices = self._choices(kind, need.name)
        for _ in range(_TRIES if choices else 0):
            if need.met_by(facts) == meet and facts.get(need.name) != (need.value if need.side else None):
                return  # a number that equals the limit is left to no one's interpretation
            facts[need.name] = self.rng.choice(choices)

    def _choices(self, kind: Kind, name: str) -> list[str]:
        shop = self.taxonomy
        if name == BRAND:
            return list(shop.brands[kind.department])
        if name in kind.attributes:
            return list(shop.attributes[name])
        return [str(value) for value in shop.numbers[name][1]] if name in kind.numbers else []

    def listing(self, item: Item) -> Product:
        """The seller's page: a noisy title, and as structured attributes whatever the title does not tell."""
        shop = self.taxonomy
        kind, brand = shop.kinds[item.kind], item.facts[BRAND]
        words = [self._word(item.facts[name], shop.attributes[name][item.facts[name]], 0.3) for name in item.titled]
        attributes = {n: item.facts[n] for n in kind.attributes if n in item.facts and n not in item.titled}
        attributes |= {name: f"{item.facts[name]} {shop.numbers[name][0]}" for name in kind.numbers}
        return Product(
            title=self._title(kind, brand, words), category=kind.department, brand=brand, attributes=attributes
        )

    def _title(self, kind: Kind, brand: str, words: list[str]) -> str:
        """Brand, attribute words and name in some order, with the words that sellers add."""
        rng, shop = self.rng, self.taxonomy
        split = rng.randint(0, len(words))
        parts = [*words[:split], self._name(kind), *words[split:]]
        if rng.random() < 0.6:
            parts.insert(0 if rng.random() < 0.8 else len(parts), brand)
        if rng.random() < 0.3:
            parts.insert(0, rng.choice(shop.before))
        if rng.random() < 0.3:
            parts.append(rng.choice(shop.after))
        return " ".join(parts)

    def _name(self, kind: Kind) -> str:
        if not kind.host:
            return self._word(kind.name, kind.synonyms, 0.35)
        host = self.taxonomy.kinds[kind.host]
        return kind.name if self.rng.random() < 0.4 else f"{kind.part} for {self._word(host.name, host.synonyms, 0.35)}"

    def _word(self, name: str, others: tuple[str, ...], share: float) -> str:
        return self.rng.choice(others) if others and self.rng.random() < share else name
