"""The replay service: remembers every prompt, picks the next ones, decides what becomes of each group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agrl.config.schema import GuidanceConfig, ReplayConfig
from agrl.data.pool import Pool, check_same
from agrl.errors import DataError
from agrl.relevance.records import Example, Rollout
from replay.buffer import TrajectoryBuffer
from replay.decisions import Decision, count_decisions, decide_batch
from replay.ledger import DROPPED, GIVEN_BACK, TRAINED, Ledger
from replay.outcomes import Outcome
from replay.sampling import PromptSampler
from replay.statistics import PromptTable


@dataclass(frozen=True)
class GuideOutcome:
    """How guidance of one prompt ended.

    ``solved``: it gave a sound answer. ``level``: the hint level at which it stopped, 0 without a hint. ``replaced``:
    rollouts of the group that guided answers took the place of. ``recalled``: by the policy's own earlier answers.
    """

    solved: bool
    level: int
    replaced: int = 0
    recalled: bool = False


@dataclass
class StepSoFar:
    """What the rounds of one step have brought.

    ``drawn``: id -> number in the pool. ``outcomes``: (correct, valid, has signal) of every group.
    """

    step: int = -1
    drawn: dict[str, int] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[tuple[int, int, bool]] = field(default_factory=list)
    sound: list[Rollout] = field(default_factory=list)
    rollouts: int = 0


class ReplayCore:
    """A plain class: the same object serves behind a Ray actor, in the driver's process and in a test.

    A step is one or more rounds of ``sample`` and ``observe``, then ``guided`` with what became of the "guide"
    decisions, then ``metrics``, and, when the learner has had the batch, ``settle``.
    """

    def __init__(
        self,
        pool: Pool,
        replay_cfg: ReplayConfig,
        guidance_cfg: GuidanceConfig,
        rollouts_per_prompt: int,
        seed: int,
    ) -> None:
        self._pool = pool
        self._sampler = PromptSampler(len(pool), replay_cfg, rollouts_per_prompt, seed)
        self._table = PromptTable(len(pool), replay_cfg.ema, rollouts_per_prompt)
        self._buffer, self._ledger = TrajectoryBuffer(), Ledger()
        self._guidance = guidance_cfg
        self._last: dict[str, float] = {}  # metrics of the step last observed
        self._now = StepSoFar()

    def restart(self, *settings: Any) -> None:
        """Forget everything and begin anew; ``settings``: the constructor's."""
        self.__init__(*settings)

    def sample(self, n: int, step: int, apart: bool = False) -> list[Example]:
        """``n`` different prompts for ``step``, none of which it has had before; ``apart``: nor is under way.

        Raises ConfigError when the pool is smaller than that.
        """
        now = self._at(step)
        taken = [*now.drawn.values(), *(e.prompt for e in self._ledger.under_way())] if apart else now.drawn.values()
        numbers = self._sampler.sample(n, self._table, step, taken)
        examples = self._pool.take(numbers)
        drawn = {example.id: number for example, number in zip(examples, numbers, strict=True)}
        now.drawn |= drawn
        self._ledger.drawn(drawn, step)
        return examples

    def leave_out(self, ids: Sequence[str], step: int) -> None:
        """Never draw these prompts of ``step`` again: they are too long. Others may take their place in the step."""
        drawn = self._at(step).drawn
        self._sampler.leave_out([drawn.pop(example_id) for example_id in ids])
        for example_id in ids:
            self._ledger.close(example_id, step, DROPPED, "too_long")

    def observe(self, groups: Sequence[Outcome], step: int) -> list[Decision]:
        """Enter the outcomes of a round of a step, then decide; one decision a group, in order."""
        now = self._at(step)
        for group in groups:
            correct, valid = group.correct_of_valid
            if valid:  # a group whose scoring failed says nothing about the prompt
                self._table.update(self._ledger.prompt(group.example_id), correct, valid)
            now.sound += group.sound
        now.rollouts += sum(len(group.valid) for group in groups)
        granted = sum(decision.count for decision in now.decisions)
        stats = [self._table[self._ledger.prompt(group.example_id)] for group in groups]
        decisions = decide_batch(groups, stats, self._guidance, step, now.rollouts, granted_before=granted)
        now.decisions += decisions
        now.outcomes += [(*group.correct_of_valid, group.has_signal) for group in groups]
        for group, decision in zip(groups, decisions, strict=True):
            if decision.kind == "drop":
                self._ledger.close(group.example_id, step, DROPPED, decision.reason)
        self._last = {**count_decisions(now.decisions), **_group_health(now.outcomes), **_guide_metrics({}, 0)}
        return decisions

    def _at(self, step: int) -> StepSoFar:
        if self._now.step != step:
            self._now = StepSoFar(step)
        return self._now

    def guided(self, outcomes: Mapping[str, GuideOutcome]) -> None:
        """Enter what guidance did for the prompts (by example id) of all rounds of the step last observed.

        Only now are the step's own sound answers stored: what guidance recalls must be earlier than the step.
        """
        for rollout in self._now.sound:
            self._buffer.add(rollout)
        self._now.sound.clear()
        for example_id, outcome in outcomes.items():
            self._table.guided(self._ledger.prompt(example_id), outcome.solved, outcome.level)
        self._last.update(_guide_metrics(outcomes, self._now.rollouts))

    def settle(self, step: int, trained: Sequence[str], untaught: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The learner has had the batch of ``step``: prompts that it was ``trained`` on, and others that in the end had
        no advantage to teach. Returns every outcome up to this step that was not returned before, see ``Entry``."""
        for example_id in trained:
            self._ledger.close(example_id, step, TRAINED)
        for example_id in untaught:
            self._ledger.close(example_id, step, DROPPED, "no_advantage")
        return [entry.row() for entry in self._ledger.settle(step)]

    def drop(self, ids: Sequence[str], step: int, reason: str) -> None:
        """These prompts are not trained on after all."""
        for example_id in ids:
            self._ledger.close(example_id, step, DROPPED, reason)

    def give_back(self, ids: Sequence[str], step: int, reason: str) -> None:
        """Nothing becomes of these prompts now; they may be drawn again."""
        for example_id in ids:
            self._ledger.close(example_id, step, GIVEN_BACK, reason)

    def finish(self, step: int) -> list[dict[str, Any]]:
        """The run ends after ``step`` steps: what is under way is given back. Returns what ``settle`` does."""
        self.give_back([entry.example_id for entry in self._ledger.under_way()], step, "end of the run")
        return [entry.row() for entry in self._ledger.settle(step)]

    def recall(self, wanted: Mapping[str, int]) -> dict[str, list[Rollout]]:
        """The policy's best earlier answers: prompt id -> at most as many as wanted; score them again before use."""
        return {example_id: self._buffer.best(example_id, k) for example_id, k in wanted.items()}

    def metrics(self) -> dict[str, float]:
        """Metrics of the step last observed and of the memory as a whole; docs/replay.md explains each."""
        return {
            **self._last,
            "replay/tried": self._table.tried / len(self._pool),
            "replay/accuracy_mean": self._table.accuracy_mean,
            "replay/guided_prompts": float(self._table.guided_prompts),
            "replay/stored": float(len(self._buffer)),
            "replay/epochs": float(self._sampler.epochs),
            "replay/too_long": float(self._sampler.left_out),
            "ledger/draws": float(self._ledger.draws),
        }

    def save(self, file: str) -> None:
        """Write statistics, random state, position in the data and stored trajectories to an .npz file."""
        sampler = self._sampler.state_dict()
        left_out = sampler.pop("left_out")
        about = {"pool": self._pool.digests, "sampler": sampler}
        about |= {"buffer": self._buffer.state_dict(), "ledger": self._ledger.state_dict()}
        np.savez(file, about=np.array(json.dumps(about)), left_out=left_out, **self._table.state_dict())

    def load(self, file: str) -> None:
        """Go on exactly where ``save`` wrote the file. Raises DataError, naming a file, when it is of another pool."""
        with np.load(file, allow_pickle=False) as state:
            about = _about(state, file)
            check_same(about["pool"], self._pool.digests)
            self._sampler.load_state_dict(about["sampler"] | {"left_out": state["left_out"]})
            self._table.load_state_dict(
                {name: state[name] for name in state.files if name not in ("about", "left_out")}
            )
        self._buffer.load_state_dict(about["buffer"])
        self._ledger.load_state_dict(about["ledger"])
        self._now = StepSoFar()


def ledger_of(file: str | Path) -> dict[str, Any]:
    """What ``ReplayCore.save`` wrote of the ledger: see ``Ledger.state_dict``."""
    with np.load(file, allow_pickle=False) as state:
        return _about(state, file)["ledger"]


def _about(state: Mapping[str, np.ndarray], file: str | Path) -> dict[str, Any]:
    about = json.loads(str(state["about"]))
    if "ledger" not in about:
        raise DataError(
            f"{file} has no ledger: an earlier version of AGRL wrote it",
            hint="resume with that version, or start a new run from the exported model",
        )
    return about


def _group_health(outcomes: Sequence[tuple[int, int, bool]]) -> dict[str, float]:
    """Shares of the groups with a valid score: all wrong, all right, nothing to learn from; before any guidance."""
    known = [outcome for outcome in outcomes if outcome[1]]
    share = 1 / max(len(known), 1)
    return {
        "group/all_wrong": share * sum(correct == 0 for correct, _, _ in known),
        "group/all_right": share * sum(correct == valid for correct, valid, _ in known),
        "group/zero_advantage": share * sum(not signal for _, _, signal in known),
    }


def _guide_metrics(outcomes: Mapping[str, GuideOutcome], rollouts: int) -> dict[str, float]:
    levels = [outcome.level for outcome in outcomes.values() if outcome.solved and not outcome.recalled]
    return {
        "guide/solved": float(sum(outcome.solved for outcome in outcomes.values())),
        "guide/recalled": float(sum(outcome.recalled for outcome in outcomes.values())),
        "guide/share": sum(outcome.replaced for outcome in outcomes.values()) / max(rollouts, 1),
        "guide/level_mean": sum(levels) / len(levels) if levels else 0.0,
    }
