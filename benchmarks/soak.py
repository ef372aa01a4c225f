"""A long run whose actors are killed at random: does it end as one that was left in peace?

    python benchmarks/soak.py [--kills 100] [--mean 15] [--json FILE] [key=value ...]

The tiny model after a short supervised start, two engines, two reward actors, two learner ranks and the replay actor.
Intervals between two strikes are exponential with a mean of so many seconds. A strike ends one actor with SIGKILL, or
two at once, or stops one for a while (SIGSTOP) and lets it go on. Only what serves is struck, so that each strike has a
witness: the process is gone, and events.jsonl says that this actor was lost and that another one came in its place.
The run goes on until all have been struck, and is then told how many steps it had; a second run does as many in peace.
With trainer.max_staleness=0, or 1 in lockstep, the weights of both must be the same, bit for bit, and the ledger whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from agrl.driver.run.ledger_check import check_ledger
from agrl.report.events import deaths, read_events
from benchmarks.busy import agrl, times, world

ACTORS = ("rollout-0", "rollout-1", "reward-0", "reward-1", "learner-0", "learner-1", "replay")
TWO, STOPPED = 0.1, 0.1  # shares of the strikes that end two actors at once, and that stop one for a while
LONGEST_STOP_S = 8.0
GONE_S, BACK_S = 15.0, 240.0  # until a process is gone, and until another one serves


@dataclass
class Struck:
    """What was done: (actor, process, when) of the killed. ``stopped``: actors that were let go on."""

    killed: list[tuple[str, int, float]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)


def processes(run: psutil.Process, folder: Path) -> dict[str, psutil.Process]:
    """The actors below a run by name: each writes to a log of that name."""
    found = {}
    for process in run.children(recursive=True):
        try:
            log = Path(os.readlink(f"/proc/{process.pid}/fd/1"))
        except (OSError, psutil.Error):
            continue
        if log.parent == folder / "logs" and log.stem in ACTORS and process.status() != psutil.STATUS_ZOMBIE:
            found[log.stem] = process
    return found


def serving(folder: Path) -> set[str]:
    """The actors that do their work, as the events say."""
    states = {event["actor"]: event["state"] for event in read_events(folder)}
    return {actor for actor, state in states.items() if state == "serving"}


def wait_until(holds, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)


def strike(run: psutil.Process, folder: Path, chance: random.Random, struck: Struck) -> None:
    """Hit what serves now, and wait until the killed are gone and others serve in their place."""
    there = processes(run, folder)
    able = sorted(serving(folder) & there.keys())
    if not able:
        return
    kind = chance.random()
    if kind < STOPPED:
        victim = chance.choice(able)
        there[victim].suspend()
        time.sleep(chance.uniform(1.0, LONGEST_STOP_S))
        there[victim].resume()
        struck.stopped.append(victim)
        return
    victims = chance.sample(able, 2 if kind < STOPPED + TWO and len(able) > 1 else 1)
    now = time.time()
    for victim in victims:
        there[victim].send_signal(signal.SIGKILL)
    for victim in victims:
        wait_until(lambda v=victim: gone(there[v]), GONE_S, f"{victim} is gone")
        struck.killed.append((victim, there[victim].pid, now))
    for victim in victims:
        wait_until(lambda v=victim: healed(folder, v, now) or gone(run), BACK_S, f"another {victim} serves")


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def healed(folder: Path, actor: str, since: float) -> bool:
    """Whether the events say that this actor was lost after ``since``, and that another one has come."""
    lost = [death for death in deaths(read_events(folder)) if death["actor"] == actor and death["time"] >= since]
    return any(death["back_s"] is not None for death in lost)


def at_war(folder: Path, words: list[str], kills: int, mean: float, seed: int) -> Struck:
    """A run under strikes until ``kills`` actors were killed; then it is stopped, and finished to its next step."""
    chance, struck = random.Random(seed), Struck()
    process = agrl("train", f"run={folder}", *words, "trainer.steps=100000")
    run = psutil.Process(process.pid)
    wait_until(lambda: times(folder) or gone(run), 600, "the first step is done")
    while len(struck.killed) < kills and process.poll() is None:
        time.sleep(chance.expovariate(1 / mean))
        strike(run, folder, chance, struck)
        print(f"\r{len(struck.killed)} of {kills} killed, {len(times(folder))} steps", end="", flush=True)
    print()
    process.send_signal(signal.SIGTERM)
    process.wait(300)
    return struck


def finished(folder: Path, words: list[str], *command: str) -> None:
    process = agrl("train", *command, *words)
    if process.wait():
        raise SystemExit(f"{folder} ended with {process.returncode}: see {folder}/logs/driver.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the runs")
    parser.add_argument("--kills", type=int, default=100, help="actors to be killed (%(default)s)")
    parser.add_argument("--mean", type=float, default=15.0, help="seconds between strikes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the strikes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        base = Path(name)
        words = [*world(base), f"model.path={base}/start/model", "learner.ranks=2", "rollout.actors=2"]
        words += ["reward.actors=2", "learner.threads=1", "rollout.threads=1", "data.max_evaluation=8"]
        words += ["learner.schedule=constant", "trainer.checkpoint_every=10"]
        words += [f"{section}.restarts=100000" for section in ("rollout", "reward", "learner", "replay")]
        words += args.settings
        struck = at_war(base / "war", words, args.kills, args.mean, args.seed)
        steps = len(times(base / "war")) + 1
        finished(base / "war", [f"trainer.steps={steps}"], "--resume", str(base / "war"))
        finished(base / "peace", [*words, f"trainer.steps={steps}"], f"run={base / 'peace'}")
        models = [(base / run / "model" / "model.safetensors").read_bytes() for run in ("war", "peace")]
        found = check_ledger(base / "war")
        back = sum(healed(base / "war", actor, when) for actor, _, when in struck.killed)
    classes = Counter(actor.split("-")[0] for actor, *_ in struck.killed)
    figures = {
        "fired": len(struck.killed),
        "healed": back,
        "lost": found.lost,
        "twice": found.twice,
        "problems": found.problems,
        "equal": models[0] == models[1],
        "classes": dict(classes),
        "stopped": dict(Counter(actor.split("-")[0] for actor in struck.stopped)),
        "steps": steps,
        "draws": found.draws,
    }
    for what, value in figures.items():
        print(f"{what:9} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    sound = figures["equal"] and not found.problems and figures["healed"] == figures["fired"] >= args.kills
    raise SystemExit(0 if sound else 1)


if __name__ == "__main__":
    main()
