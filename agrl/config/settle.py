"""Settings that are left to the machine, decided once: what a run is started with is what its folder says."""

from __future__ import annotations

from agrl.config.schema import Config, RayMode
from agrl.machine import usable_cpus

MOST_RANKS = 8  # a small model has no work for more


def settle(config: Config) -> None:
    """Put a number in place of ``learner.ranks=0`` and ``rollout.actors=0``, in place.

    A process a CPU where this machine's CPUs do the work: a small model's operations are so short that threads which
    share one spend their time waiting for each other, and all of it when anything else wants a CPU. Elsewhere one.
    """
    alone = config.ray.mode == RayMode.local
    cpus = min(usable_cpus(), MOST_RANKS) if alone else 1
    if config.learner.ranks == 0:
        config.learner.ranks = 1 if config.learner.gpus_per_rank else cpus
    if config.rollout.actors == 0:
        config.rollout.actors = 1 if config.rollout.gpus_per_actor else cpus
