"""Generation beside training in lockstep (trainer.max_staleness=1), on the real stack: it repeats bit for bit."""

import json
import shutil

import pytest

from actors.rollout_pool import RolloutPool
from agrl.config.compose import resumed_config
from agrl.driver.run.ledger_check import check_ledger
from agrl.driver.training import train
from agrl.errors import ConfigError
from agrl.report.recorder import read_jsonl
from tests.e2e.runs import left, stop_in_a_step
from tests.e2e.small_world import config, make_world, overrides, silent

STEPS = 6
LOCKSTEP = (
    *("trainer.max_staleness=1", f"trainer.steps={STEPS}", "trainer.checkpoint_every=2", "trainer.keep_checkpoints=9"),
    *("guidance.source=reference", "guidance.tau=1.0", "rollout.actors=2", "learner.lr=1e-3", "data.max_evaluation=4"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A run that was left in peace."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(config(world, folder, *LOCKSTEP), silent())
    return folder


def test_every_batch_but_the_first_is_one_version_old_and_is_generated_beside_the_step_before(whole):
    rows = list(read_jsonl(whole / "metrics.jsonl"))
    assert [row["staleness/versions"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert [row["sync/version"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(0 <= row["staleness/kl"] < 1 and 0 < row["staleness/ess"] <= 1 for row in rows[1:])
    assert rows[0]["sync/gap_mean"] < 1e-5 and rows[0]["time/rollout"] > 0
    for row in rows[1:]:
        assert "sync/gap_mean" not in row and row["time/rollout"] == 0 < row["ahead/rollout"]
    for row in rows:
        phases = sum(value for name, value in row.items() if name.startswith("time/") and name != "time/step")
        assert phases == pytest.approx(row["time/step"])
        assert ("time/wait" in row) == (row["step"] < STEPS - 1)


def test_a_run_that_was_stopped_in_a_step_and_goes_on_with_other_actors_ends_bit_for_bit_as_the_whole_one(
    world, whole, tmp_path
):
    """The checkpoint holds the batch that had been generated ahead, and so does one that was due."""
    run, cut = tmp_path / "run", tmp_path / "cut"
    stop_in_a_step(run, overrides(world, run, *LOCKSTEP), after=3)
    with pytest.raises(ConfigError, match=r"max_staleness=0, but .* next step's batch, which is a version behind"):
        train(resumed_config(run, ["trainer.max_staleness=0"]), silent(), resume=True)
    train(resumed_config(run, ["rollout.actors=1", "reward.actors=1"]), silent(), resume=True)
    assert left(run) == left(whole)

    shutil.copytree(whole, cut)
    for lost in ("model", f"checkpoints/step-{STEPS:06d}"):
        shutil.rmtree(cut / lost)
    about = json.loads((cut / "run.json").read_text())
    (cut / "run.json").write_text(json.dumps({k: v for k, v in about.items() if k != "finished"}))
    train(resumed_config(cut, [f"run={cut}"]), silent(), resume=True)
    assert left(cut) == left(whole)


def test_nothing_is_lost_and_nothing_trained_twice(whole):
    found = check_ledger(whole)
    assert found.problems == [] and found.steps == STEPS and found.outcomes["trained"] > 0


def test_an_engine_that_dies_beside_the_learner_gets_the_weights_that_the_others_sample_from(
    world, whole, tmp_path, monkeypatch
):
    """Those of the last broadcast: the learner may have newer ones by then."""
    generate, calls = RolloutPool.generate, []

    def harmful(pool, requests, sampling):
        calls.append(sampling.logprobs)
        for number, item in enumerate(generate(pool, requests, sampling)):
            if number == 0 and sum(calls) == 4:  # of the batches that are trained: the first is the trial of weights
                pool._pool.services[1].kill()
            yield item

    monkeypatch.setattr(RolloutPool, "generate", harmful)
    run = tmp_path / "run"
    train(config(world, run, *LOCKSTEP), silent())
    assert list(read_jsonl(run / "metrics.jsonl"))[-1]["actors/rollout_restarts"] == 1
    assert left(run) == left(whole)
