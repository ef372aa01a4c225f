"""A run that is told to stop in the middle of a step, or loses a learner that may not come back, leaves a checkpoint
and goes on from it."""

import signal

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.recorder import read_jsonl
from tests.e2e.runs import agrl, ended, left, stop_in_a_step
from tests.e2e.small_world import make_world, overrides

STEPS = 6
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.prompts_per_step=8", "trainer.checkpoint_every=0"),
    *("guidance.source=reference", "guidance.tau=1.0", "data.max_evaluation=2", "learner.lr=1e-3"),
)


def test_what_was_stopped_and_then_lost_its_learner_ends_bit_for_bit_as_a_run_in_peace(tmp_path):
    world, run = make_world(tmp_path / "world"), tmp_path / "run"
    agrl("train", *overrides(world, tmp_path / "peace", *WORDS))
    stop_in_a_step(run, overrides(world, run, *WORDS), after=2)

    later = RunFolder(run).latest().step + 1
    written = RunFolder(run).checkpoints / f"step-{later:06}"
    mortal = ("train", "--resume", run, "trainer.checkpoint_every=1", "learner.restarts=0")
    _, code, said = ended(mortal, written.exists, signal.SIGKILL, of="LearnerRank")
    last = RunFolder(run).latest().step
    assert code == 1 and later <= last < STEPS
    assert "learner-0 died" in said and f"agrl train --resume {run}" in said and "Traceback" not in said
    assert f"last checkpoint: step {last}" in said

    agrl("train", "--resume", run)
    assert left(run) == left(tmp_path / "peace")
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == list(range(STEPS)), "none lost and none twice"
    assert (run / "report.html").is_file()
    assert "is finished" in agrl("train", "--resume", run)
