"""Room for prompts, what is too old, and what a checkpoint holds, with stand-ins for engines, replay and learner."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from agrl.config.compose import load_config
from agrl.driver import free_running as module
from agrl.driver.free_running import FreeRunning, oldest
from agrl.driver.step import StepResult
from agrl.errors import ActorError
from agrl.relevance.records import Component, Example, Product, Provenance, Rollout, Score, ScoredGroup
from replay.decisions import Decision

BATCH, STEPS, PATIENCE_S = 4, 5, 20.0


class World:
    """Engines that finish a group whenever ``finish`` says so, sampled by weights of ``version``."""

    def __init__(self, monkeypatch, staleness: int) -> None:
        base = ["experiment=agrl_tiny", f"trainer.prompts_per_step={BATCH}", "trainer.rollouts_per_prompt=2"]
        free = ["trainer.overlap=free", f"trainer.max_staleness={staleness}", f"trainer.steps={STEPS}"]
        self.config = load_config([*base, *free, "guidance.enabled=false"])
        self.version, self.drawn, self.given_back, self.dropped = 0, 0, [], []
        self.finished, self.under_way, self.told = [], {}, threading.Condition()
        result = lambda value: SimpleNamespace(result=lambda: value)  # noqa: E731
        self.services = SimpleNamespace(
            config=self.config,
            learner=SimpleNamespace(version=0),
            replay=SimpleNamespace(call=lambda name, *args: result(getattr(self, name)(*args))),
            rollouts=SimpleNamespace(metrics=dict),
            rewards=SimpleNamespace(metrics=dict),
            scorer=SimpleNamespace(names=("tier",)),
        )
        monkeypatch.setattr(module, "Flow", lambda _: self)
        monkeypatch.setattr(module, "draw", self.draw)
        monkeypatch.setattr(module, "train_batch", self.train)

    # ---- the replay actor -----------------------------------------------------------------------------------------

    def observe(self, outcomes, step):
        return [Decision("keep", "signal")]

    def guided(self, guided):
        pass

    def metrics(self):
        return {}

    def give_back(self, ids, step, reason):
        self.given_back += ids

    def drop(self, ids, step, reason):
        self.dropped += ids

    def finish(self, steps):
        return [{"step": steps}]

    # ---- the flow -------------------------------------------------------------------------------------------------

    def draw(self, s, n, step, apart):
        assert apart
        examples = [Example(f"p{self.drawn + i}", "q", Product("t"), 4) for i in range(n)]
        self.drawn += n
        return examples

    def __len__(self):
        return len(self.under_way)

    @property
    def running(self):
        return list(self.under_way.values())

    def add(self, prompts):
        with self.told:
            self.under_way |= {example.id: (example, step) for example, step in prompts}
            self.told.notify_all()

    def next(self):
        with self.told:
            assert self.told.wait_for(lambda: self.finished, PATIENCE_S)
            return self.finished.pop(0)

    def taken(self, group):
        del self.under_way[group.example.id]

    def wake(self):
        with self.told:
            self.finished.append(None)
            self.told.notify_all()

    def stop(self):
        pass

    # ---- the test -------------------------------------------------------------------------------------------------

    def end(self, count: int, version: int = 0) -> None:
        """The engines finish as many prompts as have been running longest."""
        with self.told:
            names = [n for n in self.under_way if n not in [g.example.id for g in self.finished if g]][:count]
            assert len(names) == count
            self.finished += [group(self.under_way[name][0], version) for name in names]
            self.told.notify_all()

    def running_soon(self, count: int) -> bool:
        """Whether as many prompts are under way, after a while at most."""
        with self.told:
            waiting = lambda: len(self.under_way) - len([g for g in self.finished if g]) == count  # noqa: E731
            return self.told.wait_for(waiting, PATIENCE_S)

    def train(self, s, batch, beside):
        if beside:
            beside.result()
        s.learner.version += 1
        return StepResult(batch.groups, [], batch.metrics)


def group(example, version):
    score = Score(1.0, True, {"tier": Component(1.0)}, True, True, False, None)
    rollouts = [Rollout(example.id, np.zeros(2), np.zeros(3), np.zeros(3), "", version) for _ in range(2)]
    return ScoredGroup(example, rollouts, [score, score])


@pytest.mark.parametrize("staleness", [1, 2])
def test_no_more_is_under_way_than_can_be_trained_in_time(monkeypatch, staleness):
    world = World(monkeypatch, staleness)
    run = FreeRunning(world.services, STEPS)
    ahead = (staleness + 1) * BATCH
    assert world.running_soon(ahead) and world.drawn == ahead
    world.end(BATCH)
    result = run.step(0)
    assert [g.example.id for g in result.groups] == [f"p{i}" for i in range(BATCH)]
    assert world.running_soon(ahead), "a step makes room for another batch"
    assert world.drawn == ahead + BATCH


def test_the_last_batches_are_no_reason_to_draw_more_than_the_run_needs(monkeypatch):
    world = World(monkeypatch, staleness=2)
    run = FreeRunning(world.services, STEPS)
    for step in range(STEPS):
        assert world.running_soon(BATCH * min(3, STEPS - step))
        world.end(BATCH, version=step)
        run.step(step)
    assert world.drawn == STEPS * BATCH and run.finish() == [{"step": STEPS}]


def test_a_group_that_would_be_too_old_gives_its_prompt_back_and_another_takes_its_place(monkeypatch):
    world = World(monkeypatch, staleness=1)
    run = FreeRunning(world.services, STEPS)
    for step in range(3):
        assert world.running_soon(2 * BATCH)
        world.end(BATCH, version=step)
        run.step(step)
    assert world.running_soon(2 * BATCH)
    world.end(1, version=0)  # begun by the first weights; the learner is at version 3
    world.end(BATCH - 1, version=3)
    assert world.running_soon(2 * BATCH - (BATCH - 1))
    world.end(1, version=3)
    assert len(run.step(3).groups) == BATCH and len(world.given_back) == 1 and not world.dropped


def test_a_checkpoint_holds_what_is_ready_half_full_and_running(monkeypatch):
    world = World(monkeypatch, staleness=1)
    run = FreeRunning(world.services, STEPS)
    assert world.running_soon(2 * BATCH)
    world.end(BATCH + 1)
    assert world.running_soon(BATCH - 1)
    for _ in range(200):
        with run.halted() as ahead:
            if len(ahead.filling.sampled) == 1:
                break
        threading.Event().wait(0.05)
    assert [batch.step for batch in ahead.ready] == [0] and len(ahead.running) == BATCH - 1
    resumed = World(monkeypatch, staleness=1)
    resumed.drawn = world.drawn
    again = FreeRunning(resumed.services, STEPS, 0, ahead)
    assert len(again.step(0).groups) == BATCH
    assert resumed.running_soon(2 * BATCH - 1), "what ran is begun anew, and there is room for one more batch"
    assert resumed.drawn == world.drawn + BATCH


class Guidance:
    """For every first group of a batch; takes until ``go``."""

    def __init__(self, monkeypatch, world, error=None) -> None:
        self.go, self.begun, self._error = threading.Event(), [], error
        monkeypatch.setattr(module, "guide", self.guide)
        monkeypatch.setattr(world, "observe", self.observe)

    def observe(self, outcomes, step):
        first = int(outcomes[0].example_id.removeprefix("p")) % BATCH == 0
        return [Decision("guide", "low", 1) if first else Decision("keep", "signal")]

    def guide(self, s, groups, decisions, step):
        self.begun.append(groups[0].example.id)
        assert self.go.wait(PATIENCE_S)
        if self._error:
            raise self._error
        return [replace(groups[0], rollouts=groups[0].rollouts[:1])], {groups[0].example.id: "found"}


def test_generation_does_not_wait_for_guidance_but_a_batch_does(monkeypatch):
    world = World(monkeypatch, staleness=2)
    guidance = Guidance(monkeypatch, world)
    run = FreeRunning(world.services, STEPS)
    assert world.running_soon(3 * BATCH)
    world.end(2 * BATCH)
    assert world.running_soon(BATCH)
    for _ in range(200):
        with run.halted() as ahead:
            if len(guidance.begun) == 2 and len(ahead.full) == 2:
                break
        threading.Event().wait(0.05)
    assert [filling.unguided for filling in ahead.full] == [[0], [0]] and not ahead.ready

    resumed = World(monkeypatch, staleness=2)
    again = Guidance(monkeypatch, resumed)
    resumed.drawn = world.drawn
    other = FreeRunning(resumed.services, STEPS, 0, ahead)
    for going, from_now in ((guidance, run), (again, other)):
        going.go.set()
        for step in (0, 1):
            assert [len(group.rollouts) for group in from_now.step(step).groups] == [1, 2, 2, 2]
        assert going.begun == ["p0", "p4"]


def test_what_goes_wrong_in_guidance_ends_the_step(monkeypatch):
    world = World(monkeypatch, staleness=1)
    Guidance(monkeypatch, world, ActorError("rollout-0 was lost")).go.set()
    run = FreeRunning(world.services, STEPS)
    assert world.running_soon(2 * BATCH)
    world.end(1)
    with pytest.raises(ActorError, match="rollout-0 was lost"):
        run.step(0)


def test_what_goes_wrong_in_generation_ends_the_step(monkeypatch):
    world = World(monkeypatch, staleness=1)

    def fails(*_):
        raise ActorError("rollout-0 was lost")

    monkeypatch.setattr(world, "next", fails)
    with pytest.raises(ActorError, match="rollout-0 was lost"):
        FreeRunning(world.services, STEPS).step(0)


def test_a_group_is_as_old_as_its_oldest_token():
    example = Example("p", "q", Product("t"), 4)
    of = group(example, 3)
    of.rollouts[0].spans = ((2, 1), (3, 2))
    assert oldest(of) == 2
    of.rollouts[0].provenance = Provenance.TRANSFER
    assert oldest(of) == 3
