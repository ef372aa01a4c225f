"""Checks a rule book's templates by rendering them: they must work, and no text from the data may begin a line.

A product's text is anybody's. It is one line in a prompt (``agrl.relevance.prompt``); when each line begins with words
of the rule book, and the hint's with words that begin no line with data in it, no product can forge a line or the hint.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import product as combinations

from jinja2 import TemplateError

from agrl.errors import AgrlError
from agrl.relevance.hints import Fact
from agrl.relevance.prompt import render_prompt, render_user
from agrl.relevance.records import TIERS, Example, Order, Product
from agrl.relevance.rules import TIER, RuleBook
from agrl.relevance.templates import compile_template
from agrl.relevance.yaml_node import Node

FIELDS = {
    "\ue000": "query",
    "\ue001": "product.title",
    "\ue002": "product.category",
    "\ue003": "product.brand",
    "\ue004": "name of an attribute",
    "\ue005": "value of an attribute",
    "\ue006": "product.text",
}
"""A character of no meaning that stands for each field -> the field."""
QUERY, TITLE, CATEGORY, BRAND, NAME, VALUE, TEXT = FIELDS
GOLD = "\ue00f"  # stands for a value in a hint
DATA = re.compile(rf"[{QUERY}-{TEXT}]|\\ue00[0-6]")  # as it is, or as JSON writes it


def check_wording(root: Node, book: RuleBook) -> None:
    """Raises RuleBookError naming the template that fails, or the line that data could forge."""
    if not book.prompts:
        root.child("prompts").fail("is empty", hint='give at least the style "full"')
    for style in book.prompts:
        _check_rendering(root, book, style)
        _check_lines(root, book, style)


def _check_rendering(root: Node, book: RuleBook, style: str) -> None:
    """With and without a hint, so that a slip in a template is found now."""
    first = next(book.combinations())
    example = Example("check", "query", Product("title", "category", "brand", {"a": "b"}, "text"), TIERS[0], first)
    for order in Order:
        for level in range(len(book.hints.levels) + 1):
            try:
                render_prompt(book, example, order, style, level)
            except AgrlError:
                raise
            except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
                key = "hints.template" if level and _renders(book, example, order, style) else f"prompts.{style}"
                root.fail(f"the template fails: {error}", key, hint="see docs/rulebook.md for the names it may use")


def _renders(book: RuleBook, example: Example, order: Order, style: str) -> bool:
    try:
        render_prompt(book, example, order, style)
    except Exception:  # only decides which template to blame
        return False
    return True


def _check_lines(root: Node, book: RuleBook, style: str) -> None:
    """Every line begins with the rule book's words, and the hint's with words that no line with data can begin with."""
    key, hints = f"prompts.{style}.user", list(_hints(book))
    for product in _products():
        plain = render_user(book, style, _text(QUERY), product, "").splitlines()
        for hint in hints:
            hinted = render_user(book, style, _text(QUERY), product, hint).splitlines()
            with_data = [line for line in (*plain, *hinted) if DATA.search(line)]
            for line in with_data:
                if not _beginning(line):
                    root.fail(
                        f"the line {_shown(line)} begins with text from the data, which could look like any line",
                        key,
                        hint="begin it with a word or sign of the rule book's own, such as `- {{ name }}: {{ value }}`",
                    )
            for line in Counter(hinted) - Counter(plain):
                _check_hint_line(root, key, line, with_data)


def _check_hint_line(root: Node, key: str, line: str, with_data: list[str]) -> None:
    """A line that is there only with a hint; without gold in it, it may also be one that shows data in another way."""
    if DATA.search(line):
        if GOLD in line:
            root.fail(
                f"the line {_shown(line)} holds the hint and text from the data, which could forge the hint",
                key,
                hint="give the hint a line of its own",
            )
        return
    begins = _beginning(line)
    if not begins and line.strip():
        root.fail(
            f"the hint's line {_shown(line)} has no words of the rule book's own before the gold value",
            "hints.template",
            hint='begin it with a word of its own, such as "Hint: "',
        )
    for other in with_data:
        start = _beginning(other)
        if start.startswith(begins) or begins.startswith(start):
            root.fail(
                f"the line {_shown(other)} begins as the hint's line {_shown(line)}: a product could forge the hint",
                key,
                hint="begin the hint, or the other line, with another word or sign",
            )


def _beginning(line: str) -> str:
    """What the rule book writes before the first text from the data, or before the gold value of a hint."""
    return re.split(rf"{DATA.pattern}|{GOLD}", line, maxsplit=1)[0].lstrip().casefold()


def _hints(book: RuleBook) -> Iterator[str]:
    """The hint of every level, with a mark in the place of the gold values."""
    labels = {name: criterion.label for name, criterion in book.criteria.items()} | {TIER: book.tier_label}
    for level in book.hints.levels:
        facts = [Fact(labels[name], GOLD) for name in level]
        yield compile_template(book.hints.template).render(facts=facts).strip()


def _products() -> Iterator[Product]:
    """Products with and without each field that may be missing."""
    attributes = {_text(NAME): _text(VALUE), _text(NAME, 2): _text(VALUE)}
    given = {"category": _text(CATEGORY), "brand": _text(BRAND), "attributes": attributes, "text": _text(TEXT)}
    for present in combinations([True, False], repeat=len(given)):
        fields = {name: value for (name, value), there in zip(given.items(), present, strict=True) if there}
        yield Product(_text(TITLE), **fields)


def _text(mark: str, times: int = 1) -> str:
    """A long text of nothing but a mark and signs, so that a template which splits or wraps a field shows it."""
    return " ".join([f"{mark} > {mark}; {mark}, {mark}. {mark}: {mark} - {mark} | {mark}/{mark}"] * 10 + [mark] * times)


def _shown(line: str) -> str:
    """A rendered line with the names of the fields."""
    for mark, field in (FIELDS | {GOLD: "gold value"}).items():
        line = re.sub(f"{mark}.*{mark}|{mark}", f"<{field}>", line)
    return repr(line)
