"""Refuses places and transports that cannot work together."""

from __future__ import annotations

from agrl.config.schema import Config, Placement, RayMode, Transport
from agrl.errors import ConfigError


def check_places(config: Config) -> None:
    """Raise ConfigError naming the first key, or pair of keys, that cannot work."""
    _check_placement(config)
    _check_transport(config)


def _check_placement(config: Config) -> None:
    if config.learner.zero_stage not in (0, 1, 2, 3):
        raise ConfigError(f"learner.zero_stage={config.learner.zero_stage} is not one of 0, 1, 2, 3")
    if config.ray.mode == RayMode.inline:
        for key, value in (("learner.ranks", config.learner.ranks), ("rollout.actors", config.rollout.actors)):
            if value != 1:
                raise ConfigError(
                    f"{key}={value} cannot run with ray=inline: one process holds one learner rank and "
                    f"one rollout engine; set {key}=1"
                )
    if 0 < config.rollout.gpus_per_actor < config.rollout.tensor_parallel:
        raise ConfigError(
            f"rollout.gpus_per_actor={config.rollout.gpus_per_actor:g} is less than rollout.tensor_parallel="
            f"{config.rollout.tensor_parallel}: an engine needs a GPU for each part of its model"
        )
    if not 1 <= config.rollout.min_actors <= max(config.rollout.actors, 1):
        raise ConfigError(
            f"rollout.min_actors={config.rollout.min_actors} must be at least 1 and at most "
            f"rollout.actors={config.rollout.actors}"
        )
    if config.ray.placement == Placement.colocated:
        _check_colocated(config)
    if config.ray.keep_alive_s:
        _check_keep_alive(config)
    if config.ray.address and config.ray.mode == RayMode.inline:
        raise ConfigError(f"ray.address={config.ray.address} contradicts ray=inline, which starts no Ray")
    if (config.ray.address or "").startswith("ray://"):
        raise ConfigError(
            f"ray.address={config.ray.address} is an address of Ray Client, which AGRL does not support: no run has "
            "been driven over it",
            hint="submit the run as a job (`ray job submit --address http://HEAD:8265 -- agrl train ray=cluster ...`), "
            "or start it on a host of the cluster with ray.address=auto or ray.address=HEAD:6379",
        )


def _check_keep_alive(config: Config) -> None:
    seconds = config.ray.keep_alive_s
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"ray.keep_alive_s={seconds:g} must be a number of seconds, or 0")
    if config.ray.mode != RayMode.cluster:
        raise ConfigError(
            f"ray.keep_alive_s={seconds:g} contradicts ray={config.ray.mode.value}: a Ray that the driver started "
            "ends with it; join a cluster (ray=cluster), or set ray.keep_alive_s=0"
        )
    if config.ray.placement == Placement.colocated:
        raise ConfigError(
            f"ray.keep_alive_s={seconds:g} contradicts ray.placement=colocated: who of an engine and a rank has their "
            "GPU when a driver dies, the next one does not know; set ray.keep_alive_s=0"
        )


def _check_transport(config: Config) -> None:
    learner, rollout, transport = config.learner, config.rollout, config.sync.transport
    if transport != Transport.object_store and config.ray.mode == RayMode.inline:
        raise ConfigError(
            f"sync.transport={transport.value} contradicts ray=inline: it connects processes, and there is one; use "
            "sync.transport=object_store"
        )
    if transport == Transport.collective and (learner.gpus_per_rank > 0) != (rollout.gpus_per_actor > 0):
        raise ConfigError(
            f"sync.transport=collective connects GPUs or CPUs, not both: learner.gpus_per_rank="
            f"{learner.gpus_per_rank:g}, rollout.gpus_per_actor={rollout.gpus_per_actor:g}; use "
            "sync.transport=object_store"
        )
    colocated = config.ray.placement == Placement.colocated
    if transport == Transport.collective and colocated and rollout.gpus_per_actor:
        raise ConfigError(
            "sync.transport=collective contradicts ray.placement=colocated: NCCL takes no two members on one GPU; use "
            "sync.transport=ipc or object_store"
        )
    if transport == Transport.ipc and not (colocated and rollout.gpus_per_actor):
        raise ConfigError(
            "sync.transport=ipc passes weights within a GPU that a learner rank and an engine share: set "
            "ray.placement=colocated, learner.gpus_per_rank=1 and rollout.gpus_per_actor=1, or use "
            "sync.transport=object_store"
        )


def _check_colocated(config: Config) -> None:
    learner, rollout = config.learner, config.rollout
    if config.trainer.max_staleness:
        raise ConfigError(
            f"trainer.max_staleness={config.trainer.max_staleness} contradicts ray.placement=colocated: learner and "
            "engines take turns on their GPUs, so nothing can be generated while the learner works; use "
            "ray.placement=separate"
        )
    pairs = (
        ("learner.ranks", learner.ranks, "rollout.actors", rollout.actors),
        ("learner.gpus_per_rank", learner.gpus_per_rank, "rollout.gpus_per_actor", rollout.gpus_per_actor),
    )
    for key, value, other, its in pairs:
        if value != its:
            raise ConfigError(
                f"ray.placement=colocated needs {key}={value:g} equal to {other}={its:g}: learner rank i and engine i "
                "share a GPU"
            )
    if rollout.tensor_parallel > 1:
        raise ConfigError(
            f"ray.placement=colocated cannot run with rollout.tensor_parallel={rollout.tensor_parallel}: an engine "
            "shares one GPU with one rank; use ray.placement=separate, or rollout.tensor_parallel=1"
        )
    if learner.gpus_per_rank not in (0, 1):
        raise ConfigError(
            f"ray.placement=colocated shares one GPU between a rank and an engine: learner.gpus_per_rank="
            f"{learner.gpus_per_rank:g} must be 1 (or 0 where there are no GPUs)"
        )
