"""What the bundled shop sells: kinds of product, how they relate, their attributes, and the words for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from agrl.errors import DataError


@dataclass(frozen=True)
class Kind:
    """A kind of product. Main kinds have a substitute and uses; accessories have a host and a part name."""

    name: str
    department: str
    attributes: tuple[str, ...]
    numbers: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    substitute: str = ""
    host: str = ""
    part: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """The whole shop. ``attributes``: name -> value -> other words; ``numbers``: name -> (unit, values)."""

    kinds: dict[str, Kind]
    brands: dict[str, tuple[str, ...]]  # department -> brands
    attributes: dict[str, dict[str, tuple[str, ...]]]
    implicit: dict[str, tuple[str, ...]]  # attribute value -> phrases that ask for it without naming it
    numbers: dict[str, tuple[str, tuple[int, ...]]]
    before: tuple[str, ...]  # words that sellers put in front of a title
    after: tuple[str, ...]  # and behind it

    @property
    def mains(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.kinds.values() if not kind.host)

    @property
    def accessories(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.kinds.values() if kind.host)

    def accessories_of(self, host: str) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.accessories if kind.host == host)

    def relation(self, wanted: str, found: str) -> str:
        """How the kind ``found`` relates to the kind ``wanted``: same, substitute, accessory or unrelated.

        An accessory is related to its host one way only: who asks for a phone case is not served by a phone.
        """
        if wanted == found:
            return "same"
        if self.kinds[wanted].substitute == found:
            return "substitute"
        return "accessory" if self.kinds[found].host == wanted else "unrelated"


@lru_cache(maxsize=1)
def load_taxonomy() -> Taxonomy:
    """The bundled taxonomy. Raises DataError naming the kind when it contradicts itself."""
    raw = yaml.safe_load((files("agrl.data.catalogue") / "taxonomy.yaml").read_text(encoding="utf-8"))
    kinds = {
        name: Kind(name, department, **{key: _frozen(value) for key, value in entry.items()})
        for department, shelf in raw["departments"].items()
        for name, entry in shelf["kinds"].items()
    }
    taxonomy = Taxonomy(
        kinds=kinds,
        brands={department: tuple(shelf["brands"]) for department, shelf in raw["departments"].items()},
        attributes={
            name: {value: tuple(words) for value, words in values.items()} for name, values in raw["attributes"].items()
        },
        implicit={value: tuple(phrases) for value, phrases in raw["implicit"].items()},
        numbers={name: (entry["unit"], tuple(entry["values"])) for name, entry in raw["numbers"].items()},
        before=tuple(raw["titles"]["before"]),
        after=tuple(raw["titles"]["after"]),
    )
    _check(taxonomy)
    return taxonomy


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check(taxonomy: Taxonomy) -> None:
    """Refuses a taxonomy in which a gold verdict would be ambiguous."""
    kinds = taxonomy.kinds
    for kind in kinds.values():
        if bool(kind.substitute) == bool(kind.host):
            raise DataError(f"taxonomy: {kind.name} needs either a substitute or a host")
        if kind.substitute and (kind.substitute not in kinds or kinds[kind.substitute].substitute != kind.name):
            raise DataError(f"taxonomy: {kind.name} and {kind.substitute} must name each other as substitutes")
        if kind.host and (kind.host not in kinds or not kind.part):
            raise DataError(f"taxonomy: accessory {kind.name} needs a part and a host that is a kind")
        if unknown := {*kind.attributes} - taxonomy.attributes.keys() | {*kind.numbers} - taxonomy.numbers.keys():
            raise DataError(f"taxonomy: {kind.name} has unknown attributes {sorted(unknown)}")
    called = [name for kind in kinds.values() for name in (kind.name, *kind.synonyms, *kind.uses)]
    values = [
        word for words in taxonomy.attributes.values() for value, more in words.items() for word in (value, *more)
    ]
    brands = [brand for shelf in taxonomy.brands.values() for brand in shelf]
    phrases = [phrase for phrases in taxonomy.implicit.values() for phrase in phrases]
    said = [*called, *values, *brands, *phrases]
    if twice := {word for word in said if said.count(word) > 1}:
        raise DataError(f"taxonomy: {sorted(twice)} would mean two things")
