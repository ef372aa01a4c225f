"""Refuses combinations that are well typed but cannot work, by name, before anything starts."""

from __future__ import annotations

from agrl.algorithms.schedule import SCHEDULES
from agrl.config.check_places import check_places
from agrl.config.schema import (
    KL,
    Advantage,
    Aggregation,
    Config,
    Dealing,
    GuidanceSource,
    Importance,
    KLIn,
    Overlap,
    Ratio,
    RayMode,
    Semantics,
)
from agrl.errors import ConfigError
from agrl.relevance.grounding import Gold
from agrl.relevance.records import RewardMode

POSITIVE = (
    "task.max_prompt_tokens",
    "task.max_response_tokens",
    "model.lora_alpha",
    "rollout.actors",
    "rollout.max_concurrent",
    "rollout.tensor_parallel",
    "rollout.timeout_s",
    "rollout.kv_cache_gib",
    "reward.actors",
    "reward.timeout_s",
    "guidance.hinted_rollouts",
    "guidance.temperature",
    "guidance.first_hint_level",
    "guidance.gamma",
    "learner.ranks",
    "learner.lr",
    "learner.max_grad_norm",
    "learner.optimizer_steps_per_batch",
    "learner.micro_batch_tokens",
    "learner.timeout_s",
    "trainer.steps",
    "trainer.prompts_per_step",
    "trainer.keep_checkpoints",
    "sft.steps",
    "sft.batch_size",
    "sft.lr",
    "dpo.prompts",
    "dpo.pairs_per_prompt",
    "dpo.min_margin",
    "dpo.steps",
    "dpo.batch_size",
    "dpo.lr",
    "dpo.beta",
    "ground.samples",
    "ground.rounds",
    "rollout.temperature",
    "sync.max_mean_gap",
    "replay.ema",
)
SHARES = (
    "replay.floor",
    "replay.ema",
    "guidance.tau",
    "guidance.max_share",
    "guidance.mastered",
    "ground.agreement",
    "learner.clip_low",
    "rollout.gpu_memory_utilization",
)
NOT_NEGATIVE = (
    "model.lora_rank",
    "rollout.restarts",
    "reward.restarts",
    "ground.temperature",
    "guidance.warmup_steps",
    "guidance.replace",
    "learner.kl_coef",
    "learner.clip_high",
    "learner.entropy_coef",
    "learner.weight_decay",
    "learner.warmup_steps",
    "sft.warmup_steps",
    "dpo.warmup_steps",
    "dpo.sft_coef",
    "trainer.evaluate_every",
    "trainer.checkpoint_every",
    "trainer.samples_per_step",
    "trainer.seed",
    "trainer.max_idle_steps",
    "data.max_evaluation",
    "data.evaluation_seed",
)


def check(config: Config) -> None:
    """Raise ConfigError naming the first key, or pair of keys, that cannot work."""
    for key in POSITIVE:
        if not _value(config, key) > 0:
            raise ConfigError(f"{key}={_value(config, key)} must be greater than 0")
    for key in SHARES:
        if not 0 <= _value(config, key) <= 1:
            raise ConfigError(f"{key}={_value(config, key)} must lie between 0 and 1")
    for key in NOT_NEGATIVE:
        if not _value(config, key) >= 0:
            raise ConfigError(f"{key}={_value(config, key)} must not be negative")
    for key in ("learner.schedule", "sft.schedule", "dpo.schedule"):
        if _value(config, key) not in SCHEDULES:
            raise ConfigError(f"{key}={_value(config, key)!r} is not one of {', '.join(SCHEDULES)}")
    if not 0 <= config.dpo.label_smoothing < 0.5:
        raise ConfigError(f"dpo.label_smoothing={config.dpo.label_smoothing} must lie in [0, 0.5)")
    if config.ground.gold == Gold.none:
        raise ConfigError(
            "ground.gold=none: data.train has gold, or there is nothing to begin with",
            hint="pairs that nobody has judged are data.unlabelled, which the second round reads (ground.rounds=2)",
        )
    if config.dpo.samples < 2:
        raise ConfigError(f"dpo.samples={config.dpo.samples} must be at least 2: a pair needs two responses")
    if config.model.dtype not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"model.dtype={config.model.dtype!r} is not one of float32, bfloat16, float16")
    for name in config.data.evaluation:
        if "/" in name:
            raise ConfigError(f"data.evaluation: a set cannot be called {name!r}: results are files of that name")
    _check_batch(config)
    _check_loss(config)
    check_places(config)


