"""Rewards are bounded, never count what is unknown as 0, and reward exactly what the rule book says."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.relevance.reading import reading_supports
from agrl.relevance.records import Judgement, Order, RewardMode
from agrl.relevance.response import render_response
from agrl.relevance.reward import Scorer, components_matrix, invalid_score
from agrl.relevance.rulebook import read_rulebook
from agrl.relevance.rules import Gate
from tests.unit.relevance.strategies import BOOKS, ORDERS, gold_examples, judgements, make_example, response_texts

BOOK = BOOKS["relevance"]
THINK = Order.think_then_respond
SCORER = Scorer(BOOK, THINK)
WEIGHTS = "weights: {format: 0.1, category: 0.2, attributes: 0.1, reading: 0.2, consistency: 0.1, tier: 0.3}"
WEIGHED = Scorer(read_rulebook(re.sub("weights: {.*}", WEIGHTS, BOOK.source)), THINK)
GOLD = {"category": "same", "attributes": "unmet"}
EXAMPLE = make_example(2, GOLD)
READINGS = {"query": "grinder; not electric", "product": "grinder; electric"}


def respond(tier, category, attributes, readings=READINGS) -> str:
    return render_response(BOOK, Judgement(tier, {"category": category, "attributes": attributes}, readings), THINK)


def values(score) -> dict:
    return {name: component.value for name, component in score.components.items() if component.valid}


def test_a_perfect_answer():
    score = SCORER.score(EXAMPLE, respond(2, "same", "unmet"))
    assert score.total == pytest.approx(1.0)
    assert score.valid and score.correct and score.consistent and score.sound
    assert score.judgement.tier == 2
    assert score.failure == ""


@pytest.mark.parametrize(
    ("response", "earned", "total"),
    [
        (respond(2, "same", "unmet"), (1, 1, 1, 1, 1, 1), 1.0),
        (respond(2, "substitute", "unmet"), (1, 0, 1, 0, 1, 1), 0.6),
        (respond(4, "same", "unmet"), (1, 1, 1, 1, 0, 0), 0.6),
        (respond(4, "same", "met"), (1, 1, 0, 0, 1, 0), 0.4),
        (respond(2, "same", "unmet", READINGS | {"product": "grinder; manual"}), (1, 1, 1, 0, 1, 1), 0.8),
        ("what?", (0, 0, 0, 0, 0, 0), 0.0),
    ],
)
def test_components_and_total(response, earned, total):
    score = WEIGHED.score(EXAMPLE, response)
    assert WEIGHED.names == ("format", "category", "attributes", "reading", "consistency", "tier")
    assert values(score) == dict(zip(WEIGHED.names, earned, strict=True))
    assert score.total == pytest.approx(total)


def test_readings_that_cannot_be_checked_are_no_component():
    assert "reading" not in Scorer(BOOKS["esci"], THINK).names


def test_unknown_gold_is_invalid_and_the_weights_renormalise():
    score = SCORER.score(make_example(2, {"category": "same"}), respond(2, "substitute", "unmet"))
    assert not score.components["attributes"].valid
    assert score.components["attributes"].reason == "no gold verdict"
    assert score.total == pytest.approx((0.1 + 0.1 + 0.3) / 0.85)


def test_gold_that_the_book_does_not_know_is_invalid_not_wrong():
    score = SCORER.score(make_example(7, {"category": "kind of"}), respond(2, "same", "unmet"))
    assert not score.components["category"].valid and not score.components["tier"].valid
    assert score.valid and score.total == pytest.approx(1.0)
    sparse = Scorer(BOOK, THINK, RewardMode.sparse).score(make_example(7), respond(2, "same", "unmet"))
    assert not sparse.valid and math.isnan(sparse.total)


def test_a_cut_off_response_is_unparsed_by_name():
    score = SCORER.score(EXAMPLE, respond(2, "same", "unmet"), finish_reason="length")
    assert score.failure == "cut_off"
    assert score.total == 0.0 and score.valid and not score.correct


@pytest.mark.parametrize(
    ("tier", "category", "attributes", "readings"),
    [
        (2, "substitute", "unmet", READINGS),  # right tier for the wrong verdict
        (4, "same", "unmet", READINGS),  # wrong tier
        (2, "same", "unmet", {"query": "grinder", "product": "grinder"}),  # verdicts that the reading does not give
    ],
)
def test_what_guidance_must_not_accept_is_not_sound(tier, category, attributes, readings):
    assert not SCORER.score(EXAMPLE, respond(tier, category, attributes, readings)).sound


def test_unchecked_readings_can_be_sound():
    book = BOOKS["esci"]
    text = render_response(book, Judgement(4, {"category": "same", "attributes": "met"}, READINGS), THINK)
    assert Scorer(book, THINK).score(make_example(4), text).sound


def test_sparse_pays_for_the_tier_only():
    scorer = Scorer(BOOK, THINK, RewardMode.sparse)
    assert scorer.score(EXAMPLE, respond(2, "unrelated", "met")).total == 1.0
    assert scorer.score(EXAMPLE, respond(1, "same", "unmet")).total == 0.0
    assert set(scorer.score(EXAMPLE, respond(1, "same", "unmet")).components) == set(scorer.names)


@pytest.mark.parametrize(("stated", "credit"), [(2, 1), (1, 2 / 3), (3, 2 / 3), (4, 1 / 3)])
def test_ordinal_credit(stated, credit):
    book = read_rulebook(BOOK.source.replace("tier_credit: exact", "tier_credit: ordinal"))
    score = Scorer(book, THINK).score(EXAMPLE, respond(stated, "same", "unmet"))
    assert score.components["tier"].value == pytest.approx(credit)


def test_gates_take_credit_away():
    book = read_rulebook(BOOK.source.replace("gates: []", "gates: [{component: tier, requires: category}]"))
    scorer = Scorer(book, THINK)
    gated = scorer.score(EXAMPLE, respond(2, "substitute", "unmet"))
    assert gated.components["tier"].value == 0 and "gated" in gated.components["tier"].reason
    assert gated.correct and gated.total == pytest.approx(0.35)
    assert scorer.score(EXAMPLE, respond(2, "same", "unmet")).total == pytest.approx(1.0)
    unknown = scorer.score(make_example(2), respond(2, "substitute", "unmet"))  # no gold category: the gate stays open
    assert unknown.components["tier"].value == 1


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
@given(data=st.data(), order=ORDERS, mode=st.sampled_from(list(RewardMode)), finish=st.sampled_from(["stop", "length"]))
def test_scoring_is_total_and_bounded(book, data, order, mode, finish):
    example = data.draw(gold_examples(book))
    parsed = judgements(book).map(lambda judgement: render_response(book, judgement, order))
    scorer = Scorer(book, order, mode)
    score = scorer.score(example, data.draw(response_texts(book) | parsed), finish)
    assert score.valid and 0.0 <= score.total <= 1.0
    assert tuple(score.components) == scorer.names
    assert all(0.0 <= component.value <= 1.0 for component in score.components.values())
    for name in book.criteria if order != Order.tier_only else ():
        assert score.components[name].valid == (name in example.verdicts)
    assert (score.judgement is None) == bool(score.failure)
    assert not score.sound or (score.correct and score.consistent)


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
@given(data=st.data())
def test_the_best_total_means_right_in_everything_known(book, data):
    example, judgement = data.draw(gold_examples(book)), data.draw(judgements(book))
    score = Scorer(book, THINK).score(example, render_response(book, judgement, THINK))
    right = example.verdicts.items() <= judgement.verdicts.items() and judgement.tier == example.tier
    supported = reading_supports(book, judgement) is not False
    assert math.isclose(score.total, 1.0) == (right and score.consistent and supported) == score.sound


def test_components_matrix():
    scores = [
        SCORER.score(EXAMPLE, respond(2, "substitute", "unmet")),
        SCORER.score(make_example(2, {"category": "same"}), respond(2, "same", "unmet")),
        invalid_score(SCORER.names, "timeout"),
    ]
    values, valid = components_matrix(scores, SCORER.names)
    assert values.dtype == np.float64 and valid.dtype == bool
    np.testing.assert_array_equal(values, [[1, 0, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1], [0] * 6])
    np.testing.assert_array_equal(valid, [[True] * 6, [True, True, False, True, True, True], [False] * 6])
    assert components_matrix([], SCORER.names)[0].shape == (0, 6)


def test_an_invalid_score_says_why():
    score = SCORER.invalid("timeout")
    assert not score.valid and math.isnan(score.total) and score.failure == "timeout"
    assert all(not component.valid and component.reason == "timeout" for component in score.components.values())


def test_verdicts_without_a_reading_earn_all_but_the_reading():
    gates = (Gate("tier", "reading"), Gate("tier", "consistency"))
    book = replace(BOOK, reward=replace(BOOK.reward, gates=gates))
    scorer = Scorer(book, Order.verdicts_only)
    assert scorer.names == tuple(name for name in BOOK.components if name != "reading")
    assert scorer.gates == gates[1:], "what nobody states can be required of nobody"
    right, wrong = (scorer.score(EXAMPLE, f"Category: {c}\nAttributes: unmet\nTier: 2") for c in ("same", "accessory"))
    assert right.sound and right.total == 1.0 and right.judgement.readings == {}
    assert not wrong.sound and not wrong.consistent and wrong.components["tier"].value == 0.0
    assert scorer.score(EXAMPLE, respond(2, "same", "unmet")).failure == "wrong_line"


def test_the_tier_alone_earns_format_and_tier_only():
    scorer = Scorer(BOOK, Order.tier_only)
    right, wrong, unparsed = (scorer.score(EXAMPLE, text) for text in ("Tier: 2", "Tier: 4", "Tier: 2\nmore"))
    assert scorer.names == ("format", "tier")
    assert values(right) == {"format": 1.0, "tier": 1.0} and right.sound and right.total == 1.0
    weights = BOOK.reward.weights
    assert wrong.total == pytest.approx(weights["format"] / (weights["format"] + weights["tier"])) and not wrong.sound
    assert unparsed.total == 0.0 and unparsed.failure == "extra_text"
    assert scorer.score(EXAMPLE, respond(2, "same", "unmet")).failure == "wrong_line"
