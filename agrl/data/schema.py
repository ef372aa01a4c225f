"""The one schema of an examples file, and what is wrong with a row that does not follow it.

Parquet and JSONL hold the same columns; see ``docs/data.md``. Maps (name -> value) are Arrow maps in Parquet and
objects in JSONL; the forms that pandas and Hugging Face datasets give them are read too (``name_pairs``). A field says
nothing where it is left out, null or NaN (pandas' null). Only ``id``, ``query``, ``product.title`` and, but for pairs
that nobody has judged, ``tier`` must say something; the rest may be absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from reprlib import Repr
from typing import Any

import pyarrow as pa

from agrl.data.rows import twice
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
        pa.field("tier", pa.int8()),
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

REQUIRED = ("id", "query", "product")
"""Columns without which a file is not an examples file; where labels are wanted, ``tier`` is another."""

_PRODUCT = ("title", "category", "brand", "attributes", "text")
_REFERENCE = ("tier", "verdicts", "readings")
_SURROGATE = re.compile("[\ud800-\udfff]")

_MOST_HINTS = 127  # what the column holds; a rule book has a few
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def to_row(example: Example) -> dict[str, Any]:
    """The example as one plain row: nested dicts, ready for JSON."""
    reference = example.reference
    return {
        "id": example.id,
        "query": example.query,
        "product": product_row(example.product),
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


def product_row(product: Product) -> dict[str, Any]:
    """The product as a plain row."""
    return {name: getattr(product, name) for name in _PRODUCT} | {"attributes": dict(product.attributes)}


def from_row(row: dict[str, Any]) -> Example:
    """The example of a row without problems (``row_problems``)."""
    reference = given(row, "reference")
    return Example(
        id=row["id"],
        query=row["query"],
        product=product_of(row["product"]),
        tier=None if given(row, "tier") is None else int(row["tier"]),
        verdicts=names(row, "verdicts"),
        reference=None if reference is None else _judgement(reference),
        segment=given(row, "segment") or "plain",
        hint_level=int(given(row, "hint_level") or 0),
    )


def product_of(row: dict[str, Any]) -> Product:
    """The product of a row without problems (``product_problems``)."""
    return Product(
        title=row["title"],
        category=given(row, "category") or "",
        brand=given(row, "brand") or "",
        attributes=names(row, "attributes"),
        text=given(row, "text") or "",
    )


def _judgement(row: dict[str, Any]) -> Judgement:
    return Judgement(tier=int(row["tier"]), verdicts=names(row, "verdicts"), readings=names(row, "readings"))


def given(row: dict[str, Any], key: str) -> Any:
    """The value of a field; None where it says nothing."""
    value = row.get(key)
    return None if _says_nothing(value) else value


def _says_nothing(value: Any) -> bool:
    """Null, NaN, or a struct of such: what a table of structs holds where an object is missing."""
    if isinstance(value, dict):
        return bool(value) and all(map(_says_nothing, value.values()))
    return value is None or (isinstance(value, float) and math.isnan(value))


def names(row: dict[str, Any], key: str) -> dict[str, str]:
    """The map name -> value of a field without problems; a name without a value is absent."""
    return {name: value for name, value in name_pairs(given(row, key) or {}) or () if not _says_nothing(value)}


def name_pairs(value: Any) -> list[tuple[Any, Any]] | None:
    """The (name, value) pairs of a map, in any of its forms; None when it is none.

    An object (a struct has every name of the column, with null where a row lacks it), a list of pairs (Arrow's maps,
    and what pandas makes of them), or a list of ``{"key": ..., "value": ...}``.
    """
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list):
        return None
    pairs = [
        (item["key"], item["value"]) if isinstance(item, dict) and item.keys() == {"key", "value"} else item
        for item in value
    ]
    return [tuple(pair) for pair in pairs] if all(isinstance(p, (tuple, list)) and len(p) == 2 for p in pairs) else None


def row_problems(row: Any, labelled: bool = True) -> Iterator[tuple[str, str]]:
    """Yields (field, message) for everything that keeps ``from_row`` from making an example of ``row``.

    ``labelled``: whether it must have a tier.
    """
    if not isinstance(row, dict):
        yield "", f"expected an object with named fields, found {type(row).__name__}"
        return
    yield from unknown_fields(row, SCHEMA.names, "", "unknown field; the fields are")
    yield from text_problems(row, "id", "id")
    yield from text_problems(row, "query", "query")
    if labelled or given(row, "tier") is not None:
        yield from tier_problems(row, "tier", "tier")
    yield from names_problems(row, "verdicts", "verdicts")
    yield from text_problems(row, "segment", "segment", required=False)
    hint = given(row, "hint_level")
    if hint is not None and not (_is_whole(hint) and 0 <= hint <= _MOST_HINTS):
        yield "hint_level", f"expected 0 (no hint) or a hint level, found {shown(hint)}"
    yield from product_problems(row.get("product"))
    yield from _reference_problems(given(row, "reference"))


def product_problems(product: Any) -> Iterator[tuple[str, str]]:
    """Yields (field, message) for everything that keeps ``product_of`` from making a product."""
    if not isinstance(product, dict):
        yield "product", f"expected an object with a title, found {shown(product)}"
        return
    yield from unknown_fields(product, _PRODUCT, "product.", "unknown field; a product has")
    yield from text_problems(product, "title", "product.title")
    for key in ("category", "brand", "text"):
        yield from text_problems(product, key, f"product.{key}", required=False)
    yield from names_problems(product, "attributes", "product.attributes")


def _reference_problems(reference: Any) -> Iterator[tuple[str, str]]:
    if reference is None:
        return
    if not isinstance(reference, dict):
        yield "reference", f"expected a judgement or null, found {shown(reference)}"
        return
    yield from unknown_fields(reference, _REFERENCE, "reference.", "unknown field; a reference has")
    yield from tier_problems(reference, "tier", "reference.tier")
    yield from names_problems(reference, "verdicts", "reference.verdicts")
    yield from names_problems(reference, "readings", "reference.readings")


def shown(value: Any) -> str:
    """A value as a message shows it: cut when it is long."""
    return _SHORT.repr(value)


def unknown_fields(found: Iterable[str], known: Sequence[str], above: str, told: str) -> Iterator[tuple[str, str]]:
    """Yields (name, message) for the fields found that are none of ``known``; ``above`` is put before their names."""
    for key in sorted(set(found) - set(known)):
        yield f"{above}{key if key.isprintable() else repr(key)}", f"{told} {', '.join(known)}"


def text_problems(row: dict[str, Any], key: str, name: str, required: bool = True) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is text that can be written as UTF-8, and not blank where it is required."""
    value = given(row, key)
    if value is None and not required:
        return
    if not isinstance(value, str):
        yield name, f"expected text, found {shown(value)}"
    elif required and not value.strip():
        yield name, "is empty"
    elif half := _SURROGATE.search(value):
        yield name, _half(half)


