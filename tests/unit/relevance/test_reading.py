"""Verdicts are checked against the stated readings."""

import pytest

from agrl.relevance.reading import join_items, need_met, needs_outcome, reading_supports, split_items
from agrl.relevance.records import Judgement
from tests.unit.relevance.strategies import BOOKS


@pytest.mark.parametrize(
    ("need", "features", "met"),
    [
        ("red", ["red"], True),
        ("red", ["blue"], False),
        ("not electric", ["electric"], False),
        ("not electric", [], True),
        ("weight under 2 kg", ["weight 1.5 kg"], True),
        ("weight under 2 kg", ["weight 2 kg"], False),
        ("weight under 2 kg", ["weight 1.5 lb"], False),
        ("weight under 2 kg", ["height 1 kg"], False),
        ("weight under 2 kg", [], False),
        ("weight over 2", ["weight 2.5"], True),
        ("weight over 2", ["weight 1", "weight 3"], True),
        ("not weight over 2", ["weight 3"], False),
        ("screen size under 10", ["screen size 9"], True),
        ("over ear", ["over ear"], True),
        ("weight over " + "9" * 500, ["weight 3"], False),
    ],
)
def test_needs(need, features, met):
    assert need_met(need, features) is met


@pytest.mark.parametrize(
    ("needs", "features", "outcome"),
    [
        ([], [], "met"),
        (["red", "not electric"], ["red"], "met"),
        (["red", "steel"], ["red"], "partial"),
        (["red", "steel"], ["blue"], "unmet"),
        (["red", "not electric"], ["red", "electric"], "unmet"),
        (["red", "not electric"], ["blue"], "partial"),
    ],
)
def test_outcomes(needs, features, outcome):
    assert needs_outcome(needs, features) == outcome


@pytest.mark.parametrize(
    ("query", "product", "category", "attributes", "supported"),
    [
        ("grinder; not electric", "grinder; electric", "same", "unmet", True),
        ("grinder; not electric", "grinder; electric", "same", "met", False),
        ("grinder", "grinder; electric", "same", "met", True),
        ("grinder", "kettle", "same", "met", False),
        ("grinder", "kettle", "substitute", "met", True),
        ("grinder", "kettle", "unrelated", "met", True),
        ("grinder", "grinder", "unrelated", "met", False),
        ("Grinder; Red", "grinder; red", "same", "met", True),
        ("grinder;; red", "grinder; red", "same", "met", False),
        ("", "", "same", "met", False),
        ("ukulele; not guitar", "guitar", "substitute", "unmet", True),
        ("ukulele; not guitar", "guitar", "substitute", "met", False),
    ],
)
def test_support(query, product, category, attributes, supported):
    judgement = Judgement(4, {"category": category, "attributes": attributes}, {"query": query, "product": product})
    assert reading_supports(BOOKS["relevance"], judgement) is supported


def test_free_readings_cannot_be_checked():
    judgement = Judgement(4, {"category": "same", "attributes": "met"}, {"query": "a cup", "product": "a hat"})
    assert reading_supports(BOOKS["esci"], judgement) is None


def test_items_round_trip():
    assert split_items(join_items("coffee grinder", ["red", "not electric"])) == (
        "coffee grinder",
        ["red", "not electric"],
    )
