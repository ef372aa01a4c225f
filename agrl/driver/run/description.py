"""What a run is about to do, in a few lines: the batch arithmetic, the method, where things run."""

from __future__ import annotations

from agrl.config.schema import Config, Overlap, RayMode
from agrl.driver.generation.draw import most_prompts
from agrl.errors import ConfigError


def check_pool(config: Config, pool_size: int) -> None:
    """Raise ConfigError when a step may need more different prompts than there are."""
    t, most = config.trainer, most_prompts(config)
    if t.overlap == Overlap.free and pool_size < (needed := most + (t.max_staleness + 1) * t.prompts_per_step):
        raise ConfigError(
            f"data.train has {pool_size} prompts, fewer than the {needed} that may be under way at once with "
            f"trainer.max_staleness={t.max_staleness}",
            hint="lower trainer.prompts_per_step, trainer.generation_budget or trainer.max_staleness, or give a larger "
            "pool",
        )
    if pool_size < most:
        raise ConfigError(
            f"data.train has {pool_size} prompts, fewer than the {most} that a step may try",
            hint="lower trainer.prompts_per_step or trainer.generation_budget, or give a larger pool",
        )


def describe(config: Config, pool_size: int, command: str = "train") -> list[str]:
    """Lines for the person who starts a run: of "train", "dpo" or "ground"."""
    return _training(config, pool_size) if command == "train" else _offline(config, pool_size, command)


def _training(config: Config, pool_size: int) -> list[str]:
    t, learner, g = config.trainer, config.learner, config.guidance
    rollouts = t.prompts_per_step * t.rollouts_per_prompt
    seen = t.steps * t.prompts_per_step
    most = most_prompts(config)
    lines = [
        f"Run     {config.run}: {t.steps} steps, {config.reward.mode.value} reward, rule book {config.task.rulebook}, "
        f"{config.task.order.value.replace('_', ' ')}",
        f"Batch   {t.prompts_per_step} prompts x {t.rollouts_per_prompt} rollouts = {rollouts} rollouts a step, "
        f"{learner.optimizer_steps_per_batch} optimizer step{'s' * (learner.optimizer_steps_per_batch > 1)} of "
        f"{rollouts // learner.optimizer_steps_per_batch}, micro-batches up to {learner.micro_batch_tokens:,} tokens"
        + (f"; up to {most} prompts tried while groups are dropped" if most > t.prompts_per_step else ""),
        f"Loss    {learner.advantage.value} advantages, {learner.ratio.value} ratios within "
        f"[1 - {learner.clip_low:g}, 1 + {learner.clip_high:g}], {learner.aggregation.value} aggregation"
        + (f", {learner.kl_coef:g} KL in the {learner.kl_in.value}" if learner.kl_coef else ""),
        f"Pool    {pool_size:,} prompts, {config.replay.sampling.value} sampling; {seen:,} draws in all",
    ]
    if t.max_staleness:
        how = (
            f"engines and learner each go on as they are ready, at most {t.max_staleness} versions apart"
            if t.overlap == Overlap.free
            else "each batch is generated beside the step before, from weights one version older"
        )
        lines.append(f"Overlap {how}")
    if g.enabled:
        lines.append(
            f"Guide   {g.source.value} answers trained as {g.semantics.value}, for groups with at most {g.tau:.1%} "
            f"right, from step {g.warmup_steps}, up to {g.replace} a group and {g.max_share:.0%} of a step"
        )
    return [*lines, _actors(config)]


def _offline(config: Config, pool_size: int, command: str) -> list[str]:
    """Of what samples first and trains then."""
    d, g = config.dpo, config.ground
    batches = {
        "dpo": f"{d.samples} answers to {min(d.prompts, pool_size):,} of {pool_size:,} pairs, then {d.steps} steps of "
        f"{d.batch_size} preferences",
        "ground": f"{g.samples} answers to each of {pool_size:,} pairs{', with hints where they fail' * g.hints}, "
        f"then {config.sft.steps} steps of {config.sft.batch_size} references; {g.rounds} round{'s' * (g.rounds > 1)}",
    }
    rules = f"rule book {config.task.rulebook}, {config.task.order.value.replace('_', ' ')}"
    return [f"Run     {config.run}: {command}, {rules}", f"Batch   {batches[command]}", _actors(config)]


def _actors(config: Config) -> str:
    where = "in this process (no Ray)" if config.ray.mode == RayMode.inline else f"on Ray ({config.ray.mode.value})"
    learner = f"{config.learner.ranks} learner (ZeRO {config.learner.zero_stage})"
    return f"Actors  {config.rollout.actors} rollout, {config.reward.actors} reward, 1 replay, {learner}, {where}"
