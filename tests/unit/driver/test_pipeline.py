"""Which batch is generated when, with stand-ins for generation and training."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from agrl.clock import Clock
from agrl.driver import pipeline as module
from agrl.driver.pipeline import Pipeline
from agrl.driver.step import RolloutBatch, staleness
from agrl.errors import ActorError, WeightSyncError
from agrl.relevance.records import Example, Product, Provenance, Rollout, ScoredGroup

PATIENCE_S = 10.0


class Stage:
    """Notes what begins and ends, in order. Training waits until the batch after it is being generated, if one is."""

    def __init__(self, monkeypatch, max_staleness: int, mode: str = "local") -> None:
        trainer = SimpleNamespace(max_staleness=max_staleness)
        self.services = SimpleNamespace(config=SimpleNamespace(trainer=trainer), runtime=SimpleNamespace(mode=mode))
        self.done: list[str] = []
        self.begun: dict[int, threading.Event] = {step: threading.Event() for step in range(4)}
        self.fails_at: int | None = None
        monkeypatch.setattr(module, "generate_batch", self.generate)
        monkeypatch.setattr(module, "train_batch", self.train)

    def generate(self, services, step):
        self.begun[step].set()
        if step == self.fails_at:
            raise ActorError("rollout-0 was lost")
        self.done.append(f"generate {step}")
        return RolloutBatch(step, [], {}, Clock())

    def train(self, services, batch, ahead=None):
        if ahead:
            assert self.begun[batch.step + 1].wait(PATIENCE_S), "nothing is generated beside the learner"
            ahead.result()
        self.done.append(f"train {batch.step}")
        return batch


def test_one_after_another_without_staleness(monkeypatch):
    stage = Stage(monkeypatch, 0)
    pipeline = Pipeline(stage.services, 3)
    for step in range(3):
        assert pipeline.step(step).step == step and pipeline.ready is None
    assert stage.done == ["generate 0", "train 0", "generate 1", "train 1", "generate 2", "train 2"]


@pytest.mark.parametrize("mode", ["local", "inline"])
def test_the_next_batch_is_generated_beside_the_learner_and_none_after_the_last_step(monkeypatch, mode):
    stage = Stage(monkeypatch, 1, mode)
    pipeline = Pipeline(stage.services, 3)
    results = [pipeline.step(step) for step in range(3)]
    assert stage.done == ["generate 0", "generate 1", "train 0", "generate 2", "train 1", "train 2"]
    assert [batch.clock is None for batch in results] == [False, True, True]
    assert "ahead/step" in results[1].metrics and "ahead/step" not in results[0].metrics
    assert pipeline.ready is None


def test_what_uses_the_weights_before_a_step_comes_first_or_beside_the_learner(monkeypatch):
    for most, expected in (
        (0, ["beside", "generate 0", "train 0"]),  # so that no clock of the step counts it
        (1, ["generate 0", "beside", "generate 1", "train 0"]),
    ):
        stage = Stage(monkeypatch, most)
        Pipeline(stage.services, 2).step(0, lambda stage=stage: stage.done.append("beside"))
        assert stage.done == expected
    last = Stage(monkeypatch, 1)
    Pipeline(last.services, 2, RolloutBatch(1, [], {})).step(1, lambda: last.done.append("beside"))
    assert last.done == ["beside", "train 1"]


def test_a_batch_that_a_checkpoint_held_is_not_generated_again(monkeypatch):
    stage = Stage(monkeypatch, 1)
    held = RolloutBatch(1, [], {})
    assert Pipeline(stage.services, 3, held).step(1) is held
    assert stage.done == ["generate 2", "train 1"]


def test_what_goes_wrong_in_generation_ends_the_step(monkeypatch):
    stage = Stage(monkeypatch, 1)
    stage.fails_at = 1
    with pytest.raises(ActorError, match="rollout-0 was lost"):
        Pipeline(stage.services, 3).step(0)


def batch_of(*spans):
    """One group of a rollout for each tuple of (version, tokens)."""
    rollouts = [
        Rollout(
            "p",
            np.zeros(3, np.int32),
            np.zeros(sum(n for _, n in own), np.int32),
            np.zeros(0),
            "",
            own[0][0],
            spans=own,
        )
        for own in spans
    ]
    return RolloutBatch(5, [ScoredGroup(Example("p", "q", Product("t"), 4), rollouts, [])], {})


@pytest.mark.parametrize(("sampled", "has", "most", "fine"), [(2, 2, 0, True), (2, 3, 1, True), (2, 3, 0, False)])
def test_a_batch_may_be_so_old_and_no_older(sampled, has, most, fine):
    batch = batch_of(((sampled, 4),))
    if fine:
        assert staleness(batch, has, most).get("staleness/versions") == (has - sampled if most else None)
        return
    with pytest.raises(WeightSyncError, match=r"step 5 was sampled from weight version 2, .* version 3: more than"):
        staleness(batch, has, most)


def test_a_batch_of_a_version_that_the_learner_has_not_made_is_refused():
    with pytest.raises(WeightSyncError, match="version 4"):
        staleness(batch_of(((4, 1),)), 3, 1)


def test_every_token_counts_with_its_own_version():
    found = staleness(batch_of(((3, 6), (4, 2)), ((5, 4),)), 5, 2)
    assert found == {
        "staleness/versions": (6 * 2 + 2 * 1) / 12,
        "staleness/share_0": 4 / 12,
        "staleness/share_1": 2 / 12,
        "staleness/share_2": 6 / 12,
        "staleness/spans": 1.5,
    }


def test_answers_of_long_ago_and_of_no_policy_do_not_count():
    batch = batch_of(((0, 4),), ((5, 4),))
    batch.groups[0].rollouts[0].provenance = Provenance.TRANSFER
    assert staleness(batch, 5, 1)["staleness/versions"] == 0
    batch.groups[0].rollouts[0].provenance, batch.groups[0].rollouts[0].version = Provenance.ON_POLICY, -1
    assert staleness(batch, 5, 1)["staleness/versions"] == 0
