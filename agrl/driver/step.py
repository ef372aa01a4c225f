"""One training step: sample prompts, roll out, score, decide and guide make a batch; learn and broadcast use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.service import Pending
from agrl.algorithms.schedule import learning_rate
from agrl.clock import Clock
from agrl.config.schema import Config, KLIn
from agrl.driver.generation.draw import draw, most_prompts
from agrl.driver.generation.guide import guide
from agrl.driver.generation.rollout import collect, generate
from agrl.driver.generation.rollout_metrics import rollout_metrics
from agrl.driver.generation.sequences import group_relative, teaches, train_sequence, train_sequences
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.services import Services
from agrl.errors import RewardError, WeightSyncError
from agrl.relevance.records import Provenance, Rollout, ScoredGroup
from replay.core import GuideOutcome
from replay.decisions import Decision
from replay.outcomes import Outcome

GENERATION = ("sample", "rollout", "score", "guide")  # phases, which take no time of a step whose batch was made ahead


@dataclass
class RolloutBatch:
    """What is generated for a step and not yet trained on.

    ``groups``: those that are not dropped, guided ones mixed. ``clock``: that of the step, which goes on; None when the
    batch was generated ahead of its step.
    """

    step: int
    groups: list[ScoredGroup]
    metrics: dict[str, float]
    clock: Clock | None = None


@dataclass
class StepResult:
    """What a step produced: all groups (guided ones mixed), their advantages (NaN: not trained), metrics, and what
    became of the prompts that were drawn, see ``replay.ledger``."""

    groups: list[ScoredGroup]
    advantages: list[np.ndarray]
    metrics: dict[str, float]
    ledger: list[dict[str, Any]] = field(default_factory=list)


def training_step(s: Services, step: int) -> StepResult:
    """Run step ``step`` (from 0) of adaptive guided RL. Raises the AgrlError that names what went wrong."""
    return train_batch(s, generate_batch(s, step))


def generate_batch(s: Services, step: int) -> RolloutBatch:
    """Sample prompts, roll out, score, decide and guide, with the weights that the engines have."""
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
            sampled += collect(s, unscored)
            refuse_unscored(sampled)
        with clock("guide"):
            outcomes = [Outcome.of(group, config.reward.mode) for group in sampled[len(decisions) :]]
            decisions += s.replay.call("observe", outcomes, step).result()
    with clock("guide"):
        mixed, guided = guide(s, sampled, decisions, step)
        batch = finished_batch(s, step, sampled, mixed, decisions, guided)
    batch.clock = clock
    return batch


def finished_batch(
    s: Services,
    step: int,
    sampled: list[ScoredGroup],
    mixed: list[ScoredGroup],
    decisions: list[Decision],
    guided: dict[str, GuideOutcome],
) -> RolloutBatch:
    """The batch of a step from all groups that were ``sampled`` for it, then with guided rollouts ``mixed`` in."""
    s.replay.call("guided", guided).result()
    groups = [group for group, decision in zip(mixed, decisions, strict=True) if decision.kind != "drop"]
    metrics = rollout_metrics(sampled, s.scorer.names) | s.replay.call("metrics").result()
    return RolloutBatch(step, groups, metrics | s.rollouts.metrics() | s.rewards.metrics())


def train_batch(s: Services, batch: RolloutBatch, ahead: Pending | None = None) -> StepResult:
    """Learn from a batch and give the engines the new weights, when what they generate ``ahead`` is done."""
    config, c, clock = s.config, s.config.learner, batch.clock or Clock(*GENERATION)
    about_age = staleness(batch, s.learner.version, config.trainer.max_staleness)
    with clock("learn"), s.learners_turn():
        penalties, about_kl = kl_penalties(s, batch.groups)
    advantages = group_relative(batch.groups, config.reward.mode, s.scorer.weights, c.advantage.value, penalties)
    metrics = batch.metrics | about_age | about_kl
    sequences = train_sequences(batch.groups, advantages)
    if sequences:
        with clock("learn"), s.learners_turn():
            rate = learning_rate(batch.step, c.lr, config.trainer.steps, c.warmup_steps, c.schedule)
            metrics |= s.learner.train_policy(sequences, rate)
    if ahead:
        with clock("wait"):
            ahead.result()
    if sequences:
        with clock("broadcast"):
            broadcast_weights(s.learner, s.rollouts)
    metrics["sync/version"] = s.learner.version
    metrics["ledger/trained"] = float(sum(map(teaches, advantages)))
    return StepResult(batch.groups, advantages, metrics | clock.metrics(), settle(s, batch, advantages))


def settle(s: Services, batch: RolloutBatch, advantages: list[np.ndarray]) -> list[dict[str, Any]]:
    """Enter into the ledger what the batch taught; returns the outcomes that are final since the last step."""
    taught = {True: [], False: []}
    for group, values in zip(batch.groups, advantages, strict=True):
        taught[teaches(values)].append(group.example.id)
    return s.replay.call("settle", batch.step, taught[True], taught[False]).result()


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


def staleness(batch: RolloutBatch, version: int, most: int) -> dict[str, float]:
    """How many versions the learner's weights are ahead of those that sampled each token of a batch: metrics.

    Raises WeightSyncError when it is more than ``most``.
    """
    own = [rollout for group in batch.groups for rollout in own_rollouts(group)]
    spans = np.array([span for rollout in own for span in rollout.versions], np.int64).reshape(-1, 2)
    behind, tokens = version - spans[:, 0], spans[:, 1]
    for lag in behind[(behind < 0) | (behind > most)][:1]:
        raise WeightSyncError(
            f"the batch of step {batch.step} was sampled from weight version {version - lag}, but the learner has "
            f"version {version}: more than trainer.max_staleness={most} behind",
            hint="a broadcast was skipped; resume from the last checkpoint",
        )
    if not most or not tokens.sum():
        return {}
    shares = np.bincount(behind, tokens, minlength=most + 1) / tokens.sum()
    return {
        "staleness/versions": float(shares @ np.arange(most + 1)),
        **{f"staleness/share_{lag}": float(share) for lag, share in enumerate(shares)},
        "staleness/spans": len(spans) / len(own),
    }


def own_rollouts(group: ScoredGroup) -> list[Rollout]:
    """Those that the policy sampled for this group: recalled ones are older, others are no policy's."""
    return [r for r in group.rollouts if r.provenance is Provenance.ON_POLICY and r.version >= 0]


def refuse_unscored(groups: list[ScoredGroup]) -> None:
    """Raise RewardError when no rollout of a step has a valid reward: there is nothing to learn from, and a reason."""
    scores = [score for group in groups for score in group.scores]
    if not any(score.valid for score in scores):
        reasons = sorted({component.reason for score in scores for component in score.components.values()})
        raise RewardError(
            f"not one of {len(scores)} rollouts could be scored: {', '.join(reasons) or 'no reason given'}",
            hint="check the gold verdicts and tiers of the training file (`agrl data validate`) and the reward logs",
        )
