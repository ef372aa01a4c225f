"""A run that is told to stop in the middle of a step, finds its disk full in the middle of a checkpoint, or loses a
learner that may not come back, leaves a checkpoint and goes on from it."""

import signal

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.recorder import read_jsonl
from tests.e2e.runs import agrl, done, ended, left, stop_in_a_step
from tests.e2e.small_disk import full_but_for, small_disk
from tests.e2e.small_world import make_world, overrides

STEPS, DISK_MB = 6, 64
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.prompts_per_step=8", "trainer.checkpoint_every=0"),
    *("guidance.source=reference", "guidance.tau=1.0", "data.max_evaluation=2", "learner.lr=1e-3"),
)


def test_what_was_stopped_then_had_no_disk_then_lost_its_learner_ends_bit_for_bit_as_a_run_in_peace(tmp_path):
    world, disk = make_world(tmp_path / "world"), tmp_path / "disk"
    agrl("train", *overrides(world, tmp_path / "peace", *WORDS))
    with small_disk(disk, DISK_MB) as is_small:
        run = disk / "run"
        stop_in_a_step(run, overrides(world, run, *WORDS), after=2)
        if is_small:
            fill_in_a_checkpoint(run, disk)
        kill_the_learner(run)
        agrl("train", "--resume", run)
        assert left(run) == left(tmp_path / "peace")
        assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == list(range(STEPS)), "none lost, none twice"
        assert (run / "report.html").is_file()
        assert "is finished" in agrl("train", "--resume", run)


def fill_in_a_checkpoint(run, disk) -> None:
    """Go on with room for half a checkpoint: it ends by name, and the last one is whole."""
    last = RunFolder(run).latest()
    size = sum(file.stat().st_size for file in last.folder.rglob("*") if file.is_file())
    with full_but_for(disk, size // 2):
        said = agrl("train", "--resume", run, "trainer.checkpoint_every=1", code=1)
        assert f"no space is left on the disk at {disk}" in said and "Traceback" not in said
        assert f"last checkpoint: step {last.step}" in said and f"agrl train --resume {run}" in said
        assert done(run) == last.step + 1, "the step was done, its checkpoint failed"
        assert RunFolder(run).newest_whole() == (last, []) and not list(run.glob("**/*.partial"))


def kill_the_learner(run) -> None:
    """Go on until the next checkpoint is there, then without a learner: it ends by name."""
    later = RunFolder(run).latest().step + 1
    written = RunFolder(run).checkpoints / f"step-{later:06}"
    mortal = ("train", "--resume", run, "trainer.checkpoint_every=1", "learner.restarts=0")
    _, code, said = ended(mortal, written.exists, signal.SIGKILL, of="LearnerRank")
    last = RunFolder(run).latest().step
    assert code == 1 and later <= last < STEPS
    assert "learner-0 died" in said and f"agrl train --resume {run}" in said and "Traceback" not in said
    assert f"last checkpoint: step {last}" in said
