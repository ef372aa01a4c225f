"""The learner as the driver sees it: all ranks as one, with one call for each thing the algorithm asks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agrl.algorithms.batch import Minibatch, PreferencePair, TrainSequence, plan_minibatches, plan_pairs
from agrl.algorithms.columns import Columns
from agrl.algorithms.policy_loss import LossSettings
from agrl.algorithms.preference import PreferenceSettings
from agrl.config.schema import Config, KLIn
from agrl.driver.services.learner_ranks import LearnerRanks
from agrl.driver.services.learner_snapshots import Sharding
from learner.rank import StepSums
from learner.sync_check import staleness_metrics, sync_metrics
from learner.throughput import throughput_metrics


class LearnerGroup(LearnerRanks):
    """One call for each thing that the algorithm asks of the learner; a lost rank is healed within it."""

    def train_policy(self, sequences: list[TrainSequence], lr: float) -> dict[str, float]:
        """One batch of reinforcement learning; the weights become version ``self.version``. Returns metrics."""
        c = self.config
        plan = self._plan(sequences, c.learner.optimizer_steps_per_batch, c.learner.aggregation.value)
        loss = loss_settings(c)
        tolerance = c.sync.max_mean_gap if c.sync.check else None
        about = loss, c.rollout.temperature, lr, self.version, tolerance
        sums = self._train("train_policy", Columns(sequences), plan, *about)
        return _policy_metrics(sums, len(plan), lr) | self._metrics()

    def kl_to_reference(self, sequences: list[TrainSequence]) -> np.ndarray:
        """KL(policy || start model) estimated from each response, summed over its tokens: float64 [N], nats."""
        c = self.config
        about = c.rollout.temperature, c.learner.kl_estimator.value
        found = self._on_batch("kl_to_reference", Columns(sequences), self._plan(sequences, 1), *about)
        return np.array([value for _, value in sorted(pair for part in found for pair in part.items())])

    def train_sft(self, sequences: list[TrainSequence], lr: float) -> dict[str, float]:
        """One optimizer step of cross-entropy on the responses. Returns metrics."""
        sums = _merge(self._train("train_sft", Columns(sequences), self._plan(sequences, 1), lr))
        self._keep_at_times()
        return {
            "loss/total": sums.total["loss"],
            "grad_norm": sums.maximum["grad_norm"],
            "lr": lr,
            "tokens/trained": sums.total["tokens"],
            **throughput_metrics(sums.total, sums.maximum["seconds"]),
        }

    def sequence_logprobs(self, sequences: list[TrainSequence]) -> np.ndarray:
        """The model's log-probability of each response as a whole: float64 [N], nats."""
        found = self._on_batch("sequence_logprobs", Columns(sequences), self._plan(sequences, 1))
        return np.array([value for _, value in sorted(pair for part in found for pair in part.items())])

    def train_preference(self, pairs: list[PreferencePair], lr: float) -> dict[str, float]:
        """One optimizer step of direct preference optimization. Returns metrics."""
        c = self.config
        plan = plan_pairs(pairs, c.learner.ranks, c.learner.micro_batch_tokens, self.packing)
        settings = PreferenceSettings(c.dpo.beta, c.dpo.label_smoothing, c.dpo.sft_coef)
        sums = _merge(self._train("train_preference", pairs, plan, settings, lr))
        self._keep_at_times()
        share = {name: sums.total[name] / len(pairs) for name in sums.total if name.startswith("reward_")}
        return {
            "loss/total": sums.total["loss"],
            **{f"dpo/{name}": value for name, value in share.items()},
            "grad_norm": sums.maximum["grad_norm"],
            "lr": lr,
            "tokens/trained": sums.total["tokens"],
            **throughput_metrics(sums.total, sums.maximum["seconds"]),
        }

    def rest(self) -> None:
        """Give back the GPU memory that only training needed."""
        self.healing(lambda: self.on_all_ranks("rest"))

    def save(self, folder: Path) -> None:
        """Write every rank's part of a checkpoint under ``folder``, which all ranks must see."""
        self.healing(lambda: self.on_all_ranks("save", str(folder.absolute())))

    def load(self, folder: Path, version: int, written_by: Sharding | None = None) -> None:
        """Restore a checkpoint and the version of its weights. ``written_by``: as these ranks are, unless it is given;
        from others it is equal up to rounding."""
        self._snapshots = self.healing(lambda: self._loaded_from(folder, written_by or self.sharding))
        self.version = version

    def export(self, folder: Path) -> None:
        """Write the model as an ordinary Hugging Face folder."""
        self.healing(lambda: self.on_all_ranks("export", str(folder.absolute())))

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each rank, by name; all are started anew together."""
        return {rank.name: {"restarts": float(self.lost)} for rank in self.ranks}

    def _metrics(self) -> dict[str, float]:
        about = {"actors/learner_restarts": float(self.lost)}
        return about | ({"learner/snapshot_seconds": self._snapshots.takes_s} if self._snapshots.newest else {})

    def _plan(
        self, sequences: list[TrainSequence], optimizer_steps: int, aggregation: str = "token"
    ) -> list[Minibatch]:
        c, longest = self.config.learner, self.config.task.max_response_tokens
        return plan_minibatches(
            sequences, optimizer_steps, c.ranks, c.micro_batch_tokens, aggregation, longest, self.packing
        )


def _merge(ranks: list[StepSums]) -> StepSums:
    merged = StepSums()
    for sums in ranks:
        merged.add(sums.total)
        for name, value in sums.maximum.items():
            merged.maximum[name] = max(merged.maximum[name], value)
    return merged


def loss_settings(config: Config) -> LossSettings:
    """The constants of the policy loss, as configured; a KL term in the reward is none in the loss."""
    c = config.learner
    return LossSettings(
        ratio=c.ratio.value,
        clip_low=c.clip_low,
        clip_high=c.clip_high,
        importance=c.importance.value,
        importance_cap=c.importance_cap,
        gamma=config.guidance.gamma,
        kl_coef=c.kl_coef if c.kl_in == KLIn.loss else 0.0,
        kl_estimator=c.kl_estimator.value,
        entropy_coef=c.entropy_coef,
    )


def _policy_metrics(ranks: list[StepSums], optimizer_steps: int, lr: float) -> dict[str, float]:
    sums = _merge(ranks)
    total = sums.total
    tokens, sampled = max(total["tokens"], 1), max(total["sampled"], 1)
    metrics = {
        "loss/total": total["loss"] / optimizer_steps,
        "policy/ratio_mean": total["ratio"] / sampled,
        "policy/clip_fraction": total["clipped"] / sampled,
        "policy/entropy": total["entropy"] / tokens,
        "grad_norm": sums.maximum["grad_norm"],
        "lr": lr,
        "tokens/trained": total["tokens"],
    }
    if "kl" in total:
        metrics["loss/kl"] = total["kl"] / sampled
    if "masked" in total:
        metrics["policy/masked_fraction"] = total["masked"] / max(total["on_policy"], 1)
    metrics |= throughput_metrics(total, sums.maximum["seconds"])
    return metrics | sync_metrics(total, sums.maximum["gap_max"]) | staleness_metrics(total)
