"""Builds the files of the synthetic catalogue: what is in them, and in which proportions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from agrl.data.catalogue.products import Item, ProductMaker
from agrl.data.catalogue.queries import SEGMENTS, QueryMaker, Wanted
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.data.catalogue.taxonomy import load_taxonomy
from agrl.data.catalogue.teacher import Teacher, check_rulebook, true_judgement
from agrl.data.files import write_examples
from agrl.errors import DataError
from agrl.relevance.records import TIERS, Example, Judgement, Product
from agrl.relevance.rulebook import load_rulebook

NATURAL_SEGMENTS = dict(zip(SEGMENTS, (26, 13, 14, 17, 7, 6, 4, 5, 3, 3, 2), strict=True))
"""Shares of the segments in a shop's traffic, in percent: mostly head kinds."""

POOL_SEGMENTS = dict(zip(SEGMENTS, (7, 7, 6, 8, 11, 7, 7, 11, 12, 12, 12), strict=True))
"""Shares of the segments in the RL pool: the hard kinds over-weighted, the easy ones kept."""

NATURAL_TIERS = {4: 50, 3: 20, 2: 15, 1: 15}
"""Shares of the tiers among what a shop's search shows, in percent."""

_RELATIONS = {
    4: {"same": 1.0},
    3: {"same": 0.55, "substitute": 0.45},
    2: {"same": 0.4, "substitute": 0.3, "accessory": 0.3},
    1: {"unrelated": 0.65, "accessory": 0.35},
}  # where the default rule book's tiers come from; only a proposal, gold decides
_MET_SHARE = {4: 1.0, 3: 0.65, 2: 0.35, 1: 0.3}  # chance that a proposed product meets a need
_TRIES = 500

Slot = tuple[str, int]
"""What the next row must be: a segment and a gold tier."""


@dataclass(frozen=True)
class Pair:
    """A query and a product, as structure and as listed."""

    wanted: Wanted
    item: Item
    product: Product


def make_catalogue(
    out: str | Path,
    spec: CatalogueSpec | None = None,
    progress: Callable[[str], None] = lambda name: None,
    controls: bool = False,
) -> dict[str, int]:
    """Writes seed, train, balanced and wild.parquet and the parameters (catalogue.json); returns row counts.

    Held-out sets are drawn first; no later file repeats one of their (query, title) pairs or products. ``progress`` is
    called with the name of each file as it is begun. ``controls`` adds train_teacher and train_true.parquet: the rows
    of train with the teacher's and with the true reasoning. The same spec gives the same files. Raises DataError.
    """
    spec, folder = spec or CatalogueSpec(), Path(out)
    factory = _Factory(spec)
    plans: dict[str, Callable[[], list[Example]]] = {
        "balanced": lambda: factory.held_out("balanced", _even_slots(), spec.balanced_rows),
        "wild": lambda: factory.held_out("wild", _drawn_slots(spec, "wild"), spec.wild_rows),
        "train": lambda: factory.pool(),
        "seed": lambda: factory.taught("seed", spec.seed_rows),
    }
    if controls:
        plans["train_teacher"] = lambda: factory.pool(factory.teacher("train").judge)
        plans["train_true"] = lambda: factory.pool(factory.truth)
    counts = {}
    for name, make in plans.items():
        progress(name)
        examples = make()
        write_examples(folder / f"{name}.parquet", examples)
        counts[name] = len(examples)
    (folder / "catalogue.json").write_text(json.dumps(asdict(spec), indent=2) + "\n", encoding="utf-8")
    return counts


