"""``ipc``: an engine's worker opens the memory of the learner rank that has the same GPU (CUDA IPC).

No byte leaves the GPU: a bucket is copied once by the learner and once by the worker, which then owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from agrl.errors import ConfigError, WeightSyncError
from agrl.network import this_host
from agrl.transport.parcel import Entry, Parcel, Receiver, Sender
from agrl.transport.staging import Staging, flat_bytes, split

DEVICE = 6  # where torch's handle of a CUDA tensor says which device it is on


@dataclass(frozen=True)
class Handle:
    """Memory on the GPU ``gpu``. ``rebuild``: what ``torch.multiprocessing`` opens it by, on the sender's device."""

    gpu: str
    rebuild: tuple

    def on(self, device: int) -> tuple:
        """The same for a process that knows the GPU as ``device``."""
        return (*self.rebuild[:DEVICE], device, *self.rebuild[DEVICE + 1 :])


def gpu_name(device: torch.device) -> str:
    """The GPU by a name that every process gives it. Raises ConfigError for a device that is none."""
    if device.type != "cuda":
        raise ConfigError(
            f"sync.transport=ipc passes weights within a GPU, and {device.type} is none (host {this_host()})",
            hint="use sync.transport=object_store or collective",
        )
    return str(torch.cuda.get_device_properties(device).uuid)


class IpcSender(Sender):
    """Of every learner rank: each serves the engines on its own GPU."""

    def __init__(self, device: torch.device, capacity: int) -> None:
        self._gpu, self._staging = gpu_name(device), Staging(capacity, device)

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._staging.hold(tensor)

    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        from torch.multiprocessing.reductions import reduce_tensor

        flat = self._staging.take()
        torch.cuda.current_stream().synchronize()  # the worker reads on a stream of its own process
        _, rebuild = reduce_tensor(flat)
        return Parcel(number, entries, Handle(self._gpu, rebuild))

    def close(self) -> None:
        torch.cuda.ipc_collect()


class IpcReceiver(Receiver):
    def __init__(self, device: torch.device) -> None:
        self._gpu, self._device = gpu_name(device), device

    def receive(self, parcels: Sequence[Parcel]) -> list[torch.Tensor]:
        from torch.multiprocessing.reductions import rebuild_cuda_tensor

        parcel = of_gpu(parcels, self._gpu)
        index = self._device.index if self._device.index is not None else torch.cuda.current_device()
        theirs = rebuild_cuda_tensor(*parcel.content.on(index))
        ours = theirs[: flat_bytes(parcel.entries)].clone()  # the learner fills the buffer again
        torch.cuda.current_stream().synchronize()
        del theirs
        return split(ours, parcel.entries)


def of_gpu(parcels: Sequence[Parcel], gpu: str) -> Parcel:
    """The parcel of the learner rank on ``gpu``. Raises WeightSyncError when there is none."""
    found = next((parcel for parcel in parcels if parcel.content.gpu == gpu), None)
    if found is None:
        raise WeightSyncError(
            f"no learner rank shares GPU {gpu} of host {this_host()} with this engine; they are on "
            f"{', '.join(sorted({parcel.content.gpu for parcel in parcels}))}",
            hint="sync.transport=ipc needs a learner rank beside every engine; use collective or object_store",
        )
    return found
