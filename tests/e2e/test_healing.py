"""Learner ranks and the replay actor die at their work, by SIGKILL; the run ends bit for bit as an undisturbed one."""

from collections import Counter
from pathlib import Path

import pytest

from agrl.driver.experiments.sft import supervised
from agrl.driver.services import learner_ranks, services
from agrl.driver.training import train
from agrl.errors import LearnerLost
from agrl.report.events import deaths, read_events
from agrl.report.recorder import read_jsonl
from tests.e2e.dying import FOLDER, DyingRank, DyingReplay, doom, spared
from tests.e2e.small_world import config, make_world, silent
from tests.e2e.test_lockstep import numbers

STEADY = (
    *("trainer.steps=4", "learner.ranks=2", "learner.lr=1e-3", "rollout.actors=1", "data.max_evaluation=4"),
    *("guidance.source=reference", "guidance.tau=1.0", "learner.timeout_s=300", "rollout.timeout_s=300"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def mortal(monkeypatch, tmp_path):
    (tmp_path / "doom").mkdir()
    monkeypatch.setenv(FOLDER, str(tmp_path / "doom"))
    monkeypatch.setattr(learner_ranks, "LearnerRank", DyingRank)
    monkeypatch.setattr(services, "ReplayCore", DyingReplay)


def left(run: Path) -> tuple:
    return (run / "model" / "model.safetensors").read_bytes(), numbers(run), (run / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    "mode",
    [
        ("trainer.max_staleness=0", "learner.zero_stage=2"),
        ("trainer.max_staleness=1", "learner.zero_stage=3", "sync.transport=collective"),
    ],
    ids=["in turns", "in lockstep"],
)
def test_a_run_whose_learner_dies_in_training_a_snapshot_and_a_broadcast_and_its_replay_actor_too(
    world, tmp_path, mode
):
    broadcast = "send-3-0" if "sync.transport=collective" in mode else "broadcast-3-0"
    train(config(world, tmp_path / "peace", *STEADY, *mode), silent())
    doom("train-1-1", "snapshot-2-0", broadcast, "sample-1", "observe-2")
    train(config(world, tmp_path / "war", *STEADY, *mode), silent())
    assert not spared()
    assert [row["actors/learner_restarts"] for row in read_jsonl(tmp_path / "war" / "metrics.jsonl")] == [0, 1, 2, 3]
    lost = Counter(death["actor"] for death in deaths(read_events(tmp_path / "war")))
    assert lost == {"learner-0": 3, "learner-1": 3, "replay": 2}, "ranks are started anew together"
    assert left(tmp_path / "war") == left(tmp_path / "peace")


def test_a_supervised_start_heals_too_until_ranks_have_been_lost_too_often(world, tmp_path):
    words = ("learner.ranks=2", "sft.steps=12", "trainer.checkpoint_every=5", "learner.timeout_s=300")
    supervised(config(world, tmp_path / "peace", *words), silent())
    doom("train-3-0", "train-2-1")  # its ranks begin to count anew when they are started anew
    supervised(config(world, tmp_path / "war", *words), silent())
    assert not spared()
    model = Path("model", "model.safetensors")
    assert (tmp_path / "war" / model).read_bytes() == (tmp_path / "peace" / model).read_bytes()
    doom("train-6-0", "train-5-1")
    words += ("learner.restarts=1",)
    with pytest.raises(LearnerLost, match=r"lost 2 times, more than learner.restarts=1 allows; last: .*died") as lost:
        supervised(config(world, tmp_path / "lost", *words), silent())
    assert "last checkpoint: step 5" in lost.value.hint
