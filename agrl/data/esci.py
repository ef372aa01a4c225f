"""Import of the Amazon Shopping Queries data set (ESCI; Reddy et al. 2022, arXiv 2206.06588), official layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agrl.data.esci_rows import EXAMPLES_FILE, PRODUCTS_FILE, Judged, LeftOut, read_judged, read_products
from agrl.data.files import write_examples
from agrl.data.leaks import Leak, shared_queries
from agrl.errors import DataError
from agrl.relevance.records import Example, Product
from agrl.relevance.rulebook import load_rulebook

TIER_OF_LABEL = {"E": 4, "S": 3, "C": 2, "I": 1}

_NEGATION = re.compile(r"\b(without|no|not|non|except|free of|\w+-free)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d")
HINTED_EVERY = 5  # a start that has never seen a hint cannot follow one
_LONG = 5  # words from which a query counts as long
REASONS_SHOWN = 12  # lines about what was left out that a person reads


@dataclass(frozen=True)
class Imported:
    """What an import gave: the counts of every file that it wrote, what it left out, and what the files share."""

    splits: dict[str, dict[str, Any]]
    left_out: LeftOut
    leaks: list[Leak]


def import_esci(
    folder: str | Path, out: str | Path, locale: str = "us", version: str = "", seed_share: float = 0.5
) -> Imported:
    """Writes ``seed.parquet``, ``train.parquet`` and ``test.parquet`` of what is sound in the data set.

    The division into training and test queries is the data set's own. ``seed_share`` of the training queries, drawn at
    random but always alike, go to the supervised start, where every fifth row shows its label as a hint; the others are
    the RL pool: what a model knows by heart teaches it nothing. ``locale``: keep this marketplace only, "" for all.
    ``version``: "small" or "large" keeps the rows of that version of the data set, "" all. Verdicts are those that the
    label alone implies under the rule book ``esci``; product ids are kept in the example ids. Rows without what an
    example needs are left out. Raises DataError naming file and column, when nothing is sound, or when a query is in
    two splits.
    """
    folder, left = Path(folder), LeftOut()
    splits, queries = {}, {}
    book = load_rulebook("esci")
    implied = {label: book.implied_verdicts(tier) for label, tier in TIER_OF_LABEL.items()}
    rows = _sound(folder, locale, version, left)
    _check_split(row for row, _ in rows)
    chosen = _seed_queries([row for row, _ in rows], seed_share)
    for row, product in rows:
        split = "seed" if row.query_id in chosen else row.split
        splits.setdefault(split, []).append(_example(row, product, implied))
        queries.setdefault(split, set()).add(row.query_id)
    counts = {}
    for split, examples in sorted(splits.items()):
        if split == "seed":
            examples[::HINTED_EVERY] = [replace(e, hint_level=len(book.hints.levels)) for e in examples[::HINTED_EVERY]]
        write_examples(Path(out) / f"{split}.parquet", examples)
        counts[split] = {
            "rows": len(examples),
            "queries": len(queries[split]),
            "tiers": {str(tier): n for tier, n in sorted(Counter(e.tier for e in examples).items(), reverse=True)},
            "segments": dict(Counter(example.segment for example in examples).most_common()),
        }
    held_out = {"test": splits.pop("test")} if "test" in splits else {}
    return Imported(counts, left, shared_queries(splits, held_out))


def segment_of(query: str) -> str:
    """The segment of a query by its wording: negation, numeric, long (five words or more) or plain."""
    if _NEGATION.search(query):
        return "negation"
    if _NUMBER.search(query):
        return "numeric"
    return "long" if len(query.split()) >= _LONG else "plain"


def _sound(folder: Path, locale: str, version: str, left: LeftOut) -> list[tuple[Judged, Product]]:
    """The judged pairs with their products, in the order of the examples file."""
    judged = read_judged(folder, locale, version, left)
    products = read_products(folder, {row.product for row in judged}, left)
    rows = []
    for row in judged:
        if row.product in products:
            rows.append((row, products[row.product]))
        else:
            left.add(EXAMPLES_FILE, row.row, f"its product is not in {PRODUCTS_FILE}, or left out there")
    if not rows:
        told = "\n".join(f"- {line}" for line in left.lines()[:REASONS_SHOWN])
        raise DataError(
            f"{folder / EXAMPLES_FILE}: no row can be imported\n{told}",
            hint="both files must have the official layout and come from the same release",
        )
    return rows


def _example(row: Judged, product: Product, implied: dict[str, dict[str, str]]) -> Example:
    return Example(
        id=row.id,
        query=" ".join(row.query.split()),
        product=product,
        tier=TIER_OF_LABEL[row.label],
        verdicts=implied[row.label],
        segment=segment_of(row.query),
    )


def _seed_queries(rows: list[Judged], share: float) -> set[str]:
    training = {row.query_id for row in rows if row.split == "train"}
    ordered = sorted(training, key=int if all(map(str.isdecimal, training)) else str)
    return set(np.random.default_rng(0).permutation(ordered)[: round(share * len(ordered))].tolist())


def _check_split(rows: Iterable[Judged]) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        if seen.setdefault(row.query_id, row.split) != row.split:
            raise DataError(
                f"{EXAMPLES_FILE}: query_id {row.query_id} is in the splits {seen[row.query_id]} and {row.split}",
                hint="results on a query that was trained on mean nothing: divide by query",
            )
