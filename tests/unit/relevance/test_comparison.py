"""Two judges on the same examples: the counts by a literal loop, the tests by their closed forms, who shares what."""

from itertools import product
from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.errors import DataError
from agrl.relevance.comparison import Pair, align, compare, distance, require_same_examples, tally
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import TIERS, Judgement, Product
from tests.unit.relevance.strategies import make_example

ANSWERS = st.sampled_from((*TIERS, None))  # None: does not parse
TRIPLES = st.lists(st.tuples(st.sampled_from(TIERS), ANSWERS, ANSWERS), min_size=1, max_size=30)


def answer(gold, stated, name="e1", **fields) -> Prediction:
    example = make_example(gold, id=name, **fields)
    return Prediction(example, "text", stated and Judgement(stated, {}), "" if stated else "empty")


def pair(gold, a, b, name="e1", set_name="balanced", **fields) -> Pair:
    return Pair(set_name, answer(gold, a, name, **fields), answer(gold, b, name, **fields))


def pairs(good, same, bad) -> list[Pair]:
    return [pair(4, 1, 4)] * good + [pair(4, 3, 3)] * same + [pair(4, 4, 2)] * bad


def even_odds(x, y) -> float:
    """P of a split at least as uneven, from the binomial coefficients."""
    n = x + y
    return sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= comb(n, x)) / 2**n


def test_an_answer_that_does_not_parse_is_farther_than_any_tier():
    far = max(distance(answer(gold, stated)) for gold, stated in product(TIERS, TIERS))
    assert far == 3 and distance(answer(4, None)) == 4
    assert pair(4, None, 1).gain > 0 > pair(4, 1, None).gain and pair(4, None, None).gain == 0


@given(TRIPLES)
def test_counts_are_those_of_a_literal_loop(rows):
    good = same = bad = 0
    for gold, a, b in rows:
        far_a, far_b = (4 if stated is None else abs(stated - gold) for stated in (a, b))
        good, same, bad = good + (far_b < far_a), same + (far_b == far_a), bad + (far_b > far_a)
    found = tally([pair(*row) for row in rows])
    assert (found["good"], found["same"], found["bad"], found["n"]) == (good, same, bad, len(rows))
    assert found["accuracy_b"] == pytest.approx(sum(b == gold for gold, _, b in rows) / len(rows))
    only_a = sum(a == gold and b != gold for gold, a, b in rows)
    only_b = sum(b == gold and a != gold for gold, a, b in rows)
    assert (found["only_a_right"], found["only_b_right"]) == (only_a, only_b)
    assert found["sign_p"] == pytest.approx(even_odds(good, bad))
    assert found["mcnemar_p"] == pytest.approx(even_odds(only_a, only_b))


@given(TRIPLES)
def test_swapping_the_judges_mirrors_everything(rows):
    one, other = tally([pair(*row) for row in rows]), tally([pair(gold, b, a) for gold, a, b in rows])
    assert (one["good"], one["bad"], one["sign_p"]) == (other["bad"], other["good"], pytest.approx(other["sign_p"]))
    if one["win_rate"] is not None:
        assert one["win_rate"] == pytest.approx(1 - other["win_rate"])
        assert one["win_interval"] == pytest.approx([1 - x for x in reversed(other["win_interval"])])


def test_the_interval_is_wilsons():
    found = tally(pairs(good=30, same=5, bad=10))
    n, p, z = 40, 30 / 40, 1.959963984540054
    centre, half = (p + z * z / (2 * n)), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["win_rate"] == p
    assert found["win_interval"] == pytest.approx([(centre + s * half) / (1 + z * z / n) for s in (-1, 1)])


def test_without_any_difference_there_is_no_win_rate():
    found = tally(pairs(good=0, same=3, bad=0))
    assert (found["win_rate"], found["win_interval"]) == (None, None)
    assert (found["sign_p"], found["mcnemar_p"]) == (1, 1)


def test_sets_and_segments_are_counted_apart():
    rows = [pair(4, 1, 4), pair(4, 4, 1, segment="negation"), pair(2, 2, 2, set_name="wild")]
    sets = compare(rows)["sets"]
    assert {name: part["n"] for name, part in sets.items()} == {"balanced": 2, "wild": 1}
    assert {name: part["good"] for name, part in sets["balanced"]["segments"].items()} == {"negation": 0, "plain": 1}


def test_the_examples_shown_are_the_largest_gains_and_losses_over_segments():
    rows = [pair(4, 3, 4, "small")] + [pair(4, 1, 4, f"plain {i}") for i in range(9)]
    rows += [pair(4, 1, 4, "numeric", segment="numeric"), pair(1, 1, None, "lost"), pair(1, 1, 2, "near")]
    found = compare(rows, shown=2)
    assert [row["id"] for row in found["good_examples"]] == ["plain 0", "numeric"]
    assert [row["id"] for row in found["bad_examples"]] == ["lost", "near"]
    lost = found["bad_examples"][0]
    assert lost["b"] == {"tier": None, "failure": "empty", "text": "text"} and lost["gain"] == -4
    assert [row["id"] for row in compare(rows, shown=20)["good_examples"]][-1] == "small"


def test_answers_are_matched_by_set_and_id_not_by_place():
    a = {"balanced": [answer(4, 4, "x"), answer(3, 3, "y")], "wild": [answer(1, 1, "x")]}
    b = {"wild": [answer(1, 2, "x")], "balanced": [answer(3, 1, "y"), answer(4, 2, "x")]}
    matched = [(p.set_name, p.example.id, p.b.judgement.tier) for p in align(a, b)]
    assert matched == [("balanced", "x", 2), ("balanced", "y", 1), ("wild", "x", 2)]


def test_two_files_with_the_same_ids_and_titles_are_told_apart_by_the_rest_of_the_product():
    def one_set(**product):
        return {"s": [make_example(id="a", product=Product("mug", **product))]}

    red, blue = one_set(attributes={"color": "red"}), one_set(attributes={"color": "blue"})
    with pytest.raises(DataError, match="another query or product"):
        require_same_examples(red, blue)
    require_same_examples(red, one_set(attributes={"color": "red"}))
    require_same_examples(one_set(), red)  # a prediction file may hold titles alone


def test_what_is_not_shared_is_named_and_counted():
    a = {"balanced": [make_example(4, id=name) for name in "abcdef"], "wild": [make_example(1)]}
    b = {"balanced": [make_example(3, id="a"), make_example(4, id="b", product=Product("other")), make_example(id="z")]}
    with pytest.raises(DataError) as error:
        require_same_examples(a, b)
    said = str(error.value)
    assert "balanced: 4 examples only in A ('c', 'd', 'e', ...)" in said
    assert "balanced: 1 example only in B ('z')" in said
    assert "balanced: 1 example with another gold tier ('a': 4 in A, 3 in B)" in said
    assert "balanced: 1 example with another query or product ('b')" in said
    assert "only A has the set wild (1 example)" in said
    assert "data.evaluation" in error.value.hint
    require_same_examples(a, dict(reversed(a.items())))
