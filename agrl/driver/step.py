"""One training step: sample prompts, roll out, score, decide and guide, learn, broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agrl.algorithms.schedule import learning_rate
from agrl.driver.batch import group_relative, train_sequences
from agrl.driver.clock import Clock
from agrl.driver.guide import guide
from agrl.driver.rollout import roll_out
from agrl.driver.services import Services
from agrl.driver.step_metrics import rollout_metrics
from agrl.errors import RewardError, WeightSyncError
from agrl.relevance.records import ScoredGroup


@dataclass
class StepResult:
    """What a step produced: all groups (guided ones mixed), their advantages (NaN: not trained), and metrics."""

    groups: list[ScoredGroup]
    advantages: list[np.ndarray]
    metrics: dict[str, float]


def training_step(s: Services, step: int) -> StepResult:
    """Run step ``step`` (from 0) of adaptive guided RL. Raises the AgrlError that names what went wrong."""
    config, clock = s.config, Clock()
    with clock("sample"):
        examples = s.replay.call("sample", config.trainer.prompts_per_step, step).result()
    with clock("rollout"):
        prompts = [(example, 0) for example in examples]
        sampled = roll_out(s, prompts, config.trainer.rollouts_per_prompt, step, config.rollout.temperature)
        refuse_stale(sampled, s.learner.version)
        refuse_unscored(sampled)
    with clock("guide"):
        decisions = s.replay.call("observe", sampled, step).result()
        groups, outcomes = guide(s, sampled, decisions, step)
        s.replay.call("guided", outcomes).result()
    trained = [g for g, d in zip(groups, decisions, strict=True) if d.kind != "drop"]
    advantages = group_relative(trained, config.reward.mode, s.scorer.weights, config.learner.normalise_std)
    metrics = rollout_metrics(sampled, s.scorer.names)
    if sequences := train_sequences(trained, advantages):
        with clock("learn"):
            rate = learning_rate(
                step, config.learner.lr, config.trainer.steps, config.learner.warmup_steps, config.learner.schedule
            )
            metrics |= s.learner.train_policy(sequences, rate)
        with clock("broadcast"):
            s.rollouts.broadcast(s.learner.version, s.learner.weights())
    metrics |= s.replay.call("metrics").result() | s.rollouts.metrics() | s.rewards.metrics()
    metrics["sync/version"] = s.learner.version
    return StepResult(trained, advantages, metrics | clock.metrics())


def refuse_stale(groups: list[ScoredGroup], version: int) -> None:
    """Raise WeightSyncError when a rollout was sampled from other weights than the learner's newest."""
    stale = next((r for group in groups for r in group.rollouts if r.version != version), None)
    if stale is not None:
        raise WeightSyncError(
            f"rollout actor {stale.actor} sampled from weight version {stale.version}, the learner has {version}",
            hint="a broadcast was skipped; resume from the last checkpoint",
        )


def refuse_unscored(groups: list[ScoredGroup]) -> None:
    """Raise RewardError when no rollout of a step has a valid reward: there is nothing to learn from, and a reason."""
    scores = [score for group in groups for score in group.scores]
    if not any(score.valid for score in scores):
        reasons = sorted({component.reason for score in scores for component in score.components.values()})
        raise RewardError(
            f"not one of {len(scores)} rollouts could be scored: {', '.join(reasons) or 'no reason given'}",
            hint="check the gold verdicts and tiers of the training file (`agrl data validate`) and the reward logs",
        )
