"""The metrics of a model on held-out sets, as terminal tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agrl.report.plain import PlainTable
from agrl.report.tables import HEADLINE

Metrics = dict[str, Any]


def evaluation_tables(
    found: dict[str, Metrics], beside: dict[str, dict[str, Metrics]] | None = None
) -> Iterator[PlainTable]:
    """Headline metrics of every set (and of baselines beside the model), then every set by segment."""
    yield _headline(found, beside or {})
    for name, metrics in found.items():
        if len(metrics["segments"]) > 1:
            yield _segments(name, metrics["segments"])


def _headline(found: dict[str, Metrics], beside: dict[str, dict[str, Metrics]]) -> PlainTable:
    table = plain_table("Held-out sets", "")
    columns = [(f"{name} (n={m['n']:,})", m) for name, m in found.items()]
    columns += [(f"{baseline}\n{name}", m) for baseline, sets in beside.items() for name, m in sets.items()]
    for title, _ in columns:
        table.add_column(title, justify="right")
    for key, label in HEADLINE.items():
        table.add_row(label, *(three(m.get(key)) for _, m in columns))
    for tier in sorted({t for _, m in columns for t in m["tier_f1"]}, reverse=True):
        table.add_row(f"F1 of tier {tier}", *(three(m["tier_f1"].get(tier)) for _, m in columns))
    for criterion in sorted({c for _, m in columns for c in m.get("verdict_accuracy", {})}):
        table.add_row(
            f"Verdict: {criterion}", *(three(m.get("verdict_accuracy", {}).get(criterion)) for _, m in columns)
        )
    return table


def _segments(name: str, segments: dict[str, Metrics]) -> PlainTable:
    table = plain_table(f"{name} by segment", "segment", "n", "accuracy", "macro-F1", "rule adherence", "parse rate")
    for segment, m in sorted(segments.items(), key=lambda pair: pair[1]["accuracy"]):
        values = (m["accuracy"], m["macro_f1"], m["rule_adherence"], m["parse_rate"])
        table.add_row(segment, f"{m['n']:,}", *map(three, values))
    return table


def plain_table(title: str, first: str, *columns: str) -> PlainTable:
    """A table in the style of all evaluations: the first column names, the others are numbers."""
    table = PlainTable(title)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def three(value: float | None) -> str:
    """Three decimals; nothing when the value is unknown."""
    return "" if value is None else f"{value:.3f}"
