"""The replay service: remembers every prompt, picks the next ones, decides what becomes of each group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agrl.config.schema import GuidanceConfig, ReplayConfig
from agrl.data.schema import to_row
from agrl.errors import DataError
from agrl.relevance.records import Example, Provenance, Rollout, ScoredGroup
from replay.buffer import TrajectoryBuffer
from replay.decisions import Decision, correct_of_valid, count_decisions, decide_batch, has_signal
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
    """What the rounds of one step have brought. ``outcomes``: (correct, valid, has signal) of every group."""

    step: int = -1
    drawn: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[tuple[int, int, bool]] = field(default_factory=list)
    sound: list[Rollout] = field(default_factory=list)
    rollouts: int = 0


class ReplayCore:
    """A plain class: the same object serves behind a Ray actor, in the driver's process and in a test.

    A step is one or more rounds of ``sample`` and ``observe``, then ``guided`` with what became of the "guide"
    decisions, then ``metrics``.
    ``decomposed``: the run computes advantages from every reward component by itself (``reward.mode=decomposed``).
    """

    def __init__(
        self,
        examples: Sequence[Example],
        replay_cfg: ReplayConfig,
        guidance_cfg: GuidanceConfig,
        rollouts_per_prompt: int,
        seed: int,
        decomposed: bool = False,
    ) -> None:
        self._examples = {example.id: example for example in examples}
        self._pool = pool_digest(examples)
        self._sampler = PromptSampler([example.id for example in examples], replay_cfg, rollouts_per_prompt, seed)
        self._table = PromptTable(replay_cfg.ema)
        self._buffer = TrajectoryBuffer()
        self._guidance = guidance_cfg
        self._decomposed = decomposed
        self._last: dict[str, float] = {}  # metrics of the step last observed
        self._now = StepSoFar()

    def restart(self, *settings: Any) -> None:
        """Forget everything but the prompts and begin anew; ``settings``: the constructor's, after the examples."""
        self.__init__(list(self._examples.values()), *settings)

    def sample(self, n: int, step: int) -> list[Example]:
        """``n`` different prompts for ``step``, none of which it has had before.

        Raises ConfigError when the pool is smaller than that.
        """
        now = self._at(step)
        drawn = self._sampler.sample(n, self._table, step, now.drawn)
        now.drawn += drawn
        return [self._examples[example_id] for example_id in drawn]

    def observe(self, groups: Sequence[ScoredGroup], step: int) -> list[Decision]:
        """Enter the outcomes of a round of a step, then decide; one decision a group, in order."""
        now = self._at(step)
        for group in groups:
            correct, valid = correct_of_valid(group)
            if valid:  # a group whose scoring failed says nothing about the prompt
                version = max(rollout.version for rollout in group.rollouts)
                self._table.update(group.example.id, correct, valid, version, step)
            for rollout, score in zip(group.rollouts, group.scores, strict=True):
                if score.sound and rollout.provenance is Provenance.ON_POLICY:
                    now.sound.append(rollout)
        now.rollouts += sum(len(group.rollouts) for group in groups)
        granted = sum(decision.count for decision in now.decisions)
        decisions = decide_batch(
            groups, self._table, self._guidance, step, now.rollouts, self._decomposed, granted_before=granted
        )
        now.decisions += decisions
        now.outcomes += [(*correct_of_valid(group), has_signal(group, self._decomposed)) for group in groups]
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
            self._table.guided(example_id, outcome.solved, outcome.level)
        self._last.update(_guide_metrics(outcomes, self._now.rollouts))

    def recall(self, wanted: Mapping[str, int]) -> dict[str, list[Rollout]]:
        """The policy's best earlier answers: prompt id -> at most as many as wanted; score them again before use."""
        return {example_id: self._buffer.best(example_id, k) for example_id, k in wanted.items()}

    def metrics(self) -> dict[str, float]:
        """Metrics of the step last observed and of the memory as a whole; docs/replay.md explains each."""
        stats = [s for _, s in self._table.items() if s.attempts]
        return {
            **self._last,
            "replay/tried": len(stats) / len(self._examples),
            "replay/accuracy_mean": sum(s.accuracy for s in stats) / len(stats) if stats else 0.0,
            "replay/guided_prompts": float(sum(s.guided > 0 for s in stats)),
            "replay/stored": float(len(self._buffer)),
            "replay/epochs": float(self._sampler.epochs),
        }

    def state_dict(self) -> dict:
        """Statistics, random state, position in the data, stored trajectories: plain types, exact through JSON."""
        return {
            "table": self._table.state_dict(),
            "sampler": self._sampler.state_dict(),
            "buffer": self._buffer.state_dict(),
            "pool": self._pool,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on exactly where ``state`` was taken. Raises DataError when it belongs to another pool."""
        if state["pool"] != self._pool:
            raise DataError(
                "the RL pool is not the one that this run was started with: data.train, its file, or the prompts that "
                "fit in task.max_prompt_tokens have changed",
                hint="resume with what the run was started with, or start a new run from the exported model",
            )
        self._sampler.load_state_dict(state["sampler"])
        self._table.load_state_dict(state["table"])
        self._buffer.load_state_dict(state["buffer"])
        self._now = StepSoFar()


def pool_digest(examples: Sequence[Example]) -> str:
    """Of everything that the examples say, in their order: another file may number its rows in the same way."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(json.dumps(to_row(example), sort_keys=True).encode())
    return digest.hexdigest()


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
