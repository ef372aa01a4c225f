"""Judgements as response text: one ``Label: value`` line per section, criterion and tier, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator

from agrl.errors import DataError
from agrl.relevance.records import TIERS, Judgement, Order
from agrl.relevance.rules import Line, RuleBook


def render_response(book: RuleBook, judgement: Judgement, order: Order) -> str:
    """Writes a judgement as a response, the exact inverse of ``agrl.relevance.parse.parse``.

    Raises DataError when the judgement does not fit the rule book: a line is missing or its value is not allowed.
    """
    return "\n".join(line.prefix + _value(book, judgement, line) for line in book.layout(order))


def _value(book: RuleBook, judgement: Judgement, line: Line) -> str:
    """The checked text of one line."""
    if line.kind == "tier":
        value = str(judgement.tier)
    else:
        stated = judgement.readings if line.kind == "section" else judgement.verdicts
        if line.key not in stated:
            raise DataError(f"the judgement has no {line.kind} {line.key!r}, which rule book {book.name} asks for")
        value = stated[line.key]
    if line.values is not None and value not in line.values:
        raise DataError(
            f"{line.kind} {line.key!r} of the judgement is {value!r}, which rule book {book.name} does not know",
            hint=f"allowed: {', '.join(sorted(line.values))}",
        )
    if not value or value != value.strip() or "\n" in value:
        raise DataError(
            f"{line.kind} {line.key!r} of the judgement is {value!r}",
            hint="a stated reading is one line of text, not empty, with no space around it",
        )
    return value


def sample_responses(book: RuleBook, order: Order) -> Iterator[str]:
    """A few responses that together state every verdict and tier of a rule book, with readings that say nothing."""
    verdicts = {name: list(criterion.verdicts) for name, criterion in book.criteria.items()}
    readings = dict.fromkeys(book.sections, "one; two 3")
    for i in range(max(len(TIERS), *map(len, verdicts.values()))):
        stated = {name: known[i % len(known)] for name, known in verdicts.items()}
        yield render_response(book, Judgement(TIERS[i % len(TIERS)], stated, readings), order)


def one_line(text: str) -> str:
    """Any text as one line that a response can hold ("-" for none)."""
    return " ".join(text.split()) or "-"
