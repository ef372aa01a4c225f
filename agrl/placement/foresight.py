"""What a run will take, before anything is loaded: places, memory, network. For ``agrl plan`` and every run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.gpu_probe import gpu_memory
from actors.runtime import Runtime
from agrl.config.keys import conf_folder
from agrl.config.schema import Config, Transport
from agrl.models.architecture import BYTES, Architecture, read_architecture
from agrl.models.traffic import Traffic, step_traffic
from agrl.placement.fits import TRANSIENT, Device, Memory, check_fits, gib, memory_of
from agrl.placement.layout import Layout, lay_out
from agrl.placement.machines import PROBE_S, Machines, described, wanted_gpus
from agrl.placement.places import SERVICES
from agrl.placement.snapshots import snapshot_bytes


@dataclass(frozen=True)
class Foresight:
    """A configuration on a cluster: what sits where, what it takes of each GPU, what the network carries a step."""

    config: Config
    architecture: Architecture
    layout: Layout
    memory: Memory
    traffic: Traffic | None

    @property
    def loading(self) -> int:
        """Bytes of main memory that the learner ranks of one host need while they load: each reads all weights."""
        ranks = [place.host for place in self.layout.of("learner")]
        most = max((ranks.count(host) for host in set(ranks)), default=0)
        return most * self.architecture.parameters * BYTES[self.config.model.dtype]

    @property
    def snapshots(self) -> dict[int, int]:
        """Bytes of the object store of each host, by its number, that snapshots of the learner take at most."""
        return snapshot_bytes(self.architecture, self.config, self.layout)


def architecture_of(config: Config) -> Architecture:
    """The shape of the model, of a shipped configuration (conf/models) where ``model.path`` is such a hub name.

    Raises ModelError.
    """
    path = config.model.path
    shipped = conf_folder() / "models" / path
    if not Path(path).exists() and (shipped / "config.json").is_file():
        path = str(shipped)
    return read_architecture(path, config.model.lora_rank)


def foresee(config: Config, machines: Machines, services: Collection[str] = SERVICES, check: bool = True) -> Foresight:
    """Raises ClusterError when the hosts have no room; with ``check`` ConfigError when a GPU's memory is too small."""
    architecture = architecture_of(config)
    layout = lay_out(config, machines, services)
    memory = (check_fits if check else memory_of)(architecture, config, layout)
    return Foresight(config, architecture, layout, memory, _traffic(architecture, config, layout))


def _traffic(architecture: Architecture, config: Config, layout: Layout) -> Traffic | None:
    ranks, engines = layout.of("learner"), layout.of("rollout")
    if not (ranks and engines):
        return None
    others = layout.hosts_of("rollout") - {ranks[0].host}
    away = 0 if config.sync.transport == Transport.ipc else len(others)
    return step_traffic(architecture, config, len(ranks), len(engines), len(layout.hosts_of("learner")), away)


def first_lines(config: Config, services: Collection[str] = SERVICES) -> list[str]:
    """The plan of a run in short, for its first lines: before its machines are known, so nothing is refused here."""
    found = foresee(config, described(config), services, check=False)
    rank, engine = found.memory.rank, found.memory.engine
    lines = []
    if rank:
        steady = {name: size for name, size in rank.parts().items() if name not in TRANSIENT and size}
        shown = ", ".join(f"{name} {gib(size)}" for name, size in steady.items())
        lines.append(f"a learner rank {gib(rank.peak)} ({shown})")
    if engine:
        cache = "" if config.rollout.gpus_per_actor else f", KV cache {gib(engine.cache)}"
        of = " on each of its GPUs" if config.rollout.tensor_parallel > 1 else ""
        lines.append(f"an engine {gib(engine.fixed)}{cache}{of}")
    said = [f"Memory  {'; '.join(lines)}"] if lines else []
    if wanted_gpus(config) and found.traffic:
        said.append(f"Network {gib(found.traffic.link)} a step from the first rank's host; `agrl plan` shows the whole")
    return said


def check_gpus(config: Config, runtime: Runtime, services: Collection[str]) -> None:
    """Refuse a run whose parts do not fit on the GPUs that are reserved for it. Raises ConfigError, ModelError.

    Where a host does not tell the memory of its GPUs, nothing is refused.
    """
    answers = runtime.ask_hosts(gpu_memory, seconds=PROBE_S)
    told = [sizes for sizes in answers.values() if isinstance(sizes, list) and sizes]
    if not told:
        return
    least, most = min(min(sizes) for sizes in told), max(len(sizes) for sizes in told)
    foresee(config, described(config, wanted_gpus(config, services), most, least), services)


def as_json(found: Foresight) -> dict[str, Any]:
    """All numbers of the plan, bytes as numbers; null where nobody knows."""
    snapshots = found.snapshots
    hosts = [
        {
            "host": machine.host.name,
            "gpus": list(machine.gpus),
            "actors": {p.actor: list(p.gpus) for p in found.layout.places if p.host == i},
            "snapshot_bytes": snapshots.get(i, 0),
            "object_store_bytes": machine.object_store or None,
        }
        for i, machine in enumerate(found.layout.machines.hosts)
    ]
    engine = found.memory.engine
    return {
        "model": asdict(found.architecture),
        "hosts": hosts,
        "devices": [_device(device) for device in found.memory.devices],
        "engine": {"tokens": engine.tokens, "sequences": engine.sequences} if engine else None,
        "network": asdict(found.traffic) | {"link": found.traffic.link} if found.traffic else None,
        "loading_bytes_per_host": found.loading,
    }


def _device(device: Device) -> dict[str, Any]:
    turns = {
        turn: [{"owner": p.owner, "part": p.name, "bytes": p.bytes} for p in parts]
        for turn, parts in device.turns.items()
    }
    return {
        "count": device.count,
        "gpu": device.on_gpu,
        "bytes": device.bytes,
        "peak": device.peak,
        "actors_of_the_first": list(device.actors),
        "turns": turns,
    }
