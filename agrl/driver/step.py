"""One training step: sample prompts, roll out, score, decide and guide, learn, broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agrl.algorithms.schedule import learning_rate
from agrl.config.schema import Config, KLIn
from agrl.driver.batch import group_relative, train_sequence, train_sequences
from agrl.driver.clock import Clock
from agrl.driver.draw import draw, draw_ahead
from agrl.driver.guide import guide
from agrl.driver.learner_weights import broadcast_weights
from agrl.driver.plan import most_prompts
from agrl.driver.rollout import collect, generate
from agrl.driver.services import Services
from agrl.driver.step_metrics import rollout_metrics
from agrl.errors import RewardError, WeightSyncError
from agrl.relevance.records import ScoredGroup
from replay.decisions import Decision
from replay.outcomes import Outcome


@dataclass
class StepResult:
    """What a step produced: all groups (guided ones mixed), their advantages (NaN: not trained), and metrics."""

    groups: list[ScoredGroup]
    advantages: list[np.ndarray]
    metrics: dict[str, float]


def training_step(s: Services, step: int) -> StepResult:
    """Run step ``step`` (from 0) of adaptive guided RL. Raises the AgrlError that names what went wrong."""
    config, clock = s.config, Clock()
    sampled: list[ScoredGroup] = []
    decisions: list[Decision] = []
    while wanted := prompts_wanted(config, decisions):
        with clock("sample"):
            examples = draw(s, wanted, step)
        with clock("rollout"):
            prompts = [(example, 0) for example in examples]
            unscored = generate(s, prompts, config.trainer.rollouts_per_prompt, step, config.rollout.temperature)
        with clock("score"):
            groups = collect(s, unscored)
            refuse_stale(groups, s.learner.version)
            sampled += groups
            refuse_unscored(sampled)
        with clock("guide"):
            outcomes = [Outcome.of(group, config.reward.mode) for group in groups]
            decisions += s.replay.call("observe", outcomes, step).result()
    with clock("guide"):
        mixed, guided = guide(s, sampled, decisions, step)
        s.replay.call("guided", guided).result()
    trained = [g for g, d in zip(mixed, decisions, strict=True) if d.kind != "drop"]
    with clock("learn"), s.learners_turn():
        penalties, about_kl = kl_penalties(s, trained)
    advantages = group_relative(
        trained, config.reward.mode, s.scorer.weights, config.learner.advantage.value, penalties
    )
    metrics = s.replay.call("metrics").result() | about_kl
    if sequences := train_sequences(trained, advantages):
        with clock("learn"), s.learners_turn():
            rate = learning_rate(
                step, config.learner.lr, config.trainer.steps, config.learner.warmup_steps, config.learner.schedule
            )
            learned = s.learner.begin_policy(sequences, rate)
            if step + 1 < config.trainer.steps:
                draw_ahead(s, prompts_wanted(config, []), step + 1)
            metrics |= rollout_metrics(sampled, s.scorer.names) | learned()
        with clock("broadcast"):
            broadcast_weights(s.learner, s.rollouts)
    else:
        metrics |= rollout_metrics(sampled, s.scorer.names)
    metrics |= s.rollouts.metrics() | s.rewards.metrics()
    metrics["sync/version"] = s.learner.version
    return StepResult(trained, advantages, metrics | clock.metrics())


def prompts_wanted(config: Config, decisions: list[Decision]) -> int:
    """How many prompts to roll out next, 0 when the step has enough: as many as groups are missing.

    DAPO's dynamic sampling (arXiv 2503.14476, section 3.2): dropped groups are replaced by fresh prompts, while no more
    than ``generation_budget`` times ``prompts_per_step`` have been tried.
    """
    missing = config.trainer.prompts_per_step - sum(decision.kind != "drop" for decision in decisions)
    return min(missing, most_prompts(config) - len(decisions))


def kl_penalties(s: Services, groups: list[ScoredGroup]) -> tuple[list[np.ndarray], dict[str, float]]:
    """What KL(policy || start model) takes off the reward of every rollout, float64 [G] a group; with its metric.

    The estimate summed over a response's tokens, times ``kl_coef``, as in the reward of RLHF (arXiv 2009.01325, section
    3.4); zeros where the KL is not in the reward. Decisions came before: equal rewards are dropped, whatever the KL.
    """
    c, sizes = s.config.learner, [len(group.rollouts) for group in groups]
    if c.kl_in != KLIn.reward or c.kl_coef == 0 or not groups:
        return [np.zeros(size) for size in sizes], {}
    kl = s.learner.kl_to_reference([train_sequence(rollout) for group in groups for rollout in group.rollouts])
    return np.split(c.kl_coef * kl, np.cumsum(sizes)[:-1]), {"policy/reference_kl": float(kl.mean())}


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
