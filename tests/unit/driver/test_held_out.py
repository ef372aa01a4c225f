"""Which rows of a held-out set are judged when it is to be only some."""

from hypothesis import given
from hypothesis import strategies as st

from agrl.driver.evaluation.held_out import drawn
from agrl.relevance.records import Example, Product

ROWS = [Example(str(i), "mug", Product("a mug"), 4 if i < 50 else 1) for i in range(100)]  # sorted by tier


@given(most=st.integers(0, 120), seed=st.integers(0, 99))
def test_rows_are_drawn_in_their_order_and_the_same_ones_again(most, seed):
    found = drawn(ROWS, most, seed)
    places = [int(example.id) for example in found]
    assert len(found) == (min(most, 100) or 100) and places == sorted(set(places))
    assert drawn(ROWS, most, seed) == found


def test_a_sorted_file_gives_rows_of_all_kinds():
    tiers = [example.tier for example in drawn(ROWS, 40, 0)]
    assert 10 < tiers.count(4) < 30
    assert drawn(ROWS, 40, 1) != drawn(ROWS, 40, 0)
