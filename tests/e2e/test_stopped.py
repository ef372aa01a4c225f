"""A run that is told to stop in the middle of a step leaves a checkpoint of the step before, and goes on from it."""

import signal
import subprocess
import sys
import time

import pytest

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.recorder import read_jsonl
from tests.e2e.small_world import make_world, overrides
from tests.e2e.test_command_line import WIDE, agrl
from tests.e2e.test_lockstep import left

STEPS = 6
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.prompts_per_step=8", "guidance.source=reference", "guidance.tau=1.0"),
    *("data.max_evaluation=2", "learner.lr=1e-3"),
)


@pytest.mark.parametrize("staleness", [0, 1])
def test_sigterm_in_the_middle_of_a_step(tmp_path, staleness):
    world = make_world(tmp_path / "world")
    words = (*WORDS, f"trainer.max_staleness={staleness}")
    agrl("train", *overrides(world, tmp_path / "peace", *words))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "agrl.cli", "train", *overrides(world, run, *words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=WIDE)
    while done(run) < 3:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and time.monotonic() - began < 30
    last = RunFolder(run).latest()
    assert last is not None and STEPS > last.step == done(run) >= 3, said
    assert f"last checkpoint: step {last.step}" in said and f"agrl train --resume {run}" in said
    agrl("train", "--resume", run)
    assert left(run) == left(tmp_path / "peace")


def done(run) -> int:
    """Steps that are finished."""
    file = run / "metrics.jsonl"
    return sum(1 for _ in read_jsonl(file)) if file.exists() else 0
