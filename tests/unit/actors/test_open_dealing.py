"""Requests that keep coming: each is held by one engine, or waits, until it is finished or withdrawn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.dispatch import LOOK_AHEAD
from actors.generation import Generation, GenerationRequest, Progress
from actors.open_dealing import OpenDealing

ENGINES, ROOM = (0, 1, 2), 4


def request(name: str, n: int = 1) -> GenerationRequest:
    return GenerationRequest(name, np.zeros(3, np.int32), n)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["add", "take", "finish", "withdraw", "lose", "join"]), st.integers(0, 5)), max_size=60
)


@given(EVENTS)
def test_nothing_is_lost_done_twice_or_held_by_two(events):
    dealing, made, ended, answered = OpenDealing(ENGINES, ROOM), 0, set(), []
    for event, number in events:
        there = sorted(dealing.hands)
        index = there[number % len(there)] if there else None
        if event == "add":
            dealing.add([request(f"r{made + i}", n=1 + i % 2) for i in range(number)])
            made += number
        elif event == "join":
            dealing.join(ENGINES[number % len(ENGINES)])
        elif index is None:
            continue
        elif event == "take":
            dealing.take(index)
            holds = sum(r.n for r in dealing.hands[index].held.values())
            assert holds <= LOOK_AHEAD * ROOM + 1
        elif event == "finish" and dealing.hands[index].held:
            name = next(iter(dealing.hands[index].held))
            first = dealing.answer(index, Progress([Generation(name, [], 0)]))
            answered += [generation.request_id for generation in first]
            ended.add(name)
        elif event == "withdraw" and made:
            name = f"r{number % made}"
            held = [i for i, hand in dealing.hands.items() if name in hand.held]
            assert dealing.withdraw([name]) == held
            for holder in held:
                assert name in dealing.take_dropped(holder)
            ended.add(name)
        elif event == "lose":
            dealing.lose(index)
    assert len(answered) == len(set(answered))
    assert dealing.left == made - len(ended)
    held = [name for hand in dealing.hands.values() for name in hand.held]
    assert len(held) == len(set(held)) and not set(held) & ended
    if not dealing.hands:
        dealing.join(0)
    while dealing.left:  # whoever is there does the rest
        for index in list(dealing.hands):
            dealing.take(index)
            for name in list(dealing.hands[index].held):
                answered += [g.request_id for g in dealing.answer(index, Progress([Generation(name, [], 0)]))]
    assert len(answered) == len(set(answered)) and {f"r{i}" for i in range(made)} == set(answered) | ended


def test_what_comes_at_once_is_shared_out():
    dealing = OpenDealing(ENGINES, ROOM)
    dealing.add([request(f"r{i}") for i in range(6)])
    assert [[r.request_id for r in dealing.take(index)] for index in ENGINES] == [
        ["r0", "r1"],
        ["r2", "r3"],
        ["r4", "r5"],
    ]


def test_an_answer_to_what_was_withdrawn_counts_for_nothing():
    dealing = OpenDealing((0,), ROOM)
    dealing.add([request("a"), request("b")])
    dealing.take(0)
    dealing.withdraw(["a"])
    assert dealing.answer(0, Progress([Generation("a", [], 0)])) == [] and dealing.left == 1
