"""Everything a training step talks to, started together and closed together: the one place that wires the services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from actors.generation import EngineSettings
from actors.reward_pool import RewardPool
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from actors.service import Service
from agrl.config.schema import Config, Overlap, Placement
from agrl.data.pool import Pool
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.services.first_broadcast import try_broadcast
from agrl.driver.services.keep_alive import KeepAlive
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.learners import LearnerGroup
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.driver.services.replay_journal import JournaledReplay
from agrl.driver.services.runtime import start_runtime
from agrl.relevance.reward import Scorer
from agrl.relevance.rulebook import RuleBook
from agrl.report.events import STATES, EventLog
from replay.core import ReplayCore

PROMPTS = 4  # of the pool, to try the first broadcast with


@dataclass
class Services:
    """The running parts of the system, and the plain objects that the driver itself works with."""

    config: Config
    run: RunFolder  # whose logs folder the actors write to
    pool: Pool  # that the replay actor draws from
    hinted: bool  # whether prompts must be short enough with their hints as well
    book: RuleBook
    scorer: Scorer  # for names and weights; scores are computed by the reward actors
    encoder: PromptEncoder
    runtime: Runtime
    rollouts: RolloutPool
    rewards: RewardPool
    replay: JournaledReplay
    learner: LearnerGroup

    def ready(self) -> str:
        """Wait until everything is loaded and has been tried; returns what ``LearnerGroup.setup`` has to say."""
        if self.colocated:  # vLLM measures what its GPU has free: engines load first, then leave it to the learner
            self.rollouts.ready()
            self.rollouts.sleep()
        notice = self.learner.setup()
        self.rollouts.ready()
        self.rewards.ready()
        self.replay.ready().result()
        try_broadcast(self.config, self.learner, self.rollouts, self._some_prompts())
        return notice

    def _some_prompts(self) -> list[np.ndarray]:
        first = self.encoder.first_fitting(self.pool, self.hinted)
        return [self.encoder.prompt(example) for example in first[:PROMPTS]]

    @property
    def colocated(self) -> bool:
        """Whether learner and engines take turns on the same GPUs."""
        return self.config.ray.placement == Placement.colocated

    @contextmanager
    def learners_turn(self) -> Iterator[None]:
        """Round the learner's work: where it shares its GPUs with the engines, they sleep meanwhile, and it then gives
        back what it needed for this alone. They wake for the next broadcast or request."""
        if self.colocated:
            self.rollouts.sleep()
        yield
        if self.colocated:
            self.learner.rest()

    def restart(self, config: Config, pool: Pool | None = None) -> None:
        """Begin another run on the same actors: its start model, seed and method; nothing of the last run stays.

        Rule book, lengths and placement must be those that the actors were started with. ``pool``: another than before.
        """
        self.pool = pool or self.pool
        if (config.reward, config.task) != (self.config.reward, self.config.task):
            self.rewards.close()
            self.rewards = start_rewards(config, self.runtime, self.run, self.book)
            self.scorer = Scorer(self.book, config.task.order, config.reward.mode)
        template_args = config.model.chat_template_args
        self.encoder = PromptEncoder(self.book, self.encoder.tokenizer, config.task, template_args)
        self.config = config
        self.learner.restart(config)
        self.replay.call("restart", self.pool, *replay_settings(config)).result()
        broadcast_weights(self.learner, self.rollouts)

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each actor, by name. Another thread may ask."""
        known = self.rollouts.gauges() | self.rewards.gauges() | self.learner.gauges() | self.replay.gauges()
        return {name: about | self._state(name) for name, about in known.items()}

    def _state(self, name: str) -> dict[str, float]:
        state = self.runtime.states.get(name)
        return {"state": float(STATES.index(state))} if state else {}

    def kill(self) -> None:
        """Stop every actor: a call under way in another thread ends with an error."""
        self.rollouts.close()
        self.rewards.close()
        self.learner.close()
        self.replay.kill()

    def close(self) -> None:
        """Stop every actor, and Ray where this process started it."""
        self.kill()
        self.runtime.shutdown()


