"""Two judges side by side, as terminal tables, and the words that tables and page share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from agrl.report.evaluation_table import plain_table, three
from agrl.report.plain import PlainTable, visible

Tally = dict[str, Any]  # what agrl.relevance.comparison.tally returns
CHANCE = 0.05  # p-values under it are said to be more than chance
SHOWN = 5  # examples of a kind that the terminal shows; --json and --html hold more
COLUMNS = ("n", "good", "same", "bad", "win rate", "95 %", "sign p", "acc. A", "acc. B", "McNemar p")


def comparison_tables(found: dict[str, Any]) -> Iterator[PlainTable | Text]:
    """For ``compare`` with the names of both: every set by segment, and the examples where they differ most."""
    yield Text.assemble(("A", "bold"), visible(f"  {found['a']}\n"), ("B", "bold"), visible(f"  {found['b']}\n"))
    for name, tally in found["sets"].items():
        table = plain_table(f"{name}: {reading(tally)}", "", *COLUMNS)
        for label, part in rows(tally):
            table.add_row(label, *_cells(part))
        yield table
    for title, kind in (("Where B gains most", "good_examples"), ("Where B loses most", "bad_examples")):
        if found[kind]:
            yield _examples(title, found[kind])


def rows(tally: Tally) -> list[tuple[str, Tally]]:
    """The whole set, then its segments when there is more than one, those where B gains most first."""
    segments = sorted(tally["segments"].items(), key=lambda item: (item[1]["bad"] - item[1]["good"]) / item[1]["n"])
    return [("all", tally), *(segments if len(segments) > 1 else [])]


def reading(tally: Tally) -> str:
    """Who is nearer to gold, in words; the sign test decides whether to say so."""
    if tally["sign_p"] >= CHANCE:
        return "no difference beyond chance"
    return "B is nearer to gold" if tally["good"] > tally["bad"] else "A is nearer to gold"


def p_value(p: float) -> str:
    """A p-value to three decimals; what is smaller is only said to be so."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def interval(tally: Tally) -> str:
    """The interval of the win rate; nothing when there is none."""
    low_high = tally["win_interval"]
    return f"{low_high[0]:.2f} to {low_high[1]:.2f}" if low_high else ""


def stated(answer: dict[str, Any]) -> str:
    """The tier of an answer, or why there is none."""
    return str(answer["tier"]) if answer["tier"] else (answer["failure"] or "unparsed").replace("_", " ")


def _cells(tally: Tally) -> list[str]:
    counts = [f"{tally[key]:,}" for key in ("n", "good", "same", "bad")]
    rates = [three(tally["win_rate"]), interval(tally), p_value(tally["sign_p"])]
    return [*counts, *rates, three(tally["accuracy_a"]), three(tally["accuracy_b"]), p_value(tally["mcnemar_p"])]


def _examples(title: str, examples: list[dict[str, Any]]) -> PlainTable:
    table = plain_table(title, "set", "gold", "A", "B")
    for column in table.columns:  # the texts wrap, these do not
        column.no_wrap = True
    table.add_column("query")
    table.add_column("product")
    for e in examples[:SHOWN]:
        table.add_row(e["set"], str(e["gold_tier"]), stated(e["a"]), stated(e["b"]), e["query"], e["title"])
    return table
