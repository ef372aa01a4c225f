"""Prediction files: every answer of a judge, with the example that it answers, as JSON lines (docs/compare.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agrl.data.rows import Problem, json_rows
from agrl.data.schema import (
    given,
    names,
    names_problems,
    product_of,
    product_problems,
    product_row,
    text_problems,
    tier_problems,
    unknown_fields,
)
from agrl.errors import DataError
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Example, Judgement, Product

FIELDS = ("set", "id", "segment", "query", "title", "product", "gold_tier", "tier", "verdicts", "failure", "text")
_HINT = "`agrl eval MODEL --predictions FILE` writes such a file; docs/compare.md describes it"


def write_predictions(path: str | Path, predictions: Mapping[str, Sequence[Prediction]]) -> Path:
    """Write set name -> predictions; folders are made as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name, rows in predictions.items():
            file.writelines(json.dumps(to_line(name, row), ensure_ascii=False) + "\n" for row in rows)
    return path


def read_predictions(path: str | Path) -> dict[str, list[Prediction]]:
    """Set name -> predictions, in the order of the file.

    An example holds only what the file says of it: a product without "product" is a title, and there are no gold
    verdicts. Raises DataError naming file, line and field of the first thing that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist", hint=_HINT)
    sets: dict[str, dict[str, Prediction]] = {}
    for number, row in json_rows(path):
        for field, message in _problems(row):
            where = f"{path}: line {number}" + (f", field {field}" if field else "")
            raise DataError(f"{where}: {message}", hint=_HINT)
        rows = sets.setdefault(row["set"], {})
        if row["id"] in rows:
            raise DataError(f"{path}: line {number}, field id: {row['id']!r} is in {row['set']} already", hint=_HINT)
        rows[row["id"]] = _from_line(row)
    if not sets:
        raise DataError(f"{path} holds no predictions", hint=_HINT)
    return {name: list(rows.values()) for name, rows in sets.items()}


def to_line(set_name: str, prediction: Prediction) -> dict[str, Any]:
    """One prediction as a plain row with the fields of ``FIELDS``."""
    example, stated = prediction.example, prediction.judgement
    return {
        "set": set_name,
        "id": example.id,
        "segment": example.segment,
        "query": example.query,
        "title": example.product.title,
        "product": product_row(example.product),
        "gold_tier": example.tier,
        "tier": stated.tier if stated else None,
        "verdicts": stated.verdicts if stated else {},
        "failure": prediction.failure,
        "text": prediction.text,
    }


def _from_line(row: dict[str, Any]) -> Prediction:
    segment = given(row, "segment") or "plain"
    product = product_of(row["product"]) if given(row, "product") else Product(row["title"])
    example = Example(row["id"], row["query"], product, int(row["gold_tier"]), segment=segment)
    tier = given(row, "tier")
    stated = None if tier is None else Judgement(int(tier), names(row, "verdicts"))
    return Prediction(example, given(row, "text") or "", stated, given(row, "failure") or "")


def _problems(row: Any) -> Iterator[tuple[str, str]]:
    """Yields (field, message) for everything that keeps ``_from_line`` from making a prediction of ``row``."""
    if isinstance(row, Problem):
        yield "", row.message
        return
    if not isinstance(row, dict):
        yield "", f"expected an object with named fields, found {type(row).__name__}"
        return
    yield from unknown_fields(row, FIELDS, "", "unknown field; the fields are")
    for key in ("set", "id", "query", "title"):
        yield from text_problems(row, key, key)
    for key in ("segment", "failure", "text"):
        yield from text_problems(row, key, key, required=False)
    if given(row, "product") is not None:
        yield from product_problems(row["product"])
        if isinstance(row["product"], dict) and row["product"].get("title") != row.get("title"):
            yield "title", f"is {row.get('title')!r}, but the product's is {row['product'].get('title')!r}"
    yield from tier_problems(row, "gold_tier", "gold_tier")
    if "tier" not in row:
        yield "tier", "is missing; null stands for an answer that does not parse"
    elif given(row, "tier") is not None:
        yield from tier_problems(row, "tier", "tier")
        if given(row, "failure"):
            yield "failure", f"is {row['failure']!r}, but the answer has a tier"
    yield from names_problems(row, "verdicts", "verdicts")
