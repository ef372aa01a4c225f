"""What a run folder remembers, and what it refuses."""

import json

import pytest

from agrl.config.compose import load_config, resumed_config
from agrl.driver.plan import describe
from agrl.driver.run_folder import RunFolder
from agrl.errors import ConfigError, LearnerError
from agrl.relevance.rulebook import load_rulebook


@pytest.fixture
def config(tmp_path):
    return load_config(["experiment=agrl_tiny", f"run={tmp_path / 'run'}"])


def checkpoint(run: RunFolder, step: int) -> None:
    folder = run.begin_checkpoint(step)
    (folder / "weights").write_text(str(step))
    run.commit_checkpoint(folder, {"step": step}, keep=2)


def test_what_a_run_was_started_with_is_saved(config):
    run, book = RunFolder(config.run), load_rulebook("relevance")
    run.start(config, book, resume=False)
    assert resumed_config(run.path) == config
    assert (run.path / "rulebook.yaml").read_text() == book.source
    assert json.loads((run.path / "versions.json").read_text())["torch"]


def test_the_newest_complete_checkpoint_counts_and_old_ones_go(config):
    run = RunFolder(config.run)
    assert run.latest() is None
    for step in (10, 20, 30):
        checkpoint(run, step)
    run.begin_checkpoint(40)  # the process dies here
    latest = run.latest()
    assert latest.step == 30 and (latest.folder / "weights").read_text() == "30"
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step-000020", "step-000030", "step-000040.partial"]


def test_a_run_with_checkpoints_is_not_overwritten(config):
    run, book = RunFolder(config.run), load_rulebook("relevance")
    checkpoint(run, 10)
    with pytest.raises(ConfigError, match="already holds a run") as refused:
        run.start(config, book, resume=False)
    assert f"agrl train --resume {run.path}" in refused.value.hint
    run.start(config, book, resume=True)


def test_an_error_says_how_to_go_on(config):
    run = RunFolder(config.run)
    error = LearnerError("learner-0 died", hint="look at its log")
    checkpoint(run, 20)
    run.say_how_to_resume(error)
    assert "look at its log" in error.hint and "step 20" in error.hint and "--resume" in error.hint


def test_the_plan_states_the_batch_arithmetic(config):
    text = "\n".join(describe(config, pool_size=8000, too_long=3))
    assert "32 prompts x 8 rollouts = 256 rollouts a step" in text
    assert "2 optimizer steps of 128" in text
    assert "3 prompts longer" in text
