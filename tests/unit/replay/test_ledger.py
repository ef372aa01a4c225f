"""Every draw has one outcome, whatever the order in which they come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.ledger import DROPPED, GIVEN_BACK, TRAINED, Ledger

PROMPTS = 4


@given(st.lists(st.tuples(st.sampled_from(["draw", "train", "drop", "settle", "checkpoint"]), st.integers(0, 3))))
def test_every_draw_is_under_way_or_has_ended_once(events):
    """Steps go up as prompts are drawn; a checkpoint in between changes nothing."""
    ledger, step, settled = Ledger(), 0, []
    for event, number in events:
        waiting = ledger.under_way()
        if event == "draw":
            ledger.drawn({f"p{(number + i) % PROMPTS}": i for i in range(2)}, step)
            step += 1
        elif event == "settle":
            settled += ledger.settle(number)
        elif event == "checkpoint":
            state = json.loads(json.dumps(ledger.state_dict()))
            ledger = Ledger()
            ledger.load_state_dict(state)
        elif waiting:
            chosen = waiting[number % len(waiting)]
            ledger.close(chosen.example_id, chosen.drawn, TRAINED if event == "train" else DROPPED, "why")
    settled += ledger.settle(step)
    assert all(entry.outcome in (TRAINED, DROPPED) and entry.step == entry.drawn for entry in settled)
    assert sorted(e.draw for e in [*settled, *ledger.under_way()]) == list(range(ledger.draws))


def test_outcomes_are_handed_over_once_by_step_and_in_the_order_of_the_draws():
    ledger = Ledger()
    ledger.drawn({"a": 5, "b": 6}, 0)
    ledger.drawn({"a": 5, "c": 7}, 1)  # a is under way in two batches
    ledger.close("c", 1, DROPPED, "zero_variance")
    ledger.close("b", 0, TRAINED)
    ledger.close("a", 0, TRAINED)
    first = ledger.settle(0)
    assert [(e.draw, e.example_id, e.drawn, e.outcome, e.step) for e in first] == [
        (0, "a", 0, TRAINED, 0),
        (1, "b", 0, TRAINED, 0),
    ]
    assert [(e.draw, e.reason) for e in ledger.settle(1)] == [(3, "zero_variance")] and not ledger.settle(9)
    assert [(e.draw, e.drawn) for e in ledger.under_way()] == [(2, 1)]


def test_a_prompt_that_ends_in_a_later_step_than_its_own_is_the_one_under_way():
    ledger = Ledger()
    ledger.drawn({"a": 5}, 0)
    ledger.close("a", 3, GIVEN_BACK, "stale")
    assert [(e.drawn, e.step, e.reason) for e in ledger.settle(3)] == [(0, 3, "stale")]


def test_nothing_ends_twice_and_no_step_draws_a_prompt_twice():
    ledger = Ledger()
    ledger.drawn({"a": 5}, 0)
    with pytest.raises(ValueError, match="'a' was drawn twice at step 0"):
        ledger.drawn({"a": 5}, 0)
    ledger.close("a", 0, TRAINED)
    with pytest.raises(ValueError, match="'a' is not under way, and cannot be trained at step 0"):
        ledger.close("a", 0, TRAINED)
