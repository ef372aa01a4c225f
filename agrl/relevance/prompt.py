"""An example as the messages that a model is asked, in the wording of the rule book."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from agrl.errors import RuleBookError
from agrl.relevance.hints import hint_text
from agrl.relevance.records import Example, Order, Product
from agrl.relevance.rules import Line, RuleBook
from agrl.relevance.templates import compile_template


class Messages(NamedTuple):
    """A system and a user message; ``system`` may be empty."""

    system: str
    user: str


def render_prompt(book: RuleBook, example: Example, order: Order, style: str = "full", hint_level: int = 0) -> Messages:
    """Renders the prompt of one example.

    ``style`` is a key of the rule book's ``prompts``. ``hint_level`` > 0 puts that level's gold hint in the user
    message. The system message never depends on the example, so that engines can cache it. Every field of the example
    is one line, and no line of a rule book begins with one: what an example says can look like no line of another kind.
    Raises RuleBookError for an unknown style, DataError for an unknown hint level.
    """
    if style not in book.prompts:
        raise RuleBookError(
            f"rule book {book.name} has no prompt style {style!r}",
            hint=f"set task.prompt_style to one of: {', '.join(book.prompts)}",
        )
    hint = hint_text(book, example, hint_level)
    return Messages(_system(book, order, style), render_user(book, style, example.query, example.product, hint))


def render_user(book: RuleBook, style: str, query: str, product: Product, hint: str) -> str:
    """The user message about a pair, with ``hint`` as it is and every other field as one line."""
    attributes: dict[str, str] = {}
    for name, value in product.attributes.items():
        name, value = single_line(name), single_line(value)
        attributes[name] = f"{attributes[name]}; {value}" if name in attributes else value
    fields = {name: single_line(getattr(product, name)) for name in ("title", "category", "brand", "text")}
    product = replace(product, **fields, attributes=attributes)
    template = compile_template(book.prompts[style].user)
    return template.render(query=single_line(query), product=product, hint=hint).strip()


def single_line(text: str) -> str:
    """Text with every line break of Unicode, and the space round it, as one space; spaces inside a line stay."""
    return " ".join(filter(None, map(str.strip, text.splitlines())))


@lru_cache(maxsize=64)
def _system(book: RuleBook, order: Order, style: str) -> str:
    context = {
        "book": book,
        "rules": [(_conditions(book, rule.when), rule.tier) for rule in book.rules],
        "answer_format": "\n".join(line.prefix + _placeholder(book, line) for line in book.layout(order)),
    }
    return compile_template(book.prompts[style].system).render(context).strip()


def _conditions(book: RuleBook, when: dict[str, tuple[str, ...]]) -> str:
    """One rule's conditions in words: "Category is same and Attributes is met or partial"."""
    parts = [f"{book.criteria[name].label} is {' or '.join(accepted)}" for name, accepted in when.items()]
    return " and ".join(parts) or "anything else"


def _placeholder(book: RuleBook, line: Line) -> str:
    if line.kind == "section":
        return f"<{book.sections[line.key].meaning}>"
    if line.kind == "criterion":
        return f"<{' | '.join(book.criteria[line.key].verdicts)}>"
    return f"<{' | '.join(str(tier) for tier in book.tiers)}>"
