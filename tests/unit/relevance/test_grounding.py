"""A grounded reference is the policy's own reading, with all that is known after it, and only where that is sound."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.relevance.grounding import Answer, Gold, ground, is_sound
from agrl.relevance.records import Judgement
from tests.unit.relevance.strategies import BOOKS, gold_examples, judgements, make_example

BOOK = BOOKS["relevance"]
RIGHT = {"query": "grinder; red; small", "product": "grinder; red"}  # same, partial: 3
WRONG = {"query": "grinder; red", "product": "grinder; red"}  # same, met
EXAMPLE = make_example(3, {"category": "same", "attributes": "partial"})


def answer(readings, category="same", attributes="met", tier=4, logprob=-0.1) -> Answer:
    return Answer(Judgement(tier, {"category": category, "attributes": attributes}, readings), logprob)


def test_gold_takes_the_place_of_what_the_policy_concludes_from_its_reading():
    found = ground(BOOK, EXAMPLE, [answer(RIGHT, "accessory", "unmet", 1)], Gold.verdicts)
    assert found.judgement == Judgement(3, EXAMPLE.verdicts, RIGHT) and found.share == 1.0


def test_a_reading_that_gold_contradicts_gives_nothing():
    found = ground(BOOK, EXAMPLE, [answer(WRONG), answer(WRONG)], Gold.verdicts)
    assert found.judgement is None and found.reason == "reading"


def test_the_reading_that_most_share_comes_before_a_likelier_one():
    other = RIGHT | {"product": "grinder; red; loud"}
    answers = [answer(other, logprob=0.0), answer(RIGHT, logprob=-2.0), answer(RIGHT, logprob=-1.0), answer(WRONG)]
    found = ground(BOOK, EXAMPLE, answers, Gold.verdicts)
    assert found.judgement.readings == RIGHT and found.share == 0.5
    assert ground(BOOK, EXAMPLE, answers[:2], Gold.verdicts).judgement.readings == other, "the likelier of two"


@pytest.mark.parametrize("verdicts", [{}, {"category": "same"}])
def test_verdicts_that_are_not_gold_are_not_made_up(verdicts):
    found = ground(BOOK, replace(EXAMPLE, verdicts=verdicts), [answer(RIGHT)], Gold.verdicts)
    assert found.judgement is None and found.reason == "no gold"


def test_gold_that_contradicts_the_table_is_no_gold():
    assert ground(BOOK, replace(EXAMPLE, tier=1), [answer(RIGHT)], Gold.verdicts).reason == "no gold"


def test_of_the_tier_alone_the_verdicts_are_those_that_the_reading_implies():
    example = replace(EXAMPLE, verdicts={})
    found = ground(BOOK, example, [answer(RIGHT)], Gold.tier)
    assert found.judgement == Judgement(3, {"category": "same", "attributes": "partial"}, RIGHT)
    assert ground(BOOK, replace(example, tier=2), [answer(RIGHT)], Gold.tier).reason == "reading"


def test_its_own_verdicts_come_first_where_several_lead_to_the_tier():
    reading = {"query": "grinder", "product": "brush"}  # met, and not the same kind
    said = answer(reading, "accessory", "met", 2)
    found = ground(BOOK, make_example(2), [said], Gold.tier)
    assert found.judgement.verdicts == said.judgement.verdicts


def test_without_gold_the_sound_majority_decides():
    three = answer(RIGHT, "same", "partial", 3)
    answers = [three, three, answer(WRONG), answer(WRONG, "unrelated", "met", 1)]
    unlabelled = make_example(None)
    found = ground(BOOK, unlabelled, answers, Gold.none)
    assert found.judgement == three.judgement and found.share == 0.5
    assert ground(BOOK, unlabelled, answers, Gold.none, agreement=0.6).reason == "disagreement"
    assert ground(BOOK, unlabelled, answers[3:], Gold.none).reason == "reading", "unsound answers have no vote"


def test_nothing_that_parses_gives_nothing():
    assert ground(BOOK, EXAMPLE, [Answer(None, -1.0)], Gold.verdicts).reason == "unparsed"


@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
@given(data=st.data(), gold=st.sampled_from(list(Gold)))
def test_every_reference_is_sound_and_agrees_with_all_that_is_known(book, data, gold):
    example = data.draw(gold_examples(book))
    answers = data.draw(
        st.lists(judgements(book).map(lambda j: Answer(j, -1.0)) | st.just(Answer(None, 0.0)), max_size=5)
    )
    found = ground(book, example, answers, gold, agreement=0.0)
    assert (found.judgement is None) == bool(found.reason)
    if found.judgement:
        assert is_sound(book, found.judgement)
        assert found.judgement.readings in [a.judgement.readings for a in answers if a.judgement]
        if gold != Gold.none:
            assert found.judgement.tier == example.tier
            assert example.verdicts.items() <= found.judgement.verdicts.items()
