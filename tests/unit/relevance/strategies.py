"""Hypothesis strategies and small makers shared by the relevance tests."""

from hypothesis import strategies as st

from agrl.relevance.records import TIERS, Example, Judgement, Order, Product
from agrl.relevance.rulebook import load_rulebook

BOOKS = {name: load_rulebook(name) for name in ("relevance", "esci")}
ORDERS = st.sampled_from(list(Order))
LINES = st.text(min_size=1).map(lambda text: text.replace("\n", " ").strip()).filter(bool)


def make_example(tier=4, verdicts=None, **kwargs) -> Example:
    fields = {"id": "e1", "query": "red grinder", "product": Product("red coffee grinder")}
    return Example(**{**fields, **kwargs}, tier=tier, verdicts=verdicts or {})


@st.composite
def judgements(draw, book) -> Judgement:
    """Any judgement that the rule book can express, consistent or not."""
    return Judgement(
        tier=draw(st.sampled_from(TIERS)),
        verdicts={name: draw(st.sampled_from(list(c.verdicts))) for name, c in book.criteria.items()},
        readings={name: draw(LINES) for name in book.sections},
    )


@st.composite
def gold_examples(draw, book) -> Example:
    """An example with any gold tier and any subset of gold verdicts."""
    stated = draw(judgements(book))
    known = draw(st.sets(st.sampled_from(list(book.criteria))))
    return make_example(stated.tier, {name: v for name, v in stated.verdicts.items() if name in known})


def response_texts(book):
    """Any text at all, and text that looks like a response."""
    parts = [line.prefix for line in book.layout(Order.think_then_respond)]
    values = [value for line in book.layout(Order.think_then_respond) for value in line.values or ()]
    pieces = st.sampled_from([*parts, *values, "\n", "\n\n", " ", "grinder; red", "\r", "\x00"])
    return st.one_of(st.text(), st.lists(pieces, max_size=16).map("".join))
