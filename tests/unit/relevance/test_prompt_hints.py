"""Prompts state the rules, hints give away gold and no more, references are right."""

import pytest

from agrl.errors import DataError, RuleBookError
from agrl.relevance.hints import hint_levels, hint_text, max_hint_level, reference_judgement
from agrl.relevance.parse import parse
from agrl.relevance.prompt import render_prompt
from agrl.relevance.records import Judgement, Order, Product
from agrl.relevance.response import render_response
from tests.unit.relevance.strategies import BOOKS, make_example

BOOK, ESCI = BOOKS["relevance"], BOOKS["esci"]
GOLD = {"category": "same", "attributes": "unmet"}
PRODUCT = Product("acme grinder", "Home > Kitchen", "acme", {"color": "red"}, "grinds coffee")


def test_full_prompt_states_every_rule_and_the_whole_input():
    messages = render_prompt(BOOK, make_example(product=PRODUCT), Order.think_then_respond)
    for criterion in BOOK.criteria.values():
        assert all(f"- {verdict}: {meaning}" in messages.system for verdict, meaning in criterion.verdicts.items())
    assert messages.system.count("Category is ") == len(BOOK.rules)
    assert "Category is substitute and Attributes is partial or unmet: 2" in messages.system
    for part in ("red grinder", "acme grinder", "Home > Kitchen", "Brand: acme", "color: red", "grinds coffee"):
        assert part in messages.user


def test_answer_format_follows_the_order():
    first, last, verdicts, alone = (render_prompt(BOOK, make_example(), order).system for order in Order)
    assert first.rstrip().splitlines()[-1].startswith("Tier: ")
    assert last.index("\nTier: <") < last.index("\nQuery: <")
    assert "\nCategory: <" in verdicts and "\nTier: <" in verdicts and "\nQuery: <" not in verdicts
    assert "\nTier: <" in alone and "\nCategory: <" not in alone


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
def test_brief_prompt_is_only_the_input(book):
    messages = render_prompt(book, make_example(), Order.think_then_respond, "brief")
    assert messages == ("", "Search: red grinder\nTitle: red coffee grinder")


def test_the_hint_is_in_the_user_message_only():
    example = make_example(2, GOLD)
    plain = render_prompt(BOOK, example, Order.think_then_respond)
    hinted = render_prompt(BOOK, example, Order.think_then_respond, hint_level=3)
    assert hinted.system == plain.system
    assert hinted.user == plain.user + "\nHint: Category: same; Attributes: unmet; Tier: 2"


def test_braces_in_the_input_are_not_templates():
    example = make_example(query="{{ 7 * 7 }} {x}", product=Product("{% raw %}"))
    assert (
        render_prompt(BOOK, example, Order.think_then_respond, "brief").user
        == "Search: {{ 7 * 7 }} {x}\nTitle: {% raw %}"
    )


def test_unknown_style_is_refused():
    with pytest.raises(RuleBookError, match="'fancy'"):
        render_prompt(BOOK, make_example(), Order.think_then_respond, "fancy")


def test_hints_escalate():
    texts = [hint_text(BOOK, make_example(2, GOLD), level) for level in range(4)]
    assert texts[0] == ""
    assert texts[1] == "Hint: Category: same"
    assert texts[2] == "Hint: Category: same; Attributes: unmet"
    with pytest.raises(DataError, match="hint level 4"):
        hint_text(BOOK, make_example(2, GOLD), 4)


def test_hint_levels_need_gold():
    assert max_hint_level(BOOK, make_example(2, GOLD)) == 3
    assert max_hint_level(BOOK, make_example(2, {"category": "same"})) == 1
    assert max_hint_level(BOOK, make_example(2)) == 0
    assert hint_levels(ESCI, make_example(3)) == [3]
    assert hint_text(ESCI, make_example(3), 1) == ""
    assert hint_levels(ESCI, make_example(2, {"category": "complement"})) == [1, 3]


def test_a_right_reference_is_taken_as_it_is():
    reference = Judgement(2, GOLD, {"query": "grinder; not electric", "product": "grinder; electric"})
    assert reference_judgement(BOOK, make_example(2, GOLD, reference=reference)) is reference


@pytest.mark.parametrize(
    "wrong",
    [
        Judgement(4, GOLD, {"query": "q", "product": "p"}),
        Judgement(2, {"category": "substitute", "attributes": "unmet"}, {"query": "q", "product": "p"}),
        Judgement(2, {"category": "same"}, {"query": "q", "product": "p"}),
        Judgement(2, GOLD, {"query": "q"}),
    ],
)
def test_a_wrong_reference_is_replaced_by_gold(wrong):
    made = reference_judgement(BOOK, make_example(2, GOLD, query=" red\ngrinder ", reference=wrong))
    assert made == Judgement(2, GOLD, {"query": "red grinder", "product": "red coffee grinder"})
    assert parse(BOOK, render_response(BOOK, made, Order.respond_then_think), Order.respond_then_think) == made


def test_no_reference_without_gold_or_against_the_rules():
    assert reference_judgement(BOOK, make_example(2, {"category": "same"})) is None
    assert reference_judgement(BOOK, make_example(4, GOLD)) is None
    assert reference_judgement(BOOK, make_example(4, GOLD), complete=True) is None


@pytest.mark.parametrize("tier", [4, 3, 2, 1])
def test_labels_alone_are_completed_by_the_rules(tier):
    example = make_example(tier, ESCI.implied_verdicts(tier))
    made = reference_judgement(ESCI, example, complete=True)
    assert ESCI.decide(made.verdicts) == made.tier == tier
    assert example.verdicts.items() <= made.verdicts.items()
