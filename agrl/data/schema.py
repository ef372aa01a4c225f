"""The one schema of an examples file, and what is wrong with a row that does not follow it.

Parquet and JSONL hold the same columns; see ``docs/data.md``. Maps (name -> value) are Arrow maps in Parquet and
objects in JSONL. Only ``id``, ``query``, ``product.title`` and ``tier`` must say something; the rest may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from agrl.relevance.records import TIERS, Example, Judgement, Product

_NAMES = pa.map_(pa.string(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field(
            "product",
            pa.struct(
                [
                    pa.field("title", pa.string(), nullable=False),
                    pa.field("category", pa.string()),
                    pa.field("brand", pa.string()),
                    pa.field("attributes", _NAMES),
                    pa.field("text", pa.string()),
                ]
            ),
            nullable=False,
        ),
        pa.field("tier", pa.int8(), nullable=False),
        pa.field("verdicts", _NAMES),
        pa.field(
            "reference",
            pa.struct([pa.field("tier", pa.int8()), pa.field("verdicts", _NAMES), pa.field("readings", _NAMES)]),
        ),
        pa.field("segment", pa.string()),
        pa.field("hint_level", pa.int8()),
    ]
)
"""Arrow schema of an examples file."""

REQUIRED = ("id", "query", "product", "tier")
"""Columns without which a file is not an examples file."""


def to_row(example: Example) -> dict[str, Any]:
    """The example as one plain row: nested dicts, ready for JSON."""
    product, reference = example.product, example.reference
    return {
        "id": example.id,
        "query": example.query,
        "product": {
            "title": product.title,
            "category": product.category,
            "brand": product.brand,
            "attributes": dict(product.attributes),
            "text": product.text,
        },
        "tier": example.tier,
        "verdicts": dict(example.verdicts),
        "reference": None
        if reference is None
        else {
            "tier": reference.tier,
            "verdicts": dict(reference.verdicts),
            "readings": dict(reference.readings),
        },
        "segment": example.segment,
        "hint_level": example.hint_level,
    }


def from_row(row: dict[str, Any]) -> Example:
    """The example of a row without problems (``row_problems``). Maps may be dicts or lists of pairs (Arrow's form)."""
    product, reference = row["product"], row.get("reference")
    return Example(
        id=row["id"],
        query=row["query"],
        product=Product(
            title=product["title"],
            category=product.get("category") or "",
            brand=product.get("brand") or "",
            attributes=dict(product.get("attributes") or {}),
            text=product.get("text") or "",
        ),
        tier=row["tier"],
        verdicts=dict(row.get("verdicts") or {}),
        reference=None if reference is None else _judgement(reference),
        segment=row.get("segment") or "plain",
        hint_level=row.get("hint_level") or 0,
    )


def _judgement(row: dict[str, Any]) -> Judgement:
    return Judgement(
        tier=row["tier"], verdicts=dict(row.get("verdicts") or {}), readings=dict(row.get("readings") or {})
    )


def row_problems(row: Any) -> Iterator[tuple[str, str]]:
    """Yields (field, message) for everything that keeps ``from_row`` from making an example of ``row``."""
    if not isinstance(row, dict):
        yield "", f"expected an object with named fields, found {type(row).__name__}"
        return
    for key in row.keys() - set(SCHEMA.names):
        yield key, f"unknown field; the fields are {', '.join(SCHEMA.names)}"
    yield from text_problems(row, "id", "id")
    yield from text_problems(row, "query", "query")
    yield from tier_problems(row, "tier", "tier")
    yield from names_problems(row, "verdicts", "verdicts")
    yield from text_problems(row, "segment", "segment", required=False)
    hint = row.get("hint_level")
    if hint is not None and (not isinstance(hint, int) or isinstance(hint, bool) or hint < 0):
        yield "hint_level", f"expected 0 (no hint) or a hint level, found {hint!r}"
    yield from _product_problems(row.get("product"))
    yield from _reference_problems(row.get("reference"))


def _product_problems(product: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(product, dict):
        yield "product", f"expected an object with a title, found {product!r}"
        return
    fields = ("title", "category", "brand", "attributes", "text")
    for key in product.keys() - set(fields):
        yield f"product.{key}", f"unknown field; a product has {', '.join(fields)}"
    yield from text_problems(product, "title", "product.title")
    for key in ("category", "brand", "text"):
        yield from text_problems(product, key, f"product.{key}", required=False)
    yield from names_problems(product, "attributes", "product.attributes")


def _reference_problems(reference: Any) -> Iterator[tuple[str, str]]:
    if reference is None:
        return
    if not isinstance(reference, dict):
        yield "reference", f"expected a judgement or null, found {reference!r}"
        return
    yield from tier_problems(reference, "tier", "reference.tier")
    yield from names_problems(reference, "verdicts", "reference.verdicts")
    yield from names_problems(reference, "readings", "reference.readings")


def text_problems(row: dict[str, Any], key: str, name: str, required: bool = True) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is text, and not blank where it is required."""
    value = row.get(key)
    if value is None and not required:
        return
    if not isinstance(value, str):
        yield name, f"expected text, found {value!r}"
    elif required and not value.strip():
        yield name, "is empty"


def tier_problems(row: dict[str, Any], key: str, name: str) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is one of the tiers."""
    tier = row.get(key)
    if not isinstance(tier, int) or isinstance(tier, bool) or tier not in TIERS:
        yield name, f"expected a tier of {', '.join(map(str, TIERS))}, found {tier!r}"


def names_problems(row: dict[str, Any], key: str, name: str) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is absent or maps text to text."""
    value = row.get(key)
    if value is None:
        return
    try:
        pairs = dict(value)
    except (TypeError, ValueError):
        yield name, f"expected names with values, found {value!r}"
        return
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in pairs.items()):
        yield name, f"names and values must be text, found {pairs!r}"
