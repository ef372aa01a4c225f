"""Import of the Amazon Shopping Queries data set (ESCI; Reddy et al. 2022, arXiv 2206.06588), official layout."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agrl.data.files import write_examples
from agrl.errors import DataError
from agrl.relevance.records import Example, Product
from agrl.relevance.rulebook import load_rulebook

EXAMPLES_FILE = "shopping_queries_dataset_examples.parquet"
PRODUCTS_FILE = "shopping_queries_dataset_products.parquet"
TIER_OF_LABEL = {"E": 4, "S": 3, "C": 2, "I": 1}

_EXAMPLE_COLUMNS = ("example_id", "query", "query_id", "product_id", "product_locale", "esci_label", "split")
_PRODUCT_COLUMNS = ("product_title", "product_description", "product_bullet_point", "product_brand", "product_color")
_KEYS = ("product_id", "product_locale")
_NEGATION = re.compile(r"\b(without|no|not|non|except|free of|\w+-free)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d")
HINTED_EVERY = 5  # a start that has never seen a hint cannot follow one
_LONG = 5  # words from which a query counts as long


def import_esci(
    folder: str | Path, out: str | Path, locale: str = "us", version: str = "", seed_share: float = 0.5
) -> dict[str, Any]:
    """Writes ``seed.parquet``, ``train.parquet`` and ``test.parquet`` and returns the counts.

    The division into training and test queries is the data set's own. ``seed_share`` of the training queries, drawn at
    random but always alike, go to the supervised start, where every fifth row shows its label as a hint; the others are
    the RL pool: what a model knows by heart teaches it nothing. ``locale``: keep this marketplace only, "" for all.
    ``version``: "small" or "large" keeps the rows of that version of the data set, "" all. Verdicts are those that the
    label alone implies under the rule book ``esci``; product ids are kept in the example ids. Raises DataError naming
    file and column, or when a query is in two splits.
    """
    rows = _joined(Path(folder), locale, version)
    _check_split(rows)
    chosen = _seed_queries(rows, seed_share)
    book = load_rulebook("esci")
    implied = {label: book.implied_verdicts(tier) for label, tier in TIER_OF_LABEL.items()}
    splits: dict[str, list[Example]] = {}
    queries: dict[str, set[int]] = {}
    for row in rows:
        split = "seed" if row["query_id"] in chosen else row["split"]
        splits.setdefault(split, []).append(_example(row, implied))
        queries.setdefault(split, set()).add(row["query_id"])
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
    return counts


def segment_of(query: str) -> str:
    """The segment of a query by its wording: negation, numeric, long (five words or more) or plain."""
    if _NEGATION.search(query):
        return "negation"
    if _NUMBER.search(query):
        return "numeric"
    return "long" if len(query.split()) >= _LONG else "plain"


def _joined(folder: Path, locale: str, version: str) -> list[dict[str, Any]]:
    """Examples with their products as rows, in the order of the examples file."""
    flag = [f"{version}_version"] if version else []
    examples = _read(folder / EXAMPLES_FILE, [*_EXAMPLE_COLUMNS, *flag])
    products = _read(folder / PRODUCTS_FILE, [*_KEYS, *_PRODUCT_COLUMNS])
    if locale:
        examples = examples.filter(pc.field("product_locale") == locale)
    if version:
        examples = examples.filter(pc.field(flag[0]) == 1)
    if not examples.num_rows:
        raise DataError(
            f"{folder / EXAMPLES_FILE}: no rows for locale {locale or 'any'}, version {version or 'any'}",
            hint="give another --locale (us, es, jp, or all)",
        )
    joined = examples.join(products, keys=list(_KEYS), join_type="left outer").sort_by("example_id")
    lost = joined.filter(pc.is_null(joined["product_title"]))
    if lost.num_rows:
        raise DataError(
            f"{folder / PRODUCTS_FILE}: {lost.num_rows} judged products are missing, first {lost['product_id'][0]}",
            hint="both files must come from the same release",
        )
    return joined.to_pylist()


def _read(path: Path, columns: list[str]) -> pa.Table:
    if not path.exists():
        raise DataError(
            f"{path} does not exist",
            hint=f"the folder needs the official files {EXAMPLES_FILE} and {PRODUCTS_FILE}",
        )
    try:
        found = pq.read_schema(path).names
        if missing := [column for column in columns if column not in found]:
            raise DataError(f"{path}: the columns {', '.join(missing)} are missing", hint="use the official layout")
        return pq.read_table(path, columns=columns)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def _example(row: dict[str, Any], implied: dict[str, dict[str, str]]) -> Example:
    label = row["esci_label"]
    if label not in implied:
        raise DataError(
            f"{EXAMPLES_FILE}: example_id {row['example_id']}, column esci_label: {label!r} is none of E, S, C, I"
        )
    color = _said(row["product_color"])
    return Example(
        id=f"{row['query_id']}-{row['product_locale']}-{row['product_id']}",
        query=" ".join(row["query"].split()),
        product=Product(
            title=" ".join(row["product_title"].split()) or "(untitled)",
            brand=_said(row["product_brand"]),
            attributes={"color": color} if color else {},
            text="\n".join(
                part for part in (_said(row["product_bullet_point"]), _said(row["product_description"])) if part
            ),
        ),
        tier=TIER_OF_LABEL[label],
        verdicts=implied[label],
        segment=segment_of(row["query"]),
    )


def _said(text: str | None) -> str:
    """The text without white space round it; "" for what the data set writes where nothing is known."""
    text = (text or "").strip()
    return "" if text.casefold() in ("none", "nan", "null") else text


def _seed_queries(rows: list[dict[str, Any]], share: float) -> set[int]:
    training = sorted({row["query_id"] for row in rows if row["split"] == "train"})
    return set(np.random.default_rng(0).permutation(training)[: round(share * len(training))].tolist())


def _check_split(rows: list[dict[str, Any]]) -> None:
    seen: dict[int, str] = {}
    for row in rows:
        query_id, split = row["query_id"], row["split"]
        if seen.setdefault(query_id, split) != split:
            raise DataError(
                f"{EXAMPLES_FILE}: query_id {query_id} is in the splits {seen[query_id]} and {split}",
                hint="results on a query that was trained on mean nothing: divide by query",
            )
