"""Proof from a run folder that no drawn prompt was lost and none trained twice: its ledger, metrics and checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.cut import REPLAY
from agrl.errors import ConfigError
from agrl.report.recorder import LEDGER, METRICS, read_jsonl
from replay.core import ledger_of
from replay.ledger import OUTCOMES, TRAINED

SHOWN = 5  # prompts that one problem names


@dataclass
class LedgerCheck:
    """What a ledger says. ``steps``: that were trained. ``outcomes``: prompts by outcome, and by reason where it has
    one. ``under_way``: at the last checkpoint. ``lost``, ``twice``: draws without and with more than one outcome.
    ``problems``: all that cannot be, in words; none in a sound run."""

    steps: int = 0
    draws: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)


def check_ledger(path: str | Path) -> LedgerCheck:
    """Compare what an RL run left. Raises ConfigError for a folder without a ledger."""
    folder = RunFolder(path)
    file = folder.path / LEDGER
    rows = [row for row in read_jsonl(file) if row["phase"] == "rl"] if file.exists() else []
    metrics = [row for row in read_jsonl(folder.path / METRICS) if row["phase"] == "rl"] if file.exists() else []
    if not metrics:
        raise ConfigError(
            f"{folder.path} has no ledger of a reinforcement learning run ({LEDGER})",
            hint="give the folder of a run of `agrl train`, one that this version of AGRL has made",
        )
    found = LedgerCheck(len(metrics), outcomes=Counter(_kind(row) for row in rows))
    found.draws = 1 + max((row["draw"] for row in rows), default=-1)
    found.twice = sum(n > 1 for n in Counter(row["draw"] for row in rows).values())
    found.problems += _twice(rows) + _unlike_metrics(rows, metrics)
    if last := folder.latest():
        state = ledger_of(last.folder / REPLAY)
        found.under_way, found.draws = len(state["open"]), max(found.draws, state["draws"])
        known = _known(rows, last.step, state)
        found.lost = sum(not known[draw] for draw in range(state["draws"]))
        found.problems += _lost(known, state["draws"])
    return found


def _kind(row: dict[str, Any]) -> str:
    return f"{row['outcome']} ({row['reason']})" if row["reason"] else row["outcome"]


def _twice(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Draws with more than one outcome, or with one that there is not; prompts that a step was trained on twice."""
    times = Counter(row["draw"] for row in rows)
    trained = Counter((row["step"], row["example_id"]) for row in rows if row["outcome"] == TRAINED)
    return [
        *_say("draws with two outcomes", [draw for draw, n in times.items() if n > 1]),
        *_say("draws without a known outcome", [row["draw"] for row in rows if row["outcome"] not in OUTCOMES]),
        *_say("trained twice in a step", [f"{name} (step {step})" for (step, name), n in trained.items() if n > 1]),
    ]


def _unlike_metrics(rows: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Steps of whose training the metrics tell something else."""
    steps = [row["step"] for row in metrics]
    trained = Counter(row["step"] for row in rows if row["outcome"] == TRAINED)
    wrong = [row["step"] for row in metrics if trained[row["step"]] != row["ledger/trained"]]
    return [
        *_say("steps missing in, or repeated by, the metrics", sorted(set(range(len(steps))) ^ set(steps))),
        *_say("steps that trained other prompts than the metrics count", wrong),
        *_say("steps trained that the metrics do not have", sorted(trained.keys() - set(steps))),
    ]


def _known(rows: Sequence[dict[str, Any]], done: int, state: dict[str, Any]) -> Counter[int]:
    """How often a draw is in a checkpoint after ``done`` steps, or has ended before it: draw -> times."""
    then = [*state["open"], *state["closed"]]
    return Counter(entry["draw"] for entry in [*then, *(row for row in rows if row["step"] < done)])


def _lost(known: Counter[int], draws: int) -> list[str]:
    """Which of the ``draws`` of a checkpoint are not ``known`` exactly once."""
    return [
        *_say("draws lost before the last checkpoint", [draw for draw in range(draws) if not known[draw]]),
        *_say("draws both ended and under way in the last checkpoint", [draw for draw, n in known.items() if n > 1]),
        *_say("draws that the last checkpoint has not made", [draw for draw in known if draw >= draws]),
    ]


def _say(what: str, which: Iterable[Any]) -> list[str]:
    which = list(which)
    more = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
    return [f"{len(which)} {what}: {', '.join(map(str, which[:SHOWN]))}{more}"] if which else []
