"""Whether the memory of every GPU of a layout suffices, part by part and turn by turn (docs/placement.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agrl.config.schema import Config, Placement
from agrl.errors import ConfigError
from agrl.models.architecture import Architecture
from agrl.models.engine_memory import EngineMemory, engine_memory
from agrl.models.memory import LearnerMemory, learner_memory
from agrl.placement.layout import Layout, Place

GIB = 2**30
CONTEXT = GIB  # of each process on a GPU: CUDA's own, the buffers of NCCL and cuBLAS. Assumed, not measured
ASLEEP = GIB  # beside that, of a vLLM engine that sleeps: its graphs and buffers. Assumed, not measured
TRANSIENT = ("activations", "update", "broadcast")  # of a rank: one at a time


@dataclass(frozen=True)
class Part:
    """Something on a GPU: of the "learner" or the "engine", its name, its bytes."""

    owner: str
    name: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.owner}: {self.name} {gib(self.bytes)}"


@dataclass(frozen=True)
class Device:
    """A GPU, or the share of a host's main memory where an actor has none: who is there, and its parts by turn.

    ``bytes``: that it has, 0 where nobody knows. ``count``: how many there are of its like.
    """

    actors: tuple[str, ...]
    turns: dict[str, tuple[Part, ...]]
    bytes: int
    on_gpu: bool
    count: int = 1

    def total(self, turn: str) -> int:
        """Bytes in a turn."""
        return sum(part.bytes for part in self.turns[turn])

    @property
    def fullest(self) -> str:
        """The turn that takes most."""
        return max(self.turns, key=self.total)

    @property
    def peak(self) -> int:
        """Bytes at the worst time."""
        return self.total(self.fullest)


@dataclass(frozen=True)
class Memory:
    """What a layout takes. ``devices``: one of each kind. ``rank``, ``engine``: of one rank, of one shard."""

    devices: tuple[Device, ...]
    rank: LearnerMemory | None
    engine: EngineMemory | None


def memory_of(architecture: Architecture, config: Config, layout: Layout) -> Memory:
    """The memory of every kind of device in the layout."""
    kinds: dict[tuple, list[Device]] = {}
    rank = learner_memory(architecture, config, config.learner.ranks) if layout.of("learner") else None
    engine = None
    for host, gpu, places in _shared(layout):
        size = layout.machines.hosts[host].gpus[gpu] if gpu >= 0 else 0
        found = engine_memory(architecture, config, size) if any(p.service == "rollout" for p in places) else None
        engine = min((e for e in (engine, found) if e), key=lambda e: e.tokens, default=None)
        device = _device(config, places, rank, found, size, gpu >= 0)
        kinds.setdefault((tuple(p.service for p in places), size), []).append(device)
    devices = (Device(d[0].actors, d[0].turns, d[0].bytes, d[0].on_gpu, len(d)) for d in kinds.values())
    return Memory(tuple(devices), rank, engine)


def check_fits(architecture: Architecture, config: Config, layout: Layout) -> Memory:
    """The memory of the layout. Raises ConfigError naming the part that is too large and the keys that change it."""
    memory = memory_of(architecture, config, layout)
    for device in memory.devices:
        if not device.bytes or not device.on_gpu:
            continue
        if device.peak > device.bytes:
            raise _too_large(config, device)
        engine = memory.engine
        if engine and any(a.startswith("rollout") for a in device.actors) and engine.sequences < 1:
            raise _no_cache(config, engine, device)
    return memory


def gib(number: float) -> str:
    """For people: "0.3 GiB", "12.0 GiB", "3 MiB" below a tenth of one."""
    return f"{number / GIB:,.1f} GiB" if number >= 0.1 * GIB else f"{number / 2**20:,.0f} MiB"


def _shared(layout: Layout) -> Iterable[tuple[int, int, list[Place]]]:
    """Host, GPU (-1: none, each actor by itself) and the ranks and engines there."""
    by_gpu: dict[tuple[int, int, str], list[Place]] = {}
    for place in layout.of("learner") + layout.of("rollout"):
        for gpu in place.gpus:
            by_gpu.setdefault((place.host, gpu, ""), []).append(place)
        if not place.gpus:
            by_gpu.setdefault((place.host, -1, place.actor), []).append(place)
    return [(host, gpu, places) for (host, gpu, _), places in by_gpu.items()]


def _device(
    config: Config,
    places: list[Place],
    rank: LearnerMemory | None,
    engine: EngineMemory | None,
    size: int,
    on_gpu: bool,
) -> Device:
    learners = [rank for place in places if place.service == "learner" and rank]
    engines = [engine for place in places if place.service == "rollout" and engine]
    turns: dict[str, tuple[Part, ...]] = {}
    sleeps = config.ray.placement == Placement.colocated and on_gpu
    if learners:
        asleep = _asleep(engines, on_gpu) if sleeps else _parts("engine", engines)
        turns["learner's turn"] = (*_working(learners), *asleep, *(_context(learners) if on_gpu else ()))
    if engines and learners and sleeps:
        woken = tuple(p for p in _parts("engine", engines) if p.name != "cache")
        sent = tuple(Part("learner", "broadcast", r.broadcast) for r in learners)
        turns["broadcast"] = (*_steady(learners), *sent, *woken, *_context(learners))
    if engines:
        turns["engines' turn"] = (
            *_steady(learners),
            *_parts("engine", engines),
            *(_context(learners) if on_gpu else ()),
        )
    return Device(tuple(p.actor for p in places), turns, size, on_gpu)


def _working(ranks: list[LearnerMemory]) -> tuple[Part, ...]:
    """What a rank holds in its turn: what is there all the time, and the largest of what comes one at a time."""
    found: list[Part] = []
    for rank in ranks:
        largest = max(TRANSIENT, key=lambda name: getattr(rank, name))
        parts = rank.parts().items()
        found += [Part("learner", name, size) for name, size in parts if name not in TRANSIENT or name == largest]
    return tuple(part for part in found if part.bytes)


def _steady(ranks: list[LearnerMemory]) -> tuple[Part, ...]:
    parts = (item for rank in ranks for item in rank.parts().items())
    return tuple(Part("learner", name, size) for name, size in parts if name not in TRANSIENT and size)


def _parts(owner: str, engines: list[EngineMemory]) -> tuple[Part, ...]:
    return tuple(Part(owner, name, size) for engine in engines for name, size in engine.parts().items() if size)


def _asleep(engines: list[EngineMemory], on_gpu: bool) -> tuple[Part, ...]:
    return tuple(Part("engine", "asleep", CONTEXT + ASLEEP) for _ in engines if on_gpu)


def _context(ranks: list[LearnerMemory]) -> tuple[Part, ...]:
    """An engine's is within its limit."""
    return tuple(Part("learner", "CUDA", CONTEXT) for _ in ranks)


