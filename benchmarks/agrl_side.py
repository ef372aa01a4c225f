"""AGRL on a workload of benchmarks/vs_trl.py: trains as many steps as standard input asks for, then waits.

Run by benchmarks/vs_trl.py, in a process of its own. One line of JSON on standard output answers each line of input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

WORK = ("rollout", "score", "learn", "broadcast")  # what a step is for; the rest is overhead
FIGURES = (
    "rollout/engine_seconds",
    "rollout/tokens_per_s",
    "rollout/prefix_cache_hits",
    "learner/seconds",
    "learner/computed_tokens_per_s",
    "learner/useful_tokens_per_s",
    "learner/flop_utilisation",
)


def main() -> None:
    job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print goes to the log
    from agrl.config.compose import load_config
    from agrl.driver.folder.run_folder import RunFolder
    from agrl.driver.run.run import load_data
    from agrl.driver.services.services import start_services
    from agrl.driver.step import training_step

    config = load_config(job["overrides"])
    services = start_services(
        config, RunFolder(Path(job["folder"]) / "agrl"), load_data(config, hinted=False).pool, hinted=False
    )
    services.ready()
    answers.write(json.dumps({"ready": True}) + "\n")
    step = 0
    for word in sys.stdin:
        for _ in range(int(word)):
            metrics = training_step(services, step).metrics
            phases = {name: metrics[f"time/{name}"] for name in WORK if f"time/{name}" in metrics}
            row = {"seconds": metrics["time/step"], "phases": phases, "reward": metrics["reward/total_mean"]}
            trained = 1 - metrics["decisions/drop"] / metrics["rollout/generated_groups"]
            figures = {name: metrics[name] for name in FIGURES if name in metrics} | {"bound_seconds": bound(metrics)}
            answers.write(json.dumps(row | {"trained_groups": trained, "figures": figures}) + "\n")
            step += 1
    services.close()


def bound(metrics: dict[str, float]) -> float:
    """Seconds of a step that only generated, and learned at the speed of the device's matrix products."""
    ideal = metrics.get("learner/seconds", 0.0) * metrics.get("learner/flop_utilisation", 0.0)
    return metrics["rollout/engine_seconds"] + ideal


if __name__ == "__main__":
    main()