class _Factory:
    """Makes examples, and remembers what it has made so that nothing held out comes again."""

    def __init__(self, spec: CatalogueSpec) -> None:
        self.spec = spec
        self.book = load_rulebook(spec.rulebook)
        check_rulebook(self.book)
        self.taxonomy = load_taxonomy()
        self.pairs: set[tuple[str, str]] = set()  # (query, title) of every row so far
        self.reserved: set[str] = set()  # products of the held-out sets

    def held_out(self, name: str, slots: Iterable[Slot], rows: int) -> list[Example]:
        """Examples with gold tier and verdicts and no reasoning, whose products come in no training file."""
        pairs = self._pairs(name, slots, rows, reserve=True)
        return [self._example(f"{name}-{number:06d}", pair) for number, pair in enumerate(pairs, 1)]

    def pool(self, judge: Callable[[Wanted, Item], Judgement] | None = None) -> list[Example]:
        """The RL pool: gold tier and verdicts, and no reasoning unless somebody judges."""
        return [
            self._example(f"train-{number:06d}", pair, judge and judge(pair.wanted, pair.item))
            for number, pair in enumerate(self._pool_pairs, 1)
        ]

    @cached_property
    def _pool_pairs(self) -> list[Pair]:
        return list(self._pairs("train", _drawn_slots(self.spec, "train"), self.spec.pool_rows))

    def taught(self, name: str, rows: int) -> list[Example]:
        """Examples with a reference: the teacher's own judgement, or the true one where a hint tells it the answer.

        Hinted rows are spread as the pool is: they teach the use of a hint, which matters where the policy fails.
        """
        spec, teacher = self.spec, self.teacher(name)
        rng = teacher.rng
        hinted = round(rows * spec.hinted_share)
        levels = [rng.randint(1, len(self.book.hints.levels)) for _ in range(hinted)] + [0] * (rows - hinted)
        slots = itertools.chain(
            itertools.islice(_drawn_slots(spec, "train", f"{name}:hinted"), hinted), _drawn_slots(spec, name)
        )
        lessons = list(zip(levels, self._pairs(name, slots, rows), strict=True))
        rng.shuffle(lessons)
        examples = []
        for number, (level, pair) in enumerate(lessons, 1):
            judge = self.truth if level else teacher.judge
            reference = judge(pair.wanted, pair.item)
            examples.append(self._example(f"{name}-{number:06d}", pair, reference, level))
        return examples

    def teacher(self, name: str) -> Teacher:
        """The simulated teacher, with a random stream for one file."""
        return Teacher(self.book, self.taxonomy, self.spec.teacher, Random(f"{self.spec.seed}:{name}:teacher"))

    def truth(self, wanted: Wanted, item: Item) -> Judgement:
        """The exact judgement of a pair."""
        return true_judgement(self.book, self.taxonomy, wanted, item)

    def _example(self, example_id: str, pair: Pair, reference: Judgement | None = None, hint_level: int = 0) -> Example:
        gold = self.truth(pair.wanted, pair.item)
        return Example(
            id=example_id,
            query=pair.wanted.text,
            product=pair.product,
            tier=gold.tier,
            verdicts=gold.verdicts,
            reference=reference,
            segment=pair.wanted.segment,
            hint_level=hint_level,
        )

    def _pairs(self, name: str, slots: Iterable[Slot], rows: int, reserve: bool = False) -> Iterator[Pair]:
        """New pairs, one a slot, that repeat no earlier (query, title) pair and no reserved product."""
        rng = Random(f"{self.spec.seed}:{name}")
        queries, products = QueryMaker(self.taxonomy, rng), ProductMaker(self.taxonomy, rng)
        for segment, tier in itertools.islice(slots, rows):
            for _ in range(_TRIES):
                pair = self._propose(queries, products, segment, tier)
                if pair is None:
                    continue
                key, product = (pair.wanted.text, pair.product.title), repr(pair.product)
                if key not in self.pairs and product not in self.reserved:
                    break
            else:
                raise DataError(
                    f"no new {segment} pair of tier {tier} could be found for {name}",
                    hint=f"ask for fewer rows, or check that rule book {self.book.name} can decide tier {tier}",
                )
            self.pairs.add(key)
            if reserve:
                self.reserved.add(product)
            yield pair

    def _propose(self, queries: QueryMaker, products: ProductMaker, segment: str, tier: int) -> Pair | None:
        """A pair of the segment that turns out to have the tier, or None."""
        rng, wanted = queries.rng, queries.draw(segment)
        relations = _RELATIONS[tier]
        kind = products.related(wanted, rng.choices(list(relations), list(relations.values()))[0])
        if kind is None:
            return None
        item = products.item(kind, wanted.needs, _MET_SHARE[tier])
        verdicts = {
            "category": self.taxonomy.relation(wanted.kind, item.kind),
            "attributes": wanted.attributes_verdict(item.facts),
        }
        return Pair(wanted, item, products.listing(item)) if self.book.decide(verdicts) == tier else None


def _even_slots() -> Iterator[Slot]:
    """Every segment with every tier in turn, the tier changing fastest."""
    return itertools.cycle(itertools.product(SEGMENTS, TIERS))


def _drawn_slots(spec: CatalogueSpec, name: str, stream: str = "") -> Iterator[Slot]:
    """Endless slots at random: the pool's mix for ``train``, a shop's natural mix otherwise."""
    rng = Random(f"{spec.seed}:{stream or name}:slots")
    segments = POOL_SEGMENTS if name == "train" else NATURAL_SEGMENTS
    tiers = dict.fromkeys(TIERS, 1) if name == "train" else NATURAL_TIERS
    while True:
        yield rng.choices(list(segments), list(segments.values()))[0], rng.choices(list(tiers), list(tiers.values()))[0]
