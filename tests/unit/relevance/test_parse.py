"""Parsing is total and strict, and the exact inverse of rendering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.errors import DataError
from agrl.relevance.parse import REASONS, parse
from agrl.relevance.records import Judgement, Order, ParseFailure
from agrl.relevance.response import render_response
from tests.unit.relevance.strategies import BOOKS, ORDERS, judgements, response_texts

BOOK = BOOKS["relevance"]
GOOD = "Query: grinder; not electric\nProduct: grinder; electric\nCategory: same\nAttributes: unmet\nTier: 2"
TIER_FIRST = "Tier: 2\nQuery: grinder; not electric\nProduct: grinder; electric\nCategory: same\nAttributes: unmet"
MEANING = Judgement(
    2, {"category": "same", "attributes": "unmet"}, {"query": "grinder; not electric", "product": "grinder; electric"}
)


def test_the_two_orders():
    assert parse(BOOK, GOOD, Order.think_then_respond) == MEANING
    assert parse(BOOK, TIER_FIRST, Order.respond_then_think) == MEANING
    assert render_response(BOOK, MEANING, Order.think_then_respond) == GOOD
    assert render_response(BOOK, MEANING, Order.respond_then_think) == TIER_FIRST
    assert parse(BOOK, GOOD, Order.respond_then_think).reason == "wrong_order"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        (GOOD[: GOOD.index("\nTier")], "missing_line"),
        (GOOD + "\n\n", "extra_text"),
        (GOOD + "\nThat is all.", "extra_text"),
        (GOOD + " ", "stray_space"),
        ("\n" + GOOD, "wrong_line"),
        ("Sure!\n" + GOOD, "wrong_line"),
        (GOOD.replace("Category: ", "category: "), "wrong_line"),
        (GOOD.replace("Query: ", "Product: "), "wrong_order"),
        (GOOD.replace("Query: grinder; not electric", "Query: "), "empty_value"),
        (GOOD.replace("Query: grinder; not electric", "Query:"), "empty_value"),
        (GOOD.replace("Query: ", "Query:  "), "stray_space"),
        (GOOD.replace("same", "Same"), "unknown_verdict"),
        (GOOD.replace("same", "same "), "stray_space"),
        (GOOD.replace("Tier: 2", "Tier: 5"), "unknown_tier"),
        (GOOD.replace("Tier: 2", "Tier: 2 Mismatch"), "unknown_tier"),
        (GOOD.replace("Tier: 2", "Tier: ２"), "unknown_tier"),
        (GOOD.replace("\n", "\r\n"), "stray_space"),
    ],
)
def test_failures_are_named(text, reason):
    failure = parse(BOOK, text, Order.think_then_respond)
    assert isinstance(failure, ParseFailure)
    assert failure.reason == reason
    assert reason in REASONS


def test_one_newline_at_the_end_is_tolerated():
    assert parse(BOOK, GOOD + "\n", Order.think_then_respond) == MEANING


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
@given(data=st.data(), order=ORDERS)
def test_parse_is_total_and_accepts_only_what_it_would_write(book, data, order):
    text = data.draw(response_texts(book))
    result = parse(book, text, order)
    if isinstance(result, ParseFailure):
        assert result.reason in REASONS
    else:
        assert render_response(book, result, order) == text.removesuffix("\n")


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
@given(data=st.data(), order=ORDERS)
def test_rendering_is_undone_by_parsing(book, data, order):
    judgement = data.draw(judgements(book))
    verdicts = {} if order == Order.tier_only else judgement.verdicts
    stated = Judgement(judgement.tier, verdicts, judgement.readings if order.reads else {})
    assert parse(book, render_response(book, judgement, order), order) == stated


@given(data=st.data(), order=ORDERS, cut=st.floats(0, 0.999))
def test_no_proper_prefix_of_a_think_then_respond_answer_parses(data, order, cut):
    text = render_response(BOOK, data.draw(judgements(BOOK)), Order.think_then_respond)
    assert isinstance(parse(BOOK, text[: int(len(text) * cut)], Order.think_then_respond), ParseFailure)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": 5}, "tier"),
        ({"verdicts": {"category": "same"}}, "no criterion 'attributes'"),
        ({"verdicts": {"category": "same", "attributes": "perfect"}}, "'perfect'"),
        ({"readings": {"query": "a", "product": "a\nTier: 4"}}, "'product'"),
        ({"readings": {"query": "a", "product": ""}}, "'product'"),
    ],
)
def test_a_judgement_that_does_not_fit_is_not_written(change, message):
    fields = {"tier": MEANING.tier, "verdicts": MEANING.verdicts, "readings": MEANING.readings, **change}
    with pytest.raises(DataError, match=message):
        render_response(BOOK, Judgement(**fields), Order.think_then_respond)
