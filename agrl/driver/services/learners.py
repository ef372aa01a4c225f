"""The learner as the driver sees it: all ranks as one, with one call for each thing the algorithm asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.runtime import Runtime
from actors.service import Pending, Service
from agrl.algorithms.batch import Minibatch, PreferencePair, TrainSequence, plan_minibatches, plan_pairs
from agrl.algorithms.columns import Columns
from agrl.algorithms.policy_loss import LossSettings
from agrl.algorithms.preference import PreferenceSettings
from agrl.config.schema import Config, KLIn
from agrl.driver.services.rank_failures import wait_for_ranks
from learner.rank import LearnerRank, RankSettings, StepSums
from learner.sync_check import staleness_metrics, sync_metrics
from learner.throughput import throughput_metrics

CPU_ENVIRONMENT = {"DS_ACCELERATOR": "cpu"}


class LearnerGroup:
    """The data-parallel ranks of the learner. ``version`` counts the weight versions that it has produced."""

    def __init__(self, runtime: Runtime, config: Config, log_dir: Path) -> None:
        self.runtime, self.config = runtime, config
        self.version, self.doing = 0, "start-up"
        c, ranks = config.learner, config.learner.ranks
        settings, names = self._settings(config), [f"learner-{rank}" for rank in range(ranks)]
        env = {"OMP_NUM_THREADS": str(c.threads)} if c.threads else {}
        self.ranks: list[Service] = [
            runtime.start(
                LearnerRank,
                name,
                settings,
                rank,
                ranks,
                env=env if c.gpus_per_rank else env | CPU_ENVIRONMENT,
                cpu_share=runtime.most_on_a_host(names),
                log_file=log_dir / f"{name}.log",
            )
            for rank, name in enumerate(names)
        ]

    def setup(self) -> str:
        """Load the model on every rank; returns a line that says so where it does not take ``learner.packing``."""
        one_host = len(set(self.on_all_ranks("host"))) == 1
        return self._loaded(self.on_all_ranks("setup", self.on_first_rank("rendezvous"), one_host))

    def restart(self, config: Config) -> str:
        """Begin another run on the same ranks: its model, a fresh optimizer, its settings; ``version`` goes on.

        Returns what ``setup`` does.
        """
        self.config = config
        self.version += 1
        return self._loaded(self.on_all_ranks("start", self._settings(config)))

    def _loaded(self, ranks: list[tuple[str, str]]) -> str:
        self.packing, reason = ranks[0]  # the configuration asks, the model decides
        path = self.config.model.path
        return f"Note: {path} is trained with learner.packing={self.packing}, because {reason}" if reason else ""

    def _settings(self, config: Config) -> RankSettings:
        c = config.learner
        return RankSettings(
            model_path=config.model.path,
            dtype=config.model.dtype,
            zero_stage=c.zero_stage,
            lr=c.lr,
            weight_decay=c.weight_decay,
            max_grad_norm=c.max_grad_norm,
            gradient_checkpointing=config.model.gradient_checkpointing,
            lora_rank=config.model.lora_rank,
            lora_alpha=config.model.lora_alpha,
            seed=config.trainer.seed,
            threads=c.threads,
            timeout_s=c.timeout_s,
            reference=c.kl_coef > 0,
            packing=c.packing.value,
        )

    def train_policy(self, sequences: list[TrainSequence], lr: float) -> dict[str, float]:
        """One batch of reinforcement learning; the weights become version ``self.version``. Returns metrics."""
        c = self.config
        plan = self._plan(sequences, c.learner.optimizer_steps_per_batch, c.learner.aggregation.value)
        loss = loss_settings(c)
        tolerance = c.sync.max_mean_gap if c.sync.check else None
        about = loss, c.rollout.temperature, lr, self.version, tolerance
        sums = self._on_batch("train_policy", Columns(sequences), plan, *about)
        self.version += 1
        return _policy_metrics(sums, len(plan), lr)

    def kl_to_reference(self, sequences: list[TrainSequence]) -> np.ndarray:
        """KL(policy || start model) estimated from each response, summed over its tokens: float64 [N], nats."""
        c = self.config
        about = c.rollout.temperature, c.learner.kl_estimator.value
        found = self._on_batch("kl_to_reference", Columns(sequences), self._plan(sequences, 1), *about)
        return np.array([value for _, value in sorted(pair for part in found for pair in part.items())])

    def train_sft(self, sequences: list[TrainSequence], lr: float) -> dict[str, float]:
        """One optimizer step of cross-entropy on the responses. Returns metrics."""
        sums = _merge(self._on_batch("train_sft", Columns(sequences), self._plan(sequences, 1), lr))
        self.version += 1
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
        sums = _merge(self._on_batch("train_preference", pairs, plan, settings, lr))
        self.version += 1
        share = {name: sums.total[name] / len(pairs) for name in sums.total if name.startswith("reward_")}
        return {
            "loss/total": sums.total["loss"],
            **{f"dpo/{name}": value for name, value in share.items()},
            "grad_norm": sums.maximum["grad_norm"],
            "lr": lr,
            "tokens/trained": sums.total["tokens"],
            **throughput_metrics(sums.total, sums.maximum["seconds"]),
        }

    def check_alive(self) -> None:
        """Raise LearnerError when a rank has died while there was nothing for it to do."""
        self.doing = "rollouts"
        self._gather({rank.call("host"): rank for rank in self.ranks})

    def on_first_rank(self, method: str, *args: Any) -> Any:
        """A call that rank 0 alone is to answer."""
        return self.on_ranks(self.ranks[:1], method, *args)[0]

    def on_all_ranks(self, method: str, *args: Any) -> list[Any]:
        """A call that every rank is to answer."""
        return self.on_ranks(self.ranks, method, *args)

    def on_ranks(self, ranks: Sequence[Service], method: str, *args: Any) -> list[Any]:
        """A call that some ranks are to answer."""
        self.doing = method.replace("_", " ")
        return self._gather({rank.call(method, *args): rank for rank in ranks})

    def _on_batch(self, method: str, batch: Any, plan: Any, *args: Any) -> list[Any]:
        """A call to every rank about one batch and its plan: both are stored once, however many ranks read them."""
        return self.on_all_ranks(method, self.runtime.put(batch), self.runtime.put(plan), *args)

    def rest(self) -> None:
        """Give back the GPU memory that only training needed."""
        self.on_all_ranks("rest")

    def save(self, folder: Path) -> None:
        """Write every rank's part of a checkpoint under ``folder``, which all ranks must see."""
        self.on_all_ranks("save", str(folder.absolute()))

    def load(self, folder: Path, version: int) -> None:
        """Restore a checkpoint and the version of its weights."""
        self.on_all_ranks("load", str(folder.absolute()))
        self.version = version

    def export(self, folder: Path) -> None:
        """Write the model as an ordinary Hugging Face folder."""
        self.on_all_ranks("export", str(folder.absolute()))

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each rank, by name; one that dies ends the run."""
        return {rank.name: {"restarts": 0.0} for rank in self.ranks}

    def close(self) -> None:
        for rank in self.ranks:
            rank.kill()

    def _plan(
        self, sequences: list[TrainSequence], optimizer_steps: int, aggregation: str = "token"
    ) -> list[Minibatch]:
        c, longest = self.config.learner, self.config.task.max_response_tokens
        return plan_minibatches(
            sequences, optimizer_steps, c.ranks, c.micro_batch_tokens, aggregation, longest, self.packing
        )

    def _gather(self, calls: dict[Pending, Service]) -> list[Any]:
        """All answers, in order; the first that fails ends the group: the others would wait for it in a collective."""
        try:
            wait_for_ranks(calls, self.config.learner.timeout_s, self.doing)
        except BaseException:
            self.close()
            raise
        return [pending.result() for pending in calls]


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
