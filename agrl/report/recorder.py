"""Writes what a run measures, one JSON object a line: ``metrics.jsonl``, which trackers get too, ``samples.jsonl`` and
``ledger.jsonl``."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agrl.errors import AgrlError, DataError, DivergenceError
from agrl.relevance.records import Example, Rollout, Score
from agrl.report.trackers import Tracker

METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
LEDGER = "ledger.jsonl"


class Recorder:
    """The measurements of one phase of a run.

    ``first_step``: the step at which this process starts. Rows of this phase from that step on were written by an
    attempt that is now being repeated (a resumed run, or one whose start had failed); they are cut. ``trackers`` get
    the same numbers, and are closed with the recorder; one that fails is left out from then on, with a warning.
    """

    def __init__(self, run_dir: Path, phase: str = "rl", first_step: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        self._phase, self._trackers = phase, list(trackers)
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, SAMPLES, LEDGER):
            _cut(run_dir / name, phase, first_step)
        self._metrics = (run_dir / METRICS).open("a", encoding="utf-8")
        self._samples = (run_dir / SAMPLES).open("a", encoding="utf-8")
        self._ledger = (run_dir / LEDGER).open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record one step. A value that is not finite is written as ``null``.

        Raises ``DivergenceError``, after recording, when a loss or the gradient norm is not finite.
        """
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        row = {"step": step, "phase": self._phase, "time": time.time()}
        _write(self._metrics, row | {name: finite.get(name) for name in values})
        self._tell(lambda tracker: tracker.log(step, values))
        for name in sorted(values.keys() - finite.keys()):
            if name.startswith("loss/") or name == "grad_norm":
                raise DivergenceError(
                    f"{name} is {values[name]} at step {step} of phase {self._phase}: training has diverged",
                    hint="go on from the last checkpoint with a lower learning rate (learner.lr, sft.lr), a smaller "
                    "learner.max_grad_norm, or a KL term (learner.kl_coef)",
                )

    def log_evaluation(self, done: int, set_name: str, values: Mapping[str, float]) -> None:
        """Tell the trackers what was measured on a held-out set after ``done`` steps; it is in a file of its own."""
        self._tell(lambda tracker: tracker.log_evaluation(done, set_name, values))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except AgrlError:
                raise
            except Exception as error:  # a server that is away ends no run: the run folder has everything
                self._trackers.remove(tracker)
                self._warn(tracker, error)

    def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record trajectories; see ``sample_row``."""
        for row in rows:
            _write(self._samples, {"step": step, "phase": self._phase, **row})

    def ledger(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record what became of prompts that were drawn; see ``replay.ledger.Entry``."""
        for row in rows:
            _write(self._ledger, {"phase": self._phase, **row})

    def close(self, error: BaseException | None = None) -> None:
        """Flush and close every file and tracker. ``error``: what ended the phase, where it did not end well."""
        for tracker in self._trackers:
            try:
                tracker.close(error)
            except Exception as failure:
                self._warn(tracker, failure)
        with ExitStack() as stack:  # all of them, also where one cannot write what it still holds
            for file in (self._metrics, self._samples, self._ledger):
                stack.callback(file.close)

    def _warn(self, tracker: Tracker, error: Exception) -> None:
        logging.getLogger(__name__).warning(
            "%s no longer gets this run's numbers, which are all in the run folder: %s", type(tracker).__name__, error
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self.close(error)


def sample_row(example: Example, rollout: Rollout, score: Score, advantage: float) -> dict[str, Any]:
    """One trajectory as a line of ``samples.jsonl``: input, response, reward decomposition, provenance."""
    return {
        "example_id": example.id,
        "query": example.query,
        "title": example.product.title,
        "gold_tier": int(example.tier),
        "segment": example.segment,
        "text": rollout.text,
        "tier": score.judgement.tier if score.judgement else None,
        "correct": bool(score.correct),
        "total": _finite(score.total),
        "valid": bool(score.valid),
        "components": {
            name: {"value": _finite(c.value), "valid": bool(c.valid), "reason": c.reason}
            for name, c in score.components.items()
        },
        "advantage": _finite(advantage),
        "provenance": rollout.provenance.name,
        "hint_level": int(rollout.hint_level),
        "version": int(rollout.version),
        "failure": score.failure,
    }


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file. A last line cut short (the writer was killed) is left out.

    Raises ``DataError``, naming file and line, when any other line is not JSON.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not a JSON object", hint="repair or delete the line") from None


def _cut(path: Path, phase: str, first_step: int) -> None:
    """Keep the rows of other phases and those before ``first_step``; drops a line cut short as well."""
    if path.exists():
        rows = [row for row in read_jsonl(path) if row.get("phase") != phase or row["step"] < first_step]
        kept = path.with_suffix(".tmp")
        kept.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        kept.replace(path)  # atomic: a crash here loses nothing


def _write(file, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, allow_nan=False) + "\n")
    file.flush()  # a person follows the file, and a crash must not lose the last steps


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
