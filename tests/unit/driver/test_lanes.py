"""Runs side by side: each once, in order, after the one that it goes on from; an error stops every lane."""

import threading

import pytest

from agrl.driver.experiments.grid import Cell, Grid
from agrl.driver.experiments.lanes import Schedule, run_side_by_side

CELLS = list(Grid(starts=2, seeds=2).cells())


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_run_is_made_once_and_after_the_one_that_it_goes_on_from(lanes):
    ended, lock = [], threading.Lock()

    def run(lane, cell):
        assert 0 <= lane < lanes
        with lock:
            assert cell.before is None or cell.before in ended
        with lock:
            ended.append(cell)

    run_side_by_side(Schedule(CELLS), lanes, run, give_up=lambda: None)
    assert sorted(map(str, ended)) == sorted(map(str, CELLS))


def test_what_goes_on_from_an_earlier_call_can_begin_at_once():
    schedule = Schedule([Cell("agrl", 0, 0)], finished=[Cell("sft", 0, 0)])
    assert schedule.take() == Cell("agrl", 0, 0) and schedule.take() is None


def test_a_run_waits_for_its_start_while_others_begin():
    schedule = Schedule([Cell("sft", 0, 0), Cell("agrl", 0, 0), Cell("sft", 1, 0)])
    assert [schedule.take(), schedule.take()] == [Cell("sft", 0, 0), Cell("sft", 1, 0)]
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(schedule.take()))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive(), "its start is not finished"
    schedule.finish(Cell("sft", 0, 0))
    waiting.join(5)
    assert taken == [Cell("agrl", 0, 0)]


def test_the_first_error_ends_the_calls_under_way_and_nothing_more_begins():
    begun, stopped = [], threading.Event()

    def run(lane, cell):
        begun.append(cell)
        if cell == CELLS[0]:
            raise RuntimeError("the power went off")
        assert stopped.wait(5), "nobody ended this call"

    with pytest.raises(RuntimeError, match="the power went off"):
        run_side_by_side(Schedule(CELLS), 2, run, give_up=stopped.set)
    assert len(begun) <= 2
