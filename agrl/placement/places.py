"""Where the actors of a configuration are to sit: what each takes of its host, and which share one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from actors.placement import Bundle, Group, Seat
from agrl.config.schema import Config, Placement
from agrl.network import Host

SERVICES = ("learner", "rollout", "reward", "replay")


def placement_groups(config: Config, services: Collection[str] = SERVICES) -> list[Group]:
    """The groups of the services, in the order in which they get their places.

    Learner ranks sit on as few hosts as possible, since every backward pass goes over the network between them; engines
    on as many as possible; all GPUs of one engine on one host. ``ray.placement=colocated`` puts learner rank i and
    engine i on the same GPUs, or on the same host where they have none. The replay actor sits beside rank 0: the
    loss of any other host costs it nothing.
    """
    shared = config.ray.placement == Placement.colocated and {"learner", "rollout"} <= set(services)
    share = 0.5 if shared else 1.0  # of its GPUs, that Ray counts for an actor
    ranks = [_rank(config, i, share) for i in range(config.learner.ranks)] if "learner" in services else []
    engines = [_engine(config, i, share) for i in range(config.rollout.actors)] if "rollout" in services else []
    groups, beside = [], ", one with the replay actor" if "replay" in services else ""
    if shared:
        pairs = tuple(Bundle((rank, engine)) for rank, engine in zip(ranks, engines, strict=True))
        keys = "learner.ranks, learner.gpus_per_rank, learner.threads, rollout.threads"
        groups.append(Group(f"learner ranks, each with an engine{beside}", keys, _with_replay(pairs, services)))
    else:
        learner = "learner.ranks, learner.gpus_per_rank, learner.threads"
        rollout = "rollout.actors, rollout.gpus_per_actor, rollout.threads"
        groups.append(Group(f"learner ranks{beside}", learner, _with_replay(_alone(ranks), services)))
        groups.append(Group("rollout engines", rollout, _alone(engines), spread=True))
    if "reward" in services:
        rewards = [Seat(f"reward-{i}", cpus=1) for i in range(config.reward.actors)]
        groups.append(Group("reward actors", "reward.actors", _alone(rewards), spread=True))
    return [group for group in groups if group.bundles]


def host_lines(hosts: Mapping[str, Host]) -> list[str]:
    """For people: a line for each host with the actors (name -> host) that it has."""
    by_host: dict[Host, list[str]] = {}
    for actor, host in hosts.items():
        by_host.setdefault(host, []).append(actor)
    ordered = sorted(by_host.items(), key=lambda item: (len(item[0].address), item[0].address))
    return [f"{'Hosts' if not i else '':<8}{host}: {', '.join(actors)}" for i, (host, actors) in enumerate(ordered)]


def _rank(config: Config, index: int, share: float) -> Seat:
    c = config.learner
    return Seat(f"learner-{index}", cpus=c.threads or 1, gpus=share * c.gpus_per_rank)


def _engine(config: Config, index: int, share: float) -> Seat:
    c = config.rollout
    cpus = (c.threads or 1) * c.tensor_parallel  # vLLM starts a process for each part of the model
    return Seat(f"rollout-{index}", cpus=cpus, gpus=share * c.gpus_per_actor)


def _with_replay(ranks: tuple[Bundle, ...], services: Collection[str]) -> tuple[Bundle, ...]:
    if "replay" not in services:
        return ranks
    first, *others = ranks
    return Bundle((*first.seats, Seat("replay", cpus=1))), *others


def _alone(seats: list[Seat]) -> tuple[Bundle, ...]:
    return tuple(Bundle((seat,)) for seat in seats)
