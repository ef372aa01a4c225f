"""Commands in processes of their own, how one is stopped or loses an actor, and what a run leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.recorder import read_jsonl

WIDE = {**os.environ, "COLUMNS": "500"}  # so that no line is broken where a test looks for it
GRACE_S = 30.0  # for a checkpoint and the end of all processes, as trainer.grace_s has it by default
REPEATS = ("replay/", "decisions/", "guide/", "group/", "loss/", "policy/", "staleness/", "sync/", "tokens/", "train/")


def agrl(*words, code=0):
    command = [sys.executable, "-m", "agrl.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=WIDE)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def stop_in_a_step(run, words, after: int) -> None:
    """Begin a run of at least two steps more than ``after``; SIGTERM when so many are done ends it in time, with a
    checkpoint of the last whole step, whether it was due or not, and no process left."""
    words = ("train", *words, "trainer.checkpoint_every=0")
    started, code, said = ended(words, lambda: done(run) >= after, signal.SIGTERM, later_s=0.3, within_s=GRACE_S)
    assert code == 143 and "Terminated." in said and "Traceback" not in said
    last = RunFolder(run).latest()
    assert last is not None and last.step == done(run) >= after, said
    assert f"last checkpoint: step {last.step}" in said and f"agrl train --resume {run}" in said
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "Ray's processes are gone as well"
    assert not list(run.glob("**/*.partial"))


def done(run) -> int:
    """Steps that are finished."""
    file = run / "metrics.jsonl"
    return sum(1 for _ in read_jsonl(file)) if file.exists() else 0


def ended(words, when, signal_, of="", later_s=0.0, within_s=120.0):
    """Run a command and send it, or the process ``of`` its own, a signal ``later_s`` seconds after ``when()`` has come
    true, and wait ``within_s`` for its end: what it had started, its exit code, what it said."""
    command = [sys.executable, "-m", "agrl.cli", *map(str, words)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=WIDE)
    wait_for(when, run)
    time.sleep(later_s)
    started = psutil.Process(run.pid).children(recursive=True)
    found = next(p for p in started if p.is_running() and of in " ".join(p.cmdline())) if of else run
    found.send_signal(signal_)
    said, _ = run.communicate(timeout=within_s)
    return started, run.returncode, said.decode()


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the process ended before its time\n{process.stdout.read().decode()}")
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.05)


def numbers(run: Path) -> list[dict[str, float]]:
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if row["phase"] == "rl"]
    return [{name: value for name, value in row.items() if name.startswith(REPEATS)} for row in rows]


def left(run: Path) -> tuple:
    texts = [(run / name).read_text() for name in ("samples.jsonl", "ledger.jsonl")]
    return (run / "model" / "model.safetensors").read_bytes(), numbers(run), texts
