"""Whose fault it is when learner ranks fail together, told from what each of them says."""

import pytest

from actors.service import Pending, Service, ServiceDied
from agrl.driver.services import rank_failures as ranks
from agrl.driver.services.rank_failures import wait_for_ranks
from agrl.errors import DivergenceError, LearnerError

ALL_REDUCE = [
    "/env/torch/distributed/distributed_c10d.py:wait",
    "/env/torch/distributed/distributed_c10d.py:all_reduce",
]
LOST_PEER = RuntimeError("[enforce fail] gloo/transport/tcp/pair.cc: Connection closed by peer [10.77.0.11]:4321")


class Answer(Pending):
    """An error, a value, or None: no answer. ``asked``: times that others come first."""

    def __init__(self, value, asked=0):
        self.value, self.asked = value, asked

    def result(self, timeout=None):
        if isinstance(self.value, Exception):
            raise self.value
        if self.value is None:
            raise TimeoutError
        return self.value

    def on_done(self, notice):
        raise NotImplementedError


class Rank(Service):
    def __init__(self, index, where=None):
        self.name, self._where, self._index = f"learner-{index}", where, index

    def who(self):
        return f"{self.name} on h{self._index} (10.77.0.1{self._index})"

    def where(self):
        return Answer(self._where)

    call = aside = ready = kill = None


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """What has an answer is there the next time that somebody asks."""

    def wait_any(sources, timeout):
        ready = [source for source in sources if source.value is not None and source.asked <= 0]
        for source in sources:
            source.asked -= 1
        return ready

    monkeypatch.setattr(ranks, "wait_any", wait_any)


def failure(*answers, where=(None, None)) -> LearnerError:
    calls = {answer: Rank(index, at) for index, (answer, at) in enumerate(zip(answers, where, strict=True))}
    with pytest.raises(LearnerError) as caught:
        wait_for_ranks(calls, 40.0, "train policy")
    return caught.value


def test_a_rank_that_does_not_answer_is_named_and_the_others_wait_for_it():
    said = str(failure(Answer(None), Answer(None), where=(ALL_REDUCE, None)))
    assert said.startswith("learner-1 on h1 (10.77.0.11): no answer for learner.timeout_s=40 s (train policy)")
    assert said.endswith("learner-0 on h0 (10.77.0.10) in all_reduce waits for the others")


def test_a_rank_that_is_busy_elsewhere_is_named_with_what_it_does():
    said = str(failure(Answer(None), Answer(None), where=(ALL_REDUCE, ["/app/loader.py:read_everything"])))
    assert "learner-1 on h1 (10.77.0.11) is in /app/loader.py:read_everything" in said


def test_all_in_a_collective_is_said_so():
    assert "every rank is in a collective" in str(failure(Answer(None), Answer(None), where=(ALL_REDUCE, ALL_REDUCE)))


def test_a_broken_collective_is_the_fault_of_the_rank_that_died():
    death = ServiceDied("learner-1 died with its host h1 (10.77.0.11), which is gone", hint="is h1 up?")
    error = failure(Answer(LOST_PEER), Answer(death, asked=1))
    assert str(error) == f"{death} (train policy)" and error.hint == "is h1 up?"


def test_a_collective_that_breaks_everywhere_says_what_broke():
    said = str(failure(Answer(LOST_PEER), Answer(LOST_PEER, asked=1)))
    assert "learner-0 on h0 (10.77.0.10)" in said and "Connection closed by peer" in said


def test_a_rank_that_broke_a_collective_and_one_that_is_out_of_reach():
    said = str(failure(Answer(LOST_PEER), Answer(None), where=(ALL_REDUCE, None)))
    assert said.startswith("learner-1 on h1 (10.77.0.11): no answer when the collective of learner-0 on h0")


@pytest.mark.parametrize("error", [DivergenceError("the loss is not finite"), ValueError("a mistake")])
def test_what_a_rank_raises_itself_comes_through(error):
    with pytest.raises(type(error), match=str(error)):
        wait_for_ranks({Answer(None): Rank(0), Answer(error): Rank(1)}, 40.0, "train policy")


def test_answers_that_come_one_after_another_are_waited_for():
    wait_for_ranks({Answer(3): Rank(0), Answer(4): Rank(1)}, 40.0, "train policy")
