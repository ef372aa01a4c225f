"""Response text as a judgement: strict, total and fast. Any text gives a judgement or a named reason why not."""

from __future__ import annotations

from agrl.relevance.records import Judgement, Order, ParseFailure
from agrl.relevance.rules import Line, RuleBook

EMPTY, MISSING_LINE, WRONG_ORDER, WRONG_LINE = "empty", "missing_line", "wrong_order", "wrong_line"
EMPTY_VALUE, STRAY_SPACE, UNKNOWN_VERDICT, UNKNOWN_TIER = (
    "empty_value",
    "stray_space",
    "unknown_verdict",
    "unknown_tier",
)
EXTRA_TEXT, CUT_OFF = "extra_text", "cut_off"

REASONS: tuple[str, ...] = (
    EMPTY,  # no text at all
    MISSING_LINE,  # the text ends before the last line
    WRONG_ORDER,  # a line of the rule book, but not the one that is due
    WRONG_LINE,  # not a line of the rule book
    EMPTY_VALUE,  # a label with nothing after it
    STRAY_SPACE,  # more space before or after a value than the one after the colon
    UNKNOWN_VERDICT,  # not a verdict of the criterion
    UNKNOWN_TIER,  # not one of the digits 4, 3, 2, 1
    EXTRA_TEXT,  # text after the last line
    CUT_OFF,  # the response reached its token limit (given by the scorer, which knows)
)
"""Every reason that a ParseFailure can have."""


def parse(book: RuleBook, text: str, order: Order) -> Judgement | ParseFailure:
    """Reads a response of one ``Label: value`` line per section, criterion and tier, in the fixed order.

    One newline at the end is tolerated; anything else beside the lines is a failure, whose ``reason`` is one of
    ``REASONS``: the first thing wrong. Never raises on any text.
    """
    lines = text.removesuffix("\n").split("\n")
    layout = book.layout(order)
    tier, verdicts, readings = 0, {}, {}
    for expected, line in zip(layout, lines, strict=False):
        prefix = expected.prefix
        value = line[len(prefix) :]
        if not line.startswith(prefix) or not value or value[0].isspace() or value[-1].isspace():
            return _malformed(layout, expected, line, text)
        if expected.values is None:
            readings[expected.key] = value
        elif value not in expected.values:
            reason = UNKNOWN_TIER if expected.kind == "tier" else UNKNOWN_VERDICT
            return ParseFailure(reason, f"{prefix}{value[:60]!r}")
        elif expected.kind == "tier":
            tier = int(value)
        else:
            verdicts[expected.key] = value
    if len(lines) < len(layout):
        return ParseFailure(MISSING_LINE, f"no {layout[len(lines)].prefix.rstrip()!r} line")
    if len(lines) > len(layout):
        return ParseFailure(EXTRA_TEXT, repr(lines[len(layout)][:60]))
    return Judgement(tier, verdicts, readings)


def _malformed(layout: tuple[Line, ...], expected: Line, line: str, text: str) -> ParseFailure:
    """Names what is wrong with a line that is not ``Label: value``."""
    label = expected.prefix.rstrip()  # "Label:"
    detail = f"{line[:60]!r} where {label!r} is due"
    if not text.strip():
        return ParseFailure(EMPTY)
    if line.startswith(expected.prefix) and line != expected.prefix:
        return ParseFailure(STRAY_SPACE if line[len(expected.prefix) :].strip() else EMPTY_VALUE, detail)
    if line.rstrip() == label:
        return ParseFailure(EMPTY_VALUE, detail)
    if any(line.startswith(other.prefix.rstrip()) for other in layout if other is not expected):
        return ParseFailure(WRONG_ORDER, detail)
    return ParseFailure(WRONG_LINE, detail)
