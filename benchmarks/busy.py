"""Training beside other processes: steps a second alone, and beside one and two processes that never rest.

    python benchmarks/busy.py [--seconds 20] [--rounds 2] [--phases sft,rl] [--json FILE] [key=value ...]

One run a phase, on the bundled catalogue with the tiny model, counted from outside in windows of some seconds: alone,
beside one `while True: pass`, beside two, alone again ... so the ratios are of one run on one machine. Settings go to
the run: `learner.ranks=1` shows why the tiny size has a rank a CPU. Bar: 0.4 of alone beside one process on two CPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.machine import usable_cpus

BUSY = (0, 1, 2)
SETTLING_S = 3.0  # after a change of company, before steps are counted


def world(folder: Path, held_out: int = 16) -> list[str]:
    """Data with ``held_out`` examples a set, a model, and a supervised start for RL; what configures a run on them."""
    rows = {"balanced_rows": held_out, "wild_rows": held_out}
    make_catalogue(folder / "data", CatalogueSpec(seed_rows=4000, pool_rows=2000, **rows))
    tiny_model(folder / "tiny", folder / "data" / "seed.parquet", "relevance", "brief")
    data = folder / "data"
    common = [
        "experiment=agrl_tiny",
        f"data.seed={data}/seed.parquet",
        f"data.train={data}/train.parquet",
        f"data.evaluation={{balanced: {data}/balanced.parquet, wild: {data}/wild.parquet}}",
    ]
    agrl("sft", *common, f"model.path={folder}/tiny", f"run={folder}/start", "sft.steps=300").wait()
    return common


def agrl(*words: str) -> subprocess.Popen:
    """A command of AGRL under way; what it prints is thrown away, its run folder has the logs."""
    environment = os.environ | {"PYTHONPATH": sys.path[0]}
    command = [sys.executable, "-m", "agrl.cli", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def company(processes: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def times(run: Path) -> list[float]:
    """When the steps of a run ended, seconds."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["time"] for line in lines if line.endswith("}")]


def rate(run: Path, seconds: float) -> float:
    """Steps a second from now on: whole steps, so that a slow one counts with its length."""
    time.sleep(SETTLING_S)
    begin = time.time()
    while True:
        time.sleep(min(1.0, seconds / 4))
        ended = [t for t in times(run) if t >= begin]
        if time.time() - begin >= seconds and len(ended) > 2:
            return (len(ended) - 1) / (ended[-1] - ended[0])
        if time.time() - begin > 20 * seconds:
            return max(len(ended) - 1, 0) / (time.time() - begin)


def measure(phase: str, common: list[str], folder: Path, args: argparse.Namespace) -> dict[int, list[float]]:
    """Steps a second of one phase: busy processes -> a figure a round."""
    run = folder / phase
    settings = {
        "sft": ["sft", f"model.path={folder}/tiny", "sft.steps=1000000"],
        "rl": ["train", f"model.path={folder}/start/model", "trainer.steps=1000000"],
    }[phase]
    process = agrl(settings[0], *common, f"run={run}", *settings[1:], *args.settings)
    try:
        while len(times(run)) < 3:
            if process.poll() is not None:
                raise SystemExit(f"{phase} ended with {process.returncode}: see {run}/logs")
            time.sleep(0.5)
        found: dict[int, list[float]] = {n: [] for n in BUSY}
        for _ in range(args.rounds):
            for n in BUSY:
                with company(n):
                    found[n].append(rate(run, args.seconds))
        return found
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the runs")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a window (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="windows of each kind (%(default)s)")
    parser.add_argument("--phases", default="sft,rl", help="sft, rl or both (%(default)s)")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="work there, and leave what is made")
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    results = {"cpus": usable_cpus(), "machine": platform.machine(), "settings": args.settings, "phases": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        common = world(folder)
        print(f"{usable_cpus()} CPUs; steps a second, median of {args.rounds} windows of {args.seconds:g} s")
        for phase in args.phases.split(","):
            found = measure(phase, common, folder, args)
            alone = statistics.median(found[0])
            for n, rates in found.items():
                each = ", ".join(f"{r:.2f}" for r in rates)
                ratio = statistics.median(rates) / alone
                print(f"{phase:4} beside {n} busy  {statistics.median(rates):6.2f}  {ratio:5.2f} of alone  ({each})")
            results["phases"][phase] = {str(n): rates for n, rates in found.items()}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
