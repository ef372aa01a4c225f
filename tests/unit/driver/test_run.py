"""What a run tells of its held-out sets while it trains; without services."""

import gc
import io
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from agrl.config.compose import load_config
from agrl.data.pool import Pool
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run import run as running
from agrl.driver.run.run import Run, TaskData, running_services
from agrl.relevance.records import Example, Product
from agrl.report.plain import PlainConsole


@pytest.fixture
def told(monkeypatch):
    """What a recorder was told, in its order, the steps that it logged among it."""
    found, accuracy = [], iter((0.25, 0.5, 0.75))

    @contextmanager
    def open_recorder(*_):
        yield SimpleNamespace(
            log=lambda step, values: found.append(step), log_evaluation=lambda *evaluation: found.append(evaluation)
        )
        found.append("closed")

    monkeypatch.setattr(running, "open_recorder", open_recorder)
    monkeypatch.setattr(running, "evaluate_sets", lambda *_: {"wild": {"accuracy": next(accuracy), "parse_rate": 1.0}})
    return found


def test_evaluations_before_during_and_after_training_are_told_with_the_steps_that_were_done(told, tmp_path):
    config = load_config([f"run={tmp_path}", "model.path=m"])
    services = SimpleNamespace(
        config=config,
        rollouts=SimpleNamespace(version=0),
        encoder=None,
        runtime=None,
        gauges=None,
        learner=SimpleNamespace(version=0),
    )
    run = Run(services, RunFolder(tmp_path), {}, PlainConsole(io.StringIO()))
    run.evaluate("before", 0)
    assert told == []  # nobody listens yet
    with run.recorder("rl", 8, 0) as recorder:
        recorder.log(0, {})
        run.evaluate("step-000004", 4)
    run.evaluate("after", 8)  # nor any more
    wild = lambda accuracy: ("wild", {"accuracy": accuracy, "parse_rate": 1.0})  # noqa: E731
    assert told == [(0, *wild(0.25)), 0, (4, *wild(0.5)), "closed"]
    assert run.folder.load_evaluation("after")["wild"]["accuracy"] == 0.75


class Node:
    """Of a cycle of garbage."""


def test_garbage_of_a_run_is_gone_before_its_services_are_closed(monkeypatch, tmp_path):
    seen = []
    services = SimpleNamespace(ready=lambda: "", close=lambda: seen.append((garbage(), gc.get_threshold())))
    monkeypatch.setattr(running, "start_services", lambda *_: services)
    config, before = load_config([f"run={tmp_path}", "model.path=m"]), gc.get_threshold()
    data = TaskData(Pool.of([Example("a", "q", Product("t"), 4)]), False, {})
    with pytest.raises(KeyError), running_services(config, RunFolder(tmp_path), data, PlainConsole(io.StringIO())):
        assert gc.get_threshold() > before
        node = Node()
        node.itself, garbage = node, weakref.ref(node)
        del node
        assert garbage() is not None
        raise KeyError
    assert seen == [(None, before)]
