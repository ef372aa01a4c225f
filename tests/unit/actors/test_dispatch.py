"""Who gets which request: every request once, equal engines alike, a slow one no longer than it must."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.dispatch import FixedDealing, FreeDealing, Speeds
from actors.generation import Generation, GenerationRequest, Progress, Sampled

PROMPT = np.array([1], np.int32)


def requests(count: int, n: int = 8) -> list[GenerationRequest]:
    return [GenerationRequest(str(i), PROMPT, n) for i in range(count)]


def finished(name: str, tokens: int = 80) -> Generation:
    return Generation(name, [Sampled(np.zeros(tokens, np.int32), np.zeros(0, np.float32), "stop", "")], version=0)


def names(given: list[GenerationRequest]) -> list[str]:
    return [request.request_id for request in given]


def test_fixed_goes_by_position_and_to_the_successor_or_without_one_to_the_others():
    dealing = FixedDealing(requests(7), [0, 1, 2])
    assert [names(dealing.take(i)) for i in range(3)] == [["0", "3", "6"], ["1", "4"], ["2", "5"]]
    dealing.answer(1, Progress([finished("1")]))
    dealing.lose(1)
    dealing.join(1)
    assert names(dealing.take(1)) == ["4"]
    dealing.lose(2)
    dealing.abandon(2)
    assert [names(dealing.take(i)) for i in (0, 1)] == [["2"], ["5"]]
    assert dealing.left == 6


def test_free_deals_all_that_fits_at_once_in_turns_to_equal_engines():
    dealing = FreeDealing(requests(6), [0, 1, 2], room=256)
    assert [names(dealing.take(i)) for i in range(3)] == [["0", "3"], ["1", "4"], ["2", "5"]]


def test_free_gives_a_slow_engine_its_share_of_all():
    dealing = FreeDealing(requests(27), [0, 1, 2], room=256, speeds={0: 1.0, 1: 0.25, 2: 1.0})
    assert [len(dealing.take(i)) for i in range(3)] == [12, 3, 12]


def test_free_gives_windows_of_twice_what_is_decoded_together_and_more_to_who_has_finished():
    dealing = FreeDealing(requests(100), [0, 1], room=32)
    assert len(dealing.take(0)) == len(dealing.take(1)) == 8
    dealing.answer(0, Progress([finished("0"), finished("2")]))
    assert names(dealing.take(0)) == ["16", "17"] and dealing.take(1) == []


def test_what_a_lost_engine_held_is_the_next_to_be_given():
    dealing = FreeDealing(requests(20), [0, 1, 2], room=16)
    held = [names(dealing.take(i)) for i in range(3)]
    dealing.lose(1)
    dealing.answer(0, Progress([finished(name) for name in held[0]]))
    assert names(dealing.take(0)) == held[1]
    dealing.join(1)
    assert names(dealing.take(1)) == ["12", "13", "14", "15"][: len(dealing.hands[1].held)]


TICK = 0.02  # seconds


def run(dealing: FreeDealing, seconds_per_token: dict[int, float], together: int, tokens: int = 80) -> float:
    """Play a batch with engines that decode ``together`` requests at once, each at its own rate: its seconds."""
    now, clock, progress = 0.0, [], {}
    working = {index: {} for index in dealing.hands}  # request -> tokens left

    def give(index, given):
        working[index] |= {request.request_id: float(tokens) for request in given}
        for name in dealing.take_dropped(index):
            working[index].pop(name, None)

    for index in working:
        give(index, dealing.take(index))
        progress[index] = 0.0
        heapq.heappush(clock, (TICK, index))
    while dealing.left:
        now, index = heapq.heappop(clock)
        hand, can = working[index], TICK / seconds_per_token[index]
        decoded = list(hand)[:together]
        done = hand | {name: hand[name] - can / len(decoded) for name in decoded}
        generations = [finished(name, tokens) for name, left in done.items() if left <= 1e-9]
        working[index] = {name: left for name, left in done.items() if left > 1e-9}
        begun = tokens - sum(working[index].values()) / max(len(working[index]), 1)
        dealing.answer(index, Progress(generations, round(can) if hand else 0, TICK if hand else 0.0, begun))
        give(index, dealing.take(index))
        while helped := dealing.copy_from(index):
            give(*helped)
        heapq.heappush(clock, (now + TICK, index))
    return now


@pytest.mark.parametrize("room", [64, 10_000], ids=["queues", "all at once"])
def test_with_one_engine_of_three_at_a_quarter_of_the_speed_a_batch_takes_little_more_than_its_bound(room):
    speeds, pace = Speeds(), {0: 0.001, 1: 0.004, 2: 0.001}
    bound = 96 * 80 / sum(1 / seconds for seconds in pace.values())
    took = []
    for _ in range(3):
        dealing = FreeDealing(requests(96), [0, 1, 2], room, speeds.now())
        took.append(run(dealing, pace, room // 8) / bound)
        speeds.learn(dealing.hands, 96)
    assert took[0] < 1.2 and max(took[1:]) < 1.1  # the first time nobody knows that it is slow


def test_equal_engines_copy_nothing():
    dealing = FreeDealing(requests(64), [0, 1, 2, 3], room=256)
    assert run(dealing, dict.fromkeys(range(4), 0.001), together=32) <= 16 * 80 * 0.001 + 2 * TICK
    assert dealing.copied == 0


def test_who_is_second_with_a_copied_request_is_told_to_drop_it_and_it_counts_once():
    dealing = FreeDealing(requests(8), [0, 1], room=256)
    mine, slow = names(dealing.take(0)), names(dealing.take(1))
    dealing.answer(0, Progress([finished(name) for name in mine], 320, 1.0))
    assert dealing.take(0) == []
    dealing.answer(1, Progress([], 40, 1.0))
    helper, copies = dealing.copy_from(1)
    assert helper == 0 and names(copies) == slow[-len(copies) :] and dealing.copied == len(copies)
    assert len(dealing.answer(0, Progress([finished(slow[-1])], 80, 0.3))) == 1
    assert dealing.take_dropped(1) == [slow[-1]] and dealing.take_dropped(1) == []
    assert dealing.answer(1, Progress([finished(slow[-1])], 80, 0.3)) == []


@given(st.data())
def test_whatever_happens_every_request_is_finished_once(data):
    count, engines = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 5))
    speeds = {i: data.draw(st.sampled_from([0.02, 0.5, 1.0, 3.0])) for i in range(engines)}
    dealing = FreeDealing(requests(count, n=2), range(engines), data.draw(st.integers(1, 40)), speeds)
    found, lost = [], set()
    for index in range(engines):
        dealing.take(index)
    for _ in range(1000):
        if not dealing.left:
            break
        busy = [index for index in dealing.hands if dealing.is_busy(index)]
        assert busy or lost, "nobody has anything to do"
        index = data.draw(st.sampled_from(busy or sorted(lost)))
        if index in lost:
            lost.remove(index)
            dealing.join(index)
        elif len(dealing.hands) > 1 and data.draw(st.integers(0, 9)) == 0:
            dealing.lose(index)
            lost.add(index)
            for other in dealing.hands:
                if not dealing.is_busy(other):
                    dealing.take(other)
            continue
        else:
            some = data.draw(st.lists(st.sampled_from(list(dealing.hands[index].held)), unique=True))
            seconds = data.draw(st.sampled_from([0.0, 0.1, 10.0]))
            first = dealing.answer(index, Progress([finished(name) for name in some], 100, seconds))
            found += [generation.request_id for generation in first]
        dealing.take(index)
        dealing.copy_from(index)
        assert all(len(hand.held) <= max(30, 1) for hand in dealing.hands.values())
    else:
        for index in list(dealing.hands):
            found += [
                g.request_id for g in dealing.answer(index, Progress([finished(n) for n in dealing.hands[index].held]))
            ]
    assert len(found) == len(set(found))
    assert dealing.left or sorted(map(int, found)) == list(range(count))


def test_speeds_are_relative_small_differences_are_none_and_who_had_nothing_to_do_is_tried_again():
    speeds = Speeds()
    dealing = FreeDealing(requests(40), [0, 1, 2, 3], room=256)
    for index, rate in enumerate((100, 25, 110, 0)):
        dealing.answer(index, Progress([], rate, 1.0 if rate else 0.0))
    speeds.learn(dealing.hands, 40)
    assert speeds.now() == {0: 1.0, 1: 0.25, 2: 1.0, 3: 1.0}
    speeds.learn(dealing.hands, 3)  # too few to tell
    assert speeds.now()[1] == 0.25
    dealing.hands[1].tokens = 0
    for _ in range(30):
        speeds.learn(dealing.hands, 40)
    assert speeds.now()[1] == 1.0