def start_rollouts(
    config: Config, runtime: Runtime, run: RunFolder, lora_rank: int = 0, streams: bool = False
) -> RolloutPool:
    """The rollout actors, loading their engines in the background. ``lora_rank``: of the updates they are to serve;
    ``streams``: see ``RolloutPool``."""
    c = config.rollout
    settings = EngineSettings(
        dtype=config.model.dtype,
        kv_cache_gib=c.kv_cache_gib,
        max_model_len=config.task.max_prompt_tokens + config.task.max_response_tokens,
        max_concurrent=c.max_concurrent,
        seed=config.trainer.seed,
        gpu_memory_utilization=c.gpu_memory_utilization,
        tensor_parallel=c.tensor_parallel,
        threads=c.threads,
        lora_rank=lora_rank,
        sleeps=config.ray.placement == Placement.colocated,
        unfinished=c.unfinished.value if streams else "",
    )
    return RolloutPool(
        runtime,
        config.model.path,
        settings,
        actors=c.actors,
        restarts=c.restarts,
        timeout_s=c.timeout_s,
        log_dir=run.logs,
        transport=config.sync.transport.value,
        dealing=config.rollout.dealing.value,
        streams=streams,
        min_actors=c.min_actors,
    )


def start_services(config: Config, run: RunFolder, pool: Pool, hinted: bool, kept: KeepAlive | None = None) -> Services:
    """Start all services of an RL run; engines, scorers and learner ranks load side by side.

    ``hinted``: prompts are to be drawn that are short enough with their hints as well. ``kept``: for services that
    outlive this process.
    """
    encoder = PromptEncoder.load(config)
    if kept:
        runtime = start_runtime(config, run.path, kept=kept.lease, resume=kept.resume)
    else:
        runtime = start_runtime(config, run.path)
    try:
        return _start_all(config, run, pool, hinted, encoder, runtime)
    except BaseException:
        runtime.shutdown()
        raise


def _start_all(
    config: Config, run: RunFolder, pool: Pool, hinted: bool, encoder: PromptEncoder, runtime: Runtime
) -> Services:
    book = encoder.book
    runtime.on_change = EventLog(run.path)
    learner = LearnerGroup(runtime, config, run.logs)
    streams = config.trainer.overlap == Overlap.free
    rollouts = start_rollouts(config, runtime, run, config.model.lora_rank, streams)
    rewards = start_rewards(config, runtime, run, book)
    replay = start_replay(config, runtime, run, pool)
    scorer = Scorer(book, config.task.order, config.reward.mode)
    return Services(config, run, pool, hinted, book, scorer, encoder, runtime, rollouts, rewards, replay, learner)


def start_replay(config: Config, runtime: Runtime, run: RunFolder, pool: Pool) -> JournaledReplay:
    """The replay actor, and what brings it back."""

    what = pool, *replay_settings(config)

    def start() -> Service:
        return runtime.start(ReplayCore, "replay", *what, log_file=run.logs / "replay.log")

    restarts = 0 if runtime.mode == "inline" else config.replay.restarts
    limits = restarts, config.learner.timeout_s
    return JournaledReplay(start, lambda: ReplayCore(*what), run.replay_state, *limits, runtime.note)


def start_rewards(config: Config, runtime: Runtime, run: RunFolder, book: RuleBook) -> RewardPool:
    """The reward actors of a rule book, order and mode."""
    return RewardPool(
        runtime,
        book.source,
        config.task.order,
        config.reward.mode,
        actors=config.reward.actors,
        restarts=config.reward.restarts,
        timeout_s=config.reward.timeout_s,
        log_dir=run.logs,
    )


def replay_settings(config: Config) -> tuple:
    """What the replay actor is told beside its prompts."""
    return config.replay, config.guidance, config.trainer.rollouts_per_prompt, config.trainer.seed
