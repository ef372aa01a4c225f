"""A run that learns nothing is stopped by name, and never ends as a success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agrl.config.schema import Config, GuidanceSource
from agrl.errors import NothingLearnedError

START = (
    "give the model a supervised start first: `agrl sft model.path=... run=RUN`, then `agrl train model.path=RUN/model`"
)


def needs_answers(config: Config) -> bool:
    """Whether a run can learn only from answers of its own model; ground-truth trajectories teach one that has none."""
    taught = config.guidance.enabled and config.guidance.source == GuidanceSource.reference
    return config.trainer.require_parsing and not taught


def refuse_unparsed(evaluation: Mapping[str, Mapping[str, Any]], model: str) -> None:
    """Raise NothingLearnedError when no answer to any held-out set (name -> metrics) parses: RL has nothing to reward.

    No sets, no opinion.
    """
    if not evaluation or any(metrics["parse_rate"] for metrics in evaluation.values()):
        return
    answers = sum(metrics["n"] for metrics in evaluation.values())
    reasons = {reason: None for metrics in evaluation.values() for reason in metrics["failures"]}
    raise NothingLearnedError(
        f"not one of {answers:,} answers of {model} to the held-out examples is a judgement in the rule book's form "
        f"({', '.join(reasons)})",
        hint=f"{START}; where answers are cut off, raise task.max_response_tokens. trainer.require_parsing=false goes "
        "on regardless",
    )


@dataclass
class StallWatch:
    """Counts the tokens that the steps of a run train. ``most_idle``: steps in a row without any that end it, 0: none.

    ``idle``: such steps so far; ``trained``: tokens of the whole run.
    """

    most_idle: int
    idle: int = 0
    trained: int = 0
    last: Mapping[str, float] = field(default_factory=dict)  # metrics of the last step

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Enter a step. Raises NothingLearnedError when it is one too many that trained nothing."""
        self.last = metrics
        tokens = int(metrics.get("tokens/trained", 0))
        self.trained += tokens
        self.idle = 0 if tokens else self.idle + 1
        if self.most_idle and self.idle >= self.most_idle:
            why, what_to_do = explain(metrics)
            raise NothingLearnedError(
                f"{self.idle} steps in a row trained no token: {why}",
                hint=f"{what_to_do}. trainer.max_idle_steps sets how many end a run, 0: none",
            )

    def finish(self) -> None:
        """Raise NothingLearnedError when the whole run trained nothing."""
        if not self.trained:
            why, what_to_do = explain(self.last)
            raise NothingLearnedError(f"no step of the run trained a token: {why}", hint=what_to_do)

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"idle": self.idle, "trained": self.trained}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on counting where ``state`` was taken."""
        self.idle, self.trained = state["idle"], state["trained"]


def explain(metrics: Mapping[str, float]) -> tuple[str, str]:
    """Why a step trained nothing, from its metrics (docs/metrics.md), and what to do about it."""
    if metrics.get("response/cut_off") == 1:
        return "every answer was cut off", f"raise task.max_response_tokens, or {START}"
    if metrics.get("train/parse_rate") == 0:
        return "no answer is a judgement in the rule book's form", START
    if metrics.get("group/all_right") == 1:
        return (
            "every group has every tier right, so there is nothing to tell apart",
            "the model has learned what data.train can teach: give it harder examples, or end the run here with "
            "trainer.steps=N at the step where it stopped, which exports the model",
        )
    if metrics.get("group/all_wrong") == 1:
        return "no group has any tier right", f"{START}, switch guidance on (algorithm=agrl), or give easier examples"
    return (
        "in every group all rollouts have the same reward",
        "raise trainer.rollouts_per_prompt or trainer.generation_budget, or look at samples.jsonl",
    )
