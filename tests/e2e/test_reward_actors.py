"""Reward actors for real, that are killed or hang; without vLLM."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from actors.reward_pool import RewardPool
from agrl.relevance.records import Example, Judgement, Order, Product, RewardMode
from agrl.relevance.response import render_response
from agrl.relevance.rulebook import load_rulebook
from tests.e2e.slow_worker import SlowWorker

BOOK = load_rulebook("relevance")
ORDER = Order.think_then_respond
EXAMPLE = Example("e1", "grinder", Product("steel grinder"), 4, {"category": "same", "attributes": "met"})
RIGHT = render_response(BOOK, Judgement(4, dict(EXAMPLE.verdicts), {"query": "grinder", "product": "grinder"}), ORDER)


def reward_pool(runtime, tmp_path, **options) -> RewardPool:
    pool = RewardPool(
        runtime, BOOK.source, ORDER, RewardMode.rules, actors=2, log_dir=tmp_path, worker=SlowWorker, **options
    )
    pool.ready()
    return pool


def test_a_reward_actor_killed_at_work_loses_nothing_whoever_asks(runtime, tmp_path):
    """Generation, guidance and an evaluation have threads of their own."""
    pool = reward_pool(runtime, tmp_path)
    pid = pool._pool.services[0].call("pid").result()
    items = [[(EXAMPLE, RIGHT, "stop"), (EXAMPLE, f"no idea {i}", "stop")] for i in range(24)]
    with ThreadPoolExecutor(4) as threads:
        scored = threads.map(pool.score, items[12:])
        tickets = [pool.submit(pieces) for pieces in items[:12]]
        time.sleep(0.15)
        os.kill(pid, signal.SIGKILL)
        scores = [*map(pool.collect, tickets), *scored]
    assert len(scores) == len(items)
    assert all([s.correct for s in part] == [True, False] and all(s.valid for s in part) for part in scores)
    assert pool.metrics() == {"actors/reward_restarts": 1.0, "reward/timeouts": 0.0}
    assert all(of_it["queue_length"] == 0 for of_it in pool.gauges().values())
    pool.close()


def test_a_hanging_scorer_makes_its_own_scores_invalid_and_no_others(runtime, tmp_path):
    pool = reward_pool(runtime, tmp_path, timeout_s=1.0, restarts=0)
    texts = [RIGHT, "hang", RIGHT, RIGHT, "hang", RIGHT, RIGHT, RIGHT]
    tickets = [pool.submit([(EXAMPLE, text, "stop")] * 2) for text in texts]
    for text, ticket in zip(texts, tickets, strict=True):
        for score in pool.collect(ticket):
            assert score.valid == (text != "hang")
            if text == "hang":
                assert np.isnan(score.total) and score.failure == "timeout"
                assert {component.reason for component in score.components.values()} == {"timeout"}
                assert set(score.components) == set(BOOK.components)
    assert pool.metrics()["reward/timeouts"] == 4.0
    pool.close()