def _too_large(config: Config, device: Device) -> ConfigError:
    parts = sorted(device.turns[device.fullest], key=lambda part: -part.bytes)
    lines = "\n".join(f"  {part}" for part in parts)
    who = " and ".join(device.actors)
    return ConfigError(
        f"{who}: a GPU of {gib(device.bytes)} cannot hold {gib(device.peak)} ({device.fullest})\n{lines}\n"
        f"the largest part is the {parts[0].owner}'s {parts[0].name}",
        hint=f"{_advice(config, parts[0])}; or a GPU with more memory",
    )


def _no_cache(config: Config, engine: EngineMemory, device: Device) -> ConfigError:
    longest = config.task.max_prompt_tokens + config.task.max_response_tokens
    within = f"rollout.gpu_memory_utilization={config.rollout.gpu_memory_utilization:g}"
    return ConfigError(
        f"{' and '.join(device.actors)}: within {within} of {gib(device.bytes)} an engine has {gib(engine.limit)}; its "
        f"weights take {gib(engine.weights)}, its workspace {gib(engine.workspace)}, and the KV cache that is left "
        f"holds {engine.tokens:,} tokens, less than one sequence of {longest:,}",
        hint="raise rollout.gpu_memory_utilization, or rollout.tensor_parallel with rollout.gpus_per_actor",
    )


def _advice(config: Config, part: Part) -> str:
    """What changes the size of a part."""
    c = config.learner
    if part.owner == "engine":
        several = config.ray.placement == Placement.separate
        shared = "raise rollout.tensor_parallel and rollout.gpus_per_actor"
        apart = shared if several else f"ray.placement=separate and {shared}"
        if part.name == "cache":
            return "lower rollout.gpu_memory_utilization"
        return apart if part.name != "asleep" else "ray.placement=separate"
    sharded = {"optimizer": 1, "update": 1, "gradients": 2, "weights": 3}
    if part.name in sharded:
        stage = sharded[part.name]
        more = "" if c.zero_stage >= stage else f"learner.zero_stage={stage} with "
        lora = "" if config.model.lora_rank else ", or model.lora_rank=32, which trains few weights"
        shard = f"{more}more learner.ranks" if more or c.ranks >= 1 else ""
        return f"{shard}{lora if part.name != 'weights' else ''}"
    if part.name == "activations":
        checkpointing = "" if config.model.gradient_checkpointing else "model.gradient_checkpointing=true, or "
        return f"{checkpointing}a smaller learner.micro_batch_tokens={c.micro_batch_tokens}"
    if part.name == "reference":
        return "learner.kl_coef=0, or model.lora_rank=32, whose start model is the frozen one underneath"
    return "a smaller model (model.path)"
