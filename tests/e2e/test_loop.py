"""The whole loop on real Ray, vLLM and DeepSpeed: it trains, heals, stops by name, goes on where it stopped."""

import json
import shutil

import numpy as np
import pytest

from agrl.data.pool import open_pool
from agrl.driver.experiments.sft import supervised
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.services import start_services
from agrl.driver.step import training_step
from agrl.driver.training import train
from agrl.errors import WeightSyncError
from agrl.models.build import load_model
from tests.e2e.small_world import config, make_world, silent


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Data, and a model with a short supervised start, so that some responses parse."""
    folder = make_world(tmp_path_factory.mktemp("world"))
    run = supervised(config(folder, folder / "sft"), silent())
    shutil.rmtree(folder / "model")
    shutil.copytree(run.model, folder / "model")
    return folder


def rows(run, phase="rl"):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["phase"] == phase]


def test_the_supervised_start_learns_and_its_loss_is_recorded(world):
    losses = [row["loss/total"] for row in rows(world / "sft", "sft")]
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    summary = json.loads((world / "sft" / "summary.json").read_text())
    assert summary["steps"] == summary["version"] == 60 and list(summary["placement"]) == ["learner-0"]
    assert (world / "sft" / "report.html").is_file()


def test_a_run_with_several_of_everything_leaves_all_that_it_promises(world, tmp_path):
    several = ["rollout.actors=2", "reward.actors=2", "learner.ranks=2", "learner.zero_stage=2"]
    several += ["ray.placement=colocated"]  # the engines sleep while the learner works
    run = tmp_path / "run"
    guided = ["guidance.tau=1.0", "guidance.source=reference", "guidance.semantics=expert"]
    train(config(world, run, *several, *guided, "trainer.evaluate_every=2"), silent())
    metrics = rows(run)
    assert [row["step"] for row in metrics] == [0, 1, 2]
    assert all(row["sync/gap_max"] < 1e-4 for row in metrics if "sync/gap_max" in row)
    assert metrics[-1]["sync/version"] >= 1
    assert sum(row["decisions/guide"] for row in metrics) > 0
    assert sum(row["guide/share"] for row in metrics) > 0
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert "EXPERT" in {sample["provenance"] for sample in samples}
    for row in metrics:
        assert row["decisions/keep"] + row["decisions/guide"] + row["decisions/drop"] == 4
        phases = sum(value for name, value in row.items() if name.startswith("time/") and name != "time/step")
        assert phases == pytest.approx(row["time/step"]) and row["rollout/engine_seconds"] <= row["time/rollout"]
        assert 0 < row["rollout/prefix_cache_hits"] < 1 and 0 < row["learner/flop_utilisation"] < 1
        assert row["learner/seconds"] <= row["time/learn"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["after"]["balanced"]["n"] == 16 and summary["before"]["wild"]["n"] == 16
    assert {"rollout", "learn", "broadcast", "evaluate"} <= summary["phases"].keys()
    files = "config.yaml rulebook.yaml versions.json samples.jsonl report.html tensorboard logs model/config.json"
    for name in files.split():
        assert (run / name).exists(), name
    assert (run / "evaluation" / "step-000002-wild.json").is_file()
    for log in ("learner-1", "rollout-1", "reward-1", "replay"):
        assert (run / "logs" / f"{log}.log").is_file(), log
    assert load_model(str(run / "model"), "float32").num_parameters() > 0


@pytest.fixture(scope="module")
def services(world, tmp_path_factory):
    """A running system of two rollout actors and two reward actors, for tests that break things."""
    run = RunFolder(tmp_path_factory.mktemp("services"))
    settings = config(world, run.path, "rollout.actors=2", "reward.actors=2", "learner.lr=1e-3", "guidance.tau=1.0")
    running = start_services(settings, run, open_pool(settings.data.train), hinted=True)
    running.ready()
    yield running
    running.close()


def after_first_result(monkeypatch, services, harm):
    """Do ``harm`` once, as soon as the first group of a step has come back: the step is then in full course."""
    generate, done = services.rollouts.generate, []

    def harmful(requests, sampling):
        for item in generate(requests, sampling):
            if not done:
                done.append(harm())
            yield item

    monkeypatch.setattr(services.rollouts, "generate", harmful)


def test_killing_a_reward_actor_in_the_middle_of_a_step_loses_nothing(services, monkeypatch):
    restarts = services.rewards.metrics()["actors/reward_restarts"]
    after_first_result(monkeypatch, services, lambda: [s.kill() for s in services.rewards._pool.services])
    result = training_step(services, step=0)
    assert result.metrics["reward/invalid"] == 0
    assert result.metrics["tokens/response"] > 0
    assert services.rewards.metrics()["actors/reward_restarts"] == restarts + 2


def test_a_killed_rollout_actor_comes_back_with_the_current_weights(services, monkeypatch):
    training_step(services, step=1)  # so that the current weights are not those of the model folder
    assert services.learner.version > 0
    after_first_result(monkeypatch, services, services.rollouts._pool.services[1].kill)
    result = training_step(services, step=2)
    assert services.rollouts.metrics()["actors/rollout_restarts"] == 1
    assert sum(len(g.rollouts) for g in result.groups) == 4 * len(result.groups)
    monkeypatch.undo()
    healed = training_step(services, step=3)  # the learner compares every actor's log-probabilities with its own
    assert healed.metrics["sync/gap_max"] < 1e-4


def test_a_broadcast_that_was_skipped_is_caught(services, monkeypatch):
    monkeypatch.setattr(services.rollouts, "broadcast", lambda version, *weights: None)
    training_step(services, step=20)
    with pytest.raises(WeightSyncError, match="sampled from weight version"):
        training_step(services, step=21)


def test_an_actor_that_only_claims_the_new_version_is_caught_and_named(tmp_path):
    """The log-probabilities tell on it, also where the version does not. The model is untied, that of others tied."""
    world = make_world(tmp_path / "world", tied=False)
    run = RunFolder(tmp_path / "run")
    # without a supervised start nothing parses; a format reward of 0 everywhere would teach nothing, so tiers are drawn
    settings = config(world, run.path, "learner.lr=1e-2", "guidance.enabled=false")
    services = start_services(settings, run, open_pool(settings.data.train), hinted=True)
    try:
        services.ready()
        first = _learn_something(services)
        assert first["sync/gap_max"] < 1e-4
        broadcast_weights(services.learner, services.rollouts)
        second = _learn_something(services)
        assert second["sync/gap_max"] < 1e-4, "after a broadcast the log-probabilities must agree"
        # the engine is told the version and keeps the weights that it has
        services.rollouts._pool.services[0].call("__setattr__", "version", services.learner.version).result()
        services.rollouts._sync.version = services.learner.version
        with pytest.raises(WeightSyncError, match="rollout actor 0 does not sample from weight version 2"):
            _learn_something(services)
    finally:
        services.close()


def _learn_something(services) -> dict[str, float]:
    """Sample as a step does and learn from made-up advantages, without a broadcast."""
    from agrl.driver.generation.rollout import roll_out
    from agrl.driver.generation.sequences import train_sequences

    examples = services.replay.call("sample", 4, 0).result()
    groups = roll_out(services, [(example, 0) for example in examples], 4, services.learner.version, 1.0)
    advantages = [np.array([1.0, -1.0, 0.5, -0.5]) for _ in groups]
    return services.learner.train_policy(train_sequences(groups, advantages), 1e-2)
