"""Whose turn it is on a GPU that the learner and the engines share."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from agrl.config.compose import load_config
from agrl.config.schema import Placement
from agrl.data.pool import Pool
from agrl.driver.services import services as module
from agrl.driver.services.services import Services
from agrl.relevance.records import Example, Product


def make(placement: Placement, calls: list[str]) -> Services:
    config = load_config(["experiment=agrl_tiny"])
    config = replace(config, ray=replace(config.ray, placement=placement))
    does = lambda name, value=None: lambda *_: calls.append(name) or value  # noqa: E731
    service = SimpleNamespace(ready=lambda: SimpleNamespace(result=lambda: None))
    rollouts = SimpleNamespace(ready=does("engines load"), sleep=does("sleep"))
    learner = SimpleNamespace(setup=does("learner loads", ""), rest=does("rest"))
    pool, encoder = Pool.of([Example("a", "q", Product("t"), 4)]), SimpleNamespace(first_fitting=lambda *_: [])
    return Services(config, None, pool, False, None, None, encoder, None, rollouts, service, service, learner)


@pytest.mark.parametrize(
    ("placement", "start", "turn"),
    [
        ("separate", ["learner loads", "engines load", "broadcast"], ["learn"]),
        (
            "colocated",  # an engine takes its share of what is free, so it must come first, and leave it again
            ["engines load", "sleep", "learner loads", "engines load", "broadcast"],
            ["sleep", "learn", "rest"],
        ),
    ],
)
def test_learner_and_engines_take_turns_where_they_share_gpus(monkeypatch, placement, start, turn):
    calls = []
    monkeypatch.setattr(module, "try_broadcast", lambda *_: calls.append("broadcast"))
    services = make(Placement(placement), calls)
    services.ready()
    assert calls == start
    calls.clear()
    with services.learners_turn():
        calls.append("learn")
    assert calls == turn
