"""What ray.keep_alive_s saves: the seconds until a resumed run has all its services, taken over and started anew.

    python benchmarks/driver_death.py [--sizes tiny 200m] [--json FILE]

A Ray of one host, on which a run of one engine and one learner rank is killed with SIGKILL when its first step is done,
and resumed: ``ready_s`` is what that says of itself, ``anew_s`` the start before. ``step_s``: from the command to the
end of the next step, with the checkpoint loaded in between.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from agrl.models.build import make_tiny_model
from benchmarks.snapshots import SIZES
from tests.e2e.ray_head import Head, ray_head
from tests.e2e.runs import WIDE, done
from tests.e2e.small_world import make_world, overrides

STEPS, LIMIT_S = 3, 1200.0
READY = re.compile(r"ready after (?:(\d+) min )?([\d.]+) s instead of (?:(\d+) min )?([\d.]+) s")
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.checkpoint_every=1", "trainer.prompts_per_step=2", "data.max_evaluation=2"),
    *("guidance.source=reference", "guidance.tau=1.0", "task.max_response_tokens=16", "rollout.kv_cache_gib=1"),
    *("learner.timeout_s=600", "rollout.timeout_s=600"),
)


def start(head: Head, log: Path, *words: object) -> subprocess.Popen:
    where = "ray=cluster", f"ray.address={head.address}", "ray.keep_alive_s=600"
    command = [sys.executable, "-m", "agrl.cli", "train", *map(str, words), *where]
    return subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT, env=WIDE | head.env)


def wait_steps(process: subprocess.Popen, run: Path, steps: int, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while done(run) < steps or len(list(run.glob("checkpoints/step-??????/state.json"))) < 1:
        if process.poll() or time.monotonic() > deadline:
            raise SystemExit(log.read_text())
        time.sleep(0.05)


def measure(head: Head, size: str, folder: Path) -> dict[str, float]:
    world, run, log = make_world(folder / size), folder / size / "run", folder / size / "log"
    if size != "tiny":
        make_tiny_model(world / "model", [f"search: red grinder {i}\n" for i in range(50)], SIZES[size])
    first = start(head, log, *overrides(world, run, *WORDS))
    wait_steps(first, run, 1, log)
    first.kill()
    first.wait()
    before, began = done(run), time.monotonic()
    second = start(head, log, "--resume", run)
    wait_steps(second, run, before + 1, log)
    step = time.monotonic() - began
    if second.wait():
        raise SystemExit(log.read_text())
    minutes, seconds, minutes_anew, anew = (float(text or 0) for text in READY.search(log.read_text()).groups())
    return {"ready_s": 60 * minutes + seconds, "anew_s": 60 * minutes_anew + anew, "step_s": round(step, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder, ray_head(8) as head:
        for size in args.sizes:
            found[size] = measure(head, size, Path(folder))
            print(size, found[size], flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