def _check_loss(config: Config) -> None:
    c, decomposed = config.learner, config.reward.mode == RewardMode.decomposed
    if decomposed and c.advantage == Advantage.rloo:
        raise ConfigError(
            "learner.advantage=rloo contradicts reward.mode=decomposed, which whitens the sum of the components' "
            "advantages: that takes away again all that a leave-one-out baseline changes; use grpo or dr_grpo"
        )
    if decomposed and c.kl_in == KLIn.reward:
        raise ConfigError(
            "learner.kl_in=reward contradicts reward.mode=decomposed: its advantages come from each component by "
            "itself, so there is no total reward to take the KL off; use learner.kl_in=loss"
        )
    if c.ratio == Ratio.sequence and c.aggregation == Aggregation.token:
        raise ConfigError(
            "learner.ratio=sequence contradicts learner.aggregation=token: a mean over tokens would count a sequence's "
            "one ratio as often as it has tokens; use learner.aggregation=sequence (GSPO), or constant where length "
            "is to count (LUSPO)"
        )
    if c.kl_coef > 0 and c.kl_in == KLIn.loss and c.kl_estimator == KL.k1:
        raise ConfigError(
            "learner.kl_estimator=k1 contradicts learner.kl_in=loss: as a term of the loss its expected gradient is "
            "zero; use k2 or k3, or learner.kl_in=reward"
        )
    if c.importance_cap < 1 or (c.importance == Importance.mask and c.importance_cap == 1):
        raise ConfigError(
            f"learner.importance_cap={c.importance_cap:g} must be at least 1, and greater with "
            "learner.importance=mask: 1 is the weight where the two engines agree"
        )


def _check_batch(config: Config) -> None:
    trainer, learner, guidance = config.trainer, config.learner, config.guidance
    if trainer.rollouts_per_prompt < 2:
        raise ConfigError(
            f"trainer.rollouts_per_prompt={trainer.rollouts_per_prompt} must be at least 2: an advantage is relative "
            "to the other rollouts of the same prompt"
        )
    if trainer.prompts_per_step % learner.optimizer_steps_per_batch:
        raise ConfigError(
            f"trainer.prompts_per_step={trainer.prompts_per_step} cannot be divided into "
            f"learner.optimizer_steps_per_batch={learner.optimizer_steps_per_batch} equal minibatches"
        )
    if trainer.prompts_per_step * trainer.rollouts_per_prompt // learner.optimizer_steps_per_batch < learner.ranks:
        raise ConfigError(
            f"a minibatch has fewer rollouts than learner.ranks={learner.ranks}: raise trainer.prompts_per_step or "
            "trainer.rollouts_per_prompt, or lower learner.optimizer_steps_per_batch"
        )
    _check_overlap(config)
    if not trainer.generation_budget >= 1:
        raise ConfigError(
            f"trainer.generation_budget={trainer.generation_budget:g} must be at least 1: it multiplies "
            "trainer.prompts_per_step"
        )
    if config.sft.batch_size < learner.ranks:
        raise ConfigError(f"sft.batch_size={config.sft.batch_size} is smaller than learner.ranks={learner.ranks}")
    if guidance.enabled and guidance.replace >= trainer.rollouts_per_prompt:
        raise ConfigError(
            f"guidance.replace={guidance.replace} must be smaller than "
            f"trainer.rollouts_per_prompt={trainer.rollouts_per_prompt}: a group needs rollouts of the policy itself"
        )
    _check_guidance(config)
    longest = config.task.max_prompt_tokens + config.task.max_response_tokens
    if learner.micro_batch_tokens < longest:
        raise ConfigError(
            f"learner.micro_batch_tokens={learner.micro_batch_tokens} is smaller than one sequence of "
            f"task.max_prompt_tokens + task.max_response_tokens = {longest}"
        )


def _check_overlap(config: Config) -> None:
    trainer, most = config.trainer, config.trainer.max_staleness
    if most < 0 or (most > 1 and trainer.overlap == Overlap.lockstep):
        raise ConfigError(
            f"trainer.max_staleness={most} must be 0 or 1 in lockstep, which is at most one batch ahead; use "
            "trainer.overlap=free for more"
        )
    if trainer.overlap != Overlap.free:
        return
    if most < 1:
        raise ConfigError("trainer.overlap=free needs trainer.max_staleness=1 or more: without it, nothing overlaps")
    if config.ray.mode == RayMode.inline:
        raise ConfigError(
            "trainer.overlap=free contradicts ray=inline, where one thing is done after another; use ray=local, or "
            "trainer.overlap=lockstep"
        )
    if config.rollout.dealing == Dealing.fixed:
        raise ConfigError(
            "trainer.overlap=free contradicts rollout.dealing=fixed: its requests come at any time, and no run "
            "repeats; use trainer.overlap=lockstep where runs must repeat"
        )


def _check_guidance(config: Config) -> None:
    guidance = config.guidance
    if not guidance.enabled or guidance.semantics != Semantics.conditional:
        return
    if guidance.source != GuidanceSource.hinted:
        raise ConfigError(
            f"guidance.semantics=conditional cannot train guidance.source={guidance.source.value}: nobody sampled the "
            "ground-truth trajectory, so it has no on-policy ratio",
            hint="use guidance.source=hinted, or guidance.semantics=expert",
        )
    if guidance.temperature != config.rollout.temperature:
        raise ConfigError(
            f"guidance.semantics=conditional trains hinted rollouts as on-policy ones, so guidance.temperature="
            f"{guidance.temperature:g} must equal rollout.temperature={config.rollout.temperature:g}"
        )


def _value(config: Config, key: str):
    value = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
