"""The machines of a cluster: as a person describes them, or as a running Ray knows them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from actors.gpu_probe import gpu_memory
from actors.placement import Room
from actors.runtime import Runtime
from agrl.config.schema import Config
from agrl.errors import ClusterError, ConfigError
from agrl.network import Host
from agrl.placement.places import SERVICES, placement_groups

PROBE_S = 60.0  # for a host to tell the memory of its GPUs
SIZE = re.compile(r"([\d.]+)\s*(Ki|Mi|Gi|Ti|K|M|G|T)?(B|bit)?(?:/s|ps)?", re.IGNORECASE)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
HOST_GPUS = 8  # of a host, where nothing else is said and a run wants so many


@dataclass(frozen=True)
class Machine:
    """A host with the CPUs that Ray counts there (infinite: they are not counted) and the bytes of each of its GPUs.

    ``object_store``: bytes of Ray's, 0 where nobody knows.
    """

    host: Host
    cpus: float
    gpus: tuple[int, ...]
    object_store: int = 0

    def room(self) -> Room:
        """Of a machine of which nobody holds anything."""
        return Room(self.host, self.cpus, len(self.gpus), self.cpus, len(self.gpus))


@dataclass(frozen=True)
class Machines:
    """A cluster. ``network``: bytes a second that a host sends, 0 where nobody said. ``described``: not a real one."""

    hosts: tuple[Machine, ...]
    network: float = 0.0
    described: bool = True


def described(
    config: Config, hosts: int = 0, gpus: int = 0, gpu_bytes: int = 0, cpus: float = math.inf, network: float = 0.0
) -> Machines:
    """``hosts`` alike, of ``gpus`` each of ``gpu_bytes``. 0 hosts: as many as the run needs; 0 GPUs: as many as it
    wants, at most eight a host."""
    wanted = wanted_gpus(config)
    gpus = gpus or min(HOST_GPUS, wanted)
    hosts = hosts or max(1, math.ceil(wanted / gpus) if gpus else 1)
    machines = (Machine(Host(f"host-{i}", "described"), cpus, (gpu_bytes,) * gpus) for i in range(hosts))
    return Machines(tuple(machines), network)


def wanted_gpus(config: Config, services: Collection[str] = SERVICES) -> int:
    """GPUs of a run: those of ranks and engines, or, where they share them, of one kind."""
    return math.ceil(sum(bundle.gpus for group in placement_groups(config, services) for bundle in group.bundles))


def live(address: str, network: float = 0.0) -> Machines:
    """The hosts of the Ray cluster at ``address``, each asked for the memory of its GPUs.

    Raises ClusterError when it cannot be joined, or a host with GPUs does not tell their memory.
    """
    runtime = Runtime("cluster", address)
    try:
        found = runtime.ask_everyone(gpu_memory, seconds=PROBE_S)
    finally:
        runtime.shutdown()
    return Machines(tuple(_machine(room, answer) for room, answer in found), network, described=False)


def _machine(room: Room, answer: Sequence[int] | Exception) -> Machine:
    if isinstance(answer, Exception):
        raise ClusterError(f"{room.host} could not be asked for its GPUs: {answer}", hint="`ray status` says more")
    number = int(room.gpus)
    gpus = tuple(answer[:number]) if len(answer) >= number else (0,) * number
    return Machine(room.host, room.cpus, gpus, room.object_store)


def bytes_of(text: str) -> int:
    """Bytes of "80GiB", "80GB" or "80G" (decimal), or of a number of them. Raises ConfigError."""
    number, unit, what = _read(text)
    if what == "bit":
        raise ConfigError(f"{text!r} is no size of a memory", hint="such as 80GiB or 141GB")
    return int(number * UNITS[unit])


def rate_of(text: str) -> float:
    """Bytes a second of "400Gbit" or "50GB". Raises ConfigError."""
    number, unit, what = _read(text)
    return number * UNITS[unit] / (8 if what == "bit" else 1)


def _read(text: str) -> tuple[float, str, str]:
    found = SIZE.fullmatch(text.strip())
    try:
        number = float(found[1]) if found else math.nan
    except ValueError:
        number = math.nan
    if not (found and number > 0 and math.isfinite(number)):
        raise ConfigError(f"{text!r} is neither a size nor a rate", hint="such as 80GiB, 141GB, 400Gbit")
    return number, (found[2] or "").lower(), (found[3] or "").lower()
