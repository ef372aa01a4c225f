"""Settings that are left to the machine, decided once: what a run is started with is what its folder says."""

from __future__ import annotations

from agrl.config.schema import Config, RayMode
from agrl.machine import memory_bytes, usable_cpus

MOST = 4  # processes of a kind: a small model has no work for more
BYTES_EACH = 4 * 2**30  # a rank and an engine of a small model, with their libraries, and what else a machine does


def settle(config: Config) -> None:
    """Put a number in place of ``learner.ranks=0`` and ``rollout.actors=0``, in place.

    A process a CPU where this machine's CPUs do the work: a small model's operations are so short that threads which
    share one spend their time waiting for each other, and all of it when anything else wants a CPU. Fewer where memory
    is short, and elsewhere one.
    """
    alone = config.ray.mode == RayMode.local
    processes = max(1, min(usable_cpus(), MOST, memory_bytes() // BYTES_EACH)) if alone else 1
    if config.learner.ranks == 0:
        config.learner.ranks = 1 if config.learner.gpus_per_rank else processes
    if config.rollout.actors == 0:
        config.rollout.actors = 1 if config.rollout.gpus_per_actor else processes