def tier_problems(row: dict[str, Any], key: str, name: str) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is one of the tiers; 4.0 is 4, as a column of numbers with a null in it has it."""
    tier = given(row, key)
    if not _is_whole(tier) or tier not in TIERS:
        yield name, f"expected a tier of {', '.join(map(str, TIERS))}, found {shown(tier)}"


def names_problems(row: dict[str, Any], key: str, name: str) -> Iterator[tuple[str, str]]:
    """Whether the field ``key`` is absent or maps text to text, every name once."""
    value = given(row, key)
    if value is None:
        return
    pairs = name_pairs(value)
    if pairs is None:
        yield name, f"expected names with values, found {shown(value)}"
    elif not all(isinstance(n, str) and (isinstance(v, str) or _says_nothing(v)) for n, v in pairs):
        yield name, f"names and values must be text, found {shown(value)}"
    elif repeated := twice(n for n, _ in pairs):
        yield name, f"the name {shown(repeated[0])} stands twice"
    elif half := next(filter(None, (_SURROGATE.search(f"{n} {v}") for n, v in pairs)), None):
        yield name, _half(half)


def _half(found: re.Match[str]) -> str:
    return f"has {found.group()!r}, half of a surrogate pair: it stands for no character and cannot be written as UTF-8"


def _is_whole(value: Any) -> bool:
    return value.is_integer() if isinstance(value, float) else isinstance(value, int) and not isinstance(value, bool)
