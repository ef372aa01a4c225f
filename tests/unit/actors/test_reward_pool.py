"""What the reward pool does with its work when scorers die or fail. (Time limits need real actors: see tests/e2e.)"""

import pytest

from actors.reward_pool import RewardPool
from actors.runtime import Runtime
from actors.scoring import RewardWorker
from actors.service import ServiceDied
from agrl.errors import ActorError, RewardError, RuleBookError
from agrl.relevance.records import Example, Judgement, Order, Product, RewardMode
from agrl.relevance.response import render_response
from agrl.relevance.reward import Scorer
from agrl.relevance.rulebook import load_rulebook
from tests.unit.actors.fakes import FragileRuntime

BOOK = load_rulebook("relevance")
ORDER = Order.think_then_respond
EXAMPLE = Example("e1", "grinder", Product("steel grinder"), 4, {"category": "same", "attributes": "met"})
RIGHT = render_response(BOOK, Judgement(4, dict(EXAMPLE.verdicts), {"query": "grinder", "product": "grinder"}), ORDER)
ITEMS = [(EXAMPLE, RIGHT, "stop"), (EXAMPLE, "no idea", "stop"), (EXAMPLE, RIGHT, "length")]


def make_pool(runtime: Runtime, worker: type = RewardWorker, **options) -> RewardPool:
    return RewardPool(runtime, BOOK.source, ORDER, RewardMode.rules, worker=worker, **options)


def test_scores_are_those_of_the_scorer_whatever_the_order_of_collecting():
    pool = make_pool(Runtime("inline"), actors=2)
    scorer = Scorer(BOOK, ORDER, RewardMode.rules)
    expected = [scorer.score(*item) for item in ITEMS]
    tickets = [pool.submit(ITEMS[i:]) for i in range(3)]
    assert sum(of_it["queue_length"] for of_it in pool.gauges().values()) == 1  # the others are finished and taken
    assert [pool.collect(tickets[i]) for i in (2, 0, 1)] == [expected[2:], expected, expected[1:]]
    assert pool.score(ITEMS[:1]) == expected[:1]
    assert expected[0].correct and expected[1].failure and expected[2].failure == "cut_off"
    assert pool.metrics() == {"actors/reward_restarts": 0.0, "reward/timeouts": 0.0}


class Mortal(RewardWorker):
    """Dies at its first piece of work in its first life."""

    lives = 0

    def __init__(self, *args):
        super().__init__(*args)
        Mortal.lives += 1
        self.life = Mortal.lives

    def score(self, items):
        if self.life <= Mortal.doomed:
            raise ServiceDied("scorer killed by the test")
        return super().score(items)


@pytest.fixture(autouse=True)
def first_life():
    Mortal.lives, Mortal.doomed = 0, 1


def test_a_dead_scorer_is_replaced_and_loses_nothing():
    pool = make_pool(FragileRuntime(), worker=Mortal)
    tickets = [pool.submit(ITEMS), pool.submit(ITEMS[:1])]
    scores = [pool.collect(ticket) for ticket in tickets]
    assert [len(part) for part in scores] == [3, 1]
    assert pool.gauges() == {"reward-0": {"restarts": 1.0, "queue_length": 0.0}}
    assert all(score.valid for part in scores for score in part)
    assert pool.metrics()["actors/reward_restarts"] == 1.0


def test_a_scorer_that_dies_too_often_ends_the_run_by_name():
    Mortal.doomed = 99
    pool = make_pool(FragileRuntime(), worker=Mortal, restarts=2)
    with pytest.raises(ActorError, match=r"reward-0 was lost 3 times.*reward\.restarts.*killed by the test"):
        pool.score(ITEMS)


class Faulty(RewardWorker):
    def score(self, items):
        raise KeyError("verdict")


def test_a_scorer_that_raises_is_an_error_and_never_a_zero():
    with pytest.raises(RewardError, match="reward-0 failed: KeyError"):
        make_pool(Runtime("inline"), worker=Faulty).score(ITEMS)


def test_a_malformed_rule_book_is_refused_at_once():
    with pytest.raises(RuleBookError):
        RewardPool(Runtime("inline"), "name: [", ORDER, RewardMode.rules)


def test_work_goes_to_the_actor_with_the_least_left():
    pool = make_pool(Runtime("inline"), actors=2)
    pool.ready()
    taken = []
    pool._take_finished = lambda: None  # as if nothing were finished yet
    for n in (3, 1, 1, 1):
        ticket = pool.submit(ITEMS[:n])
        taken.append(next(i for i, queue in enumerate(pool._queues) if ticket in queue.tickets))
    assert taken == [0, 1, 1, 1]
