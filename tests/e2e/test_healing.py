"""Learner ranks of a supervised start die at their work, by SIGKILL; tests/faults kills those of RL."""

from pathlib import Path

import pytest

from agrl.driver.experiments.sft import supervised
from agrl.driver.services import learner_ranks
from agrl.errors import LearnerLost
from tests.e2e.dying import FOLDER, DyingRank, doom, spared
from tests.e2e.small_world import config, make_world, silent


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def mortal(monkeypatch, tmp_path):
    (tmp_path / "doom").mkdir()
    monkeypatch.setenv(FOLDER, str(tmp_path / "doom"))
    monkeypatch.setattr(learner_ranks, "LearnerRank", DyingRank)


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
