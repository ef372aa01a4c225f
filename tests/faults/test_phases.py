"""Every class of process killed in one phase or another of a step, on the real stack, in one run for each mode.

Some are killed from outside at the beginning of a phase, and some in the middle of a call, by themselves. Each kill has
a witness: the process is gone, and the events say that this actor was lost and another one came. The run ends bit for
bit as one that was left in peace, with one engine and one scorer, and its ledger is whole.
"""

import threading
from collections import Counter
from dataclasses import dataclass

import psutil
import pytest

from actors.runtime import Runtime
from agrl.driver import step as step_module
from agrl.driver.run import run as run_module
from agrl.driver.run.ledger_check import check_ledger
from agrl.driver.services import learner_ranks, services
from agrl.driver.services.learners import LearnerGroup
from agrl.driver.training import train
from agrl.report.events import deaths, read_events
from agrl.report.recorder import read_jsonl
from benchmarks.soak import processes
from tests.e2e.dying import FOLDER, DyingRank, DyingReplay, doom, spared
from tests.e2e.runs import left
from tests.e2e.small_world import config, make_world, silent

STEPS, GONE_S = 6, 20.0
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.checkpoint_every=3", "trainer.evaluate_every=3", "data.max_evaluation=4"),
    *("learner.ranks=2", "guidance.source=reference", "guidance.tau=1.0"),
    *("learner.lr=1e-3", "learner.timeout_s=300", "rollout.timeout_s=300", "learner.restarts=9", "replay.restarts=9"),
)
PEACE, WAR = ("rollout.actors=1", "reward.actors=1"), ("rollout.actors=2", "reward.actors=2")


@dataclass(frozen=True)
class Mode:
    """``words``: its settings. ``plan``: phase and step (of learn, publish, checkpoint and evaluate: the version of the
    weights) -> who is killed then. ``in_calls``: place (``tests.e2e.dying``) -> who dies there by itself.

    Every phase comes in each mode, every class of actor in both; who is killed when differs.
    """

    words: tuple[str, ...]
    plan: dict[str, str]
    in_calls: dict[str, str]


MODES = {
    "in turns": Mode(
        ("trainer.max_staleness=0", "learner.zero_stage=2"),
        {
            "sample 0": "replay",
            "rollout 1": "rollout-1",
            "score 2": "reward-0",
            "guide 3": "replay",
            "checkpoint 3": "learner-0",
            "evaluate 3": "rollout-0",
            "learn 4": "learner-1",
            "publish 5": "reward-1",
        },
        {"train-1-1": "learner-1", "broadcast-3-0": "learner-0", "sample-1": "replay"},
    ),
    "in lockstep": Mode(
        ("trainer.max_staleness=1", "learner.zero_stage=3", "sync.transport=collective"),
        {
            "sample 1": "reward-1",
            "rollout 1": "replay",
            "score 2": "rollout-1",
            "guide 3": "reward-0",
            "checkpoint 3": "rollout-0",
            "evaluate 3": "replay",
            "learn 4": "learner-1",
            "publish 5": "rollout-1",
        },
        {"snapshot-2-0": "learner-0", "send-3-0": "learner-0", "observe-2": "replay"},
    ),
}


class Killer:
    """Kills by a plan at the beginning of a phase, whichever thread it is in."""

    def __init__(self, folder, plan, monkeypatch) -> None:
        self._folder, self._left, self._lock = folder, dict(plan), threading.Lock()
        self.killed: list[psutil.Process] = []
        m = monkeypatch
        scored = iter(range(100))
        m.setattr(step_module, "draw", self.before("sample", step_module.draw, lambda s, n, step, *_: step))
        m.setattr(step_module, "generate", self.before("rollout", step_module.generate, lambda s, p, n, step, *_: step))
        m.setattr(step_module, "collect", self.before("score", step_module.collect, lambda *_: next(scored)))
        m.setattr(step_module, "guide", self.before("guide", step_module.guide, lambda s, g, d, step: step))
        version = lambda learner, *_: learner.version  # noqa: E731
        m.setattr(LearnerGroup, "train_policy", self.before("learn", LearnerGroup.train_policy, version))
        m.setattr(step_module, "broadcast_weights", self.before("publish", step_module.broadcast_weights, version))
        done = lambda run, done, *_, **__: done  # noqa: E731
        m.setattr(run_module.Run, "checkpoint", self.before("checkpoint", run_module.Run.checkpoint, done))
        held = lambda rollouts, *_: rollouts.version  # noqa: E731
        m.setattr(run_module, "evaluate_sets", self.before("evaluate", run_module.evaluate_sets, held))

    def before(self, phase, function, when):
        def killing(*args, **kwargs):
            self.kill(f"{phase} {when(*args, **kwargs)}")
            return function(*args, **kwargs)

        return killing

    def kill(self, moment: str) -> None:
        with self._lock:
            victim = self._left.pop(moment, None)
            if victim is not None:
                process = processes(psutil.Process(), self._folder)[victim]
                process.kill()
                self.killed.append(process)

    @property
    def spared(self) -> dict[str, str]:
        return self._left


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def mortal(monkeypatch, tmp_path):
    (tmp_path / "doom").mkdir()
    monkeypatch.setenv(FOLDER, str(tmp_path / "doom"))
    monkeypatch.setattr(learner_ranks, "LearnerRank", DyingRank)
    monkeypatch.setattr(services, "ReplayCore", DyingReplay)


@pytest.fixture(autouse=True)
def one_ray_for_both_runs(mortal):
    """Started when those who are to die will know it."""
    runtime = Runtime("local")
    yield
    runtime.shutdown()


@pytest.mark.parametrize("mode", MODES)
def test_any_process_may_die_in_any_phase(world, tmp_path, monkeypatch, mode):
    words, plan, in_calls = MODES[mode].words, MODES[mode].plan, MODES[mode].in_calls
    train(config(world, tmp_path / "peace", *WORDS, *words, *PEACE), silent())
    doom(*in_calls)
    killer = Killer(tmp_path / "war", plan, monkeypatch)
    train(config(world, tmp_path / "war", *WORDS, *words, *WAR), silent())
    assert not killer.spared and not spared(), "moments that never came"
    assert len(killer.killed) == len(plan)
    gone, alive = psutil.wait_procs(killer.killed, timeout=GONE_S)
    assert len(gone) == len(plan) and not alive
    victims, lost = [*plan.values(), *in_calls.values()], deaths(read_events(tmp_path / "war"))
    for victim in set(victims):
        times = [death for death in lost if death["actor"] == victim]
        assert len(times) >= victims.count(victim), f"{victim} was killed more often than it was lost"
        assert all(death["back_s"] is not None for death in times)
    counted = Counter(death["actor"] for death in lost)
    ranks = sum(victim.startswith("learner") for victim in victims)
    assert counted["learner-0"] == counted["learner-1"] == ranks, "ranks are started anew together"
    assert counted["replay"] == victims.count("replay")
    restarts = [row["actors/learner_restarts"] for row in read_jsonl(tmp_path / "war" / "metrics.jsonl")]
    assert restarts == sorted(restarts) and ranks - 1 <= restarts[-1] <= ranks  # the last death may come after the row
    found = check_ledger(tmp_path / "war")
    assert found.problems == [] and found.steps == STEPS
    assert left(tmp_path / "war") == left(tmp_path / "peace")
