"""When checkpoints are written, what is said at a resume, and that a resumed order of examples is the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.config.schema import LearnerConfig, SftConfig, TrainerConfig
from agrl.driver.experiments.sft import shuffled_batches
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.checkpoint import Length, is_due, to_resume
from agrl.errors import ConfigError, DiskError
from agrl.report.terminal import error_console


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run of 20 steps with a checkpoint after the tenth."""
    run = RunFolder(tmp_path)
    run.commit_checkpoint(run.begin_checkpoint(10), {"step": 10, "steps": 20}, keep=1)
    return run


def resumed(run, steps, settings=None, **learner):
    """The checkpoint to go on from, and what was said."""
    console = error_console()
    with console.capture() as said:
        length = Length("sft.steps", steps, "sft", settings or SftConfig(warmup_steps=2))
        found = to_resume(run, length, LearnerConfig(**learner), console)
    return found, " ".join(said.get().split())


@given(done=st.integers(1, 50), steps=st.integers(1, 50), every=st.integers(0, 10))
def test_a_checkpoint_is_due_every_so_often_and_after_the_last_step(done, steps, every):
    due = is_due(TrainerConfig(checkpoint_every=every), done, steps)
    assert due == (done == steps or (every > 0 and done % every == 0))


def test_a_damaged_checkpoint_is_passed_over_aloud_until_none_is_whole(run):
    run.commit_checkpoint(run.begin_checkpoint(12), {"step": 12, "steps": 20}, keep=2)
    (run.checkpoints / "step-000012" / "state.json").write_text("{}")
    found, said = resumed(run, 20)
    assert found.step == 10
    assert "A damaged checkpoint is passed over" in said and "step-000012.damaged: state.json has 2 of" in said
    (run.checkpoints / "step-000010" / "state.json").unlink()
    (run.checkpoints / "step-000010" / "state.json").write_text('{"step": 1' + "0" * 40)
    with pytest.raises(DiskError, match=r"no checkpoint of .* is whole: .*step-000010.damaged: state.json has"):
        resumed(run, 20)


def test_the_same_number_of_steps_goes_on_without_a_word(run):
    found, said = resumed(run, 20)
    assert found.step == 10 and said == ""


@pytest.mark.parametrize("steps", [15, 40])
def test_a_schedule_that_is_stretched_or_shortened_is_said_with_both_rates(run, steps):
    found, said = resumed(run, steps)
    assert found.step == 10
    assert f"sft.schedule=cosine now ends at step {steps} instead of 20" in said and "jumps from" in said


@pytest.mark.parametrize(
    ("written_by", "goes_on", "said"),
    [
        ((2, 2), (2, 2), ""),
        (
            (2, 2),
            (1, 1),
            "Resumed on 1 rank, ZeRO 1 (was 2 ranks, ZeRO 2): equal up to rounding, no longer bit for bit",
        ),
        (
            (1, 0),
            (2, 0),
            "Resumed on 2 ranks, ZeRO 0 (was 1 rank, ZeRO 0): equal up to rounding, no longer bit for bit",
        ),
        (None, (2, 3), ""),  # an earlier version wrote it, which did not say
    ],
)
def test_other_ranks_or_another_stage_are_said(run, written_by, goes_on, said):
    about = {"learner": {"ranks": written_by[0], "zero_stage": written_by[1]}} if written_by else {}
    run.commit_checkpoint(run.begin_checkpoint(11), {"step": 11, "steps": 20} | about, keep=1)
    ranks, zero_stage = goes_on
    assert resumed(run, 20, ranks=ranks, zero_stage=zero_stage)[1] == said


def test_a_constant_rate_does_not_jump(run):
    assert resumed(run, 40, LearnerConfig(schedule="constant"))[1] == ""


def test_a_finished_run_is_not_trained_again_and_says_how_to_train_it_further(run):
    (run.path / "run.json").write_text(json.dumps({"command": "sft", "finished": 10}))
    assert resumed(run, 10)[0].step == 10, "its model is gone: it is exported again"
    run.model.mkdir()
    found, said = resumed(run, 10)
    assert found is None and "is finished" in said and "sft.steps=N" in said
    assert resumed(run, 12)[0].step == 10
    (run.path / "run.json").write_text(json.dumps({"command": "sft"}))
    assert resumed(run, 10)[0].step == 10, "trained to the end, but the model was not exported"


def test_fewer_steps_than_were_trained_are_refused(run):
    with pytest.raises(ConfigError, match=r"sft.steps=9.*trained for 10 steps"):
        resumed(run, 9)


@given(
    count=st.integers(1, 12), size=st.integers(1, 20), steps=st.integers(1, 12), seed=st.integers(0, 9), data=st.data()
)
def test_batches_go_on_where_they_stopped(count, size, steps, seed, data):
    first = data.draw(st.integers(0, steps))
    whole = list(shuffled_batches(range(count), size, steps, seed))
    assert list(shuffled_batches(range(count), size, steps, seed, first)) == whole[first:]
    seen = [i for batch in whole for i in batch][: count * (size * steps // count)]
    assert all(sorted(seen[i : i + count]) == list(range(count)) for i in range(0, len(seen), count))
