"""The transports by name."""

from __future__ import annotations

import torch

from agrl.transport.collective import CollectiveReceiver, CollectiveSender, Group, Meeting
from agrl.transport.ipc import IpcReceiver, IpcSender
from agrl.transport.object_store import ObjectStoreReceiver, ObjectStoreSender
from agrl.transport.parcel import BUCKET_BYTES, Receiver, Sender

FROM_EVERY_RANK = ("ipc",)  # of the learner; the others send from rank 0 alone
MEETING = ("collective",)  # whose ends are a group


def make_sender(
    name: str,
    device: torch.device,
    meeting: Meeting | None = None,
    lasting: bool = False,
    bucket_bytes: int = BUCKET_BYTES,
) -> Sender:
    """The learner's end of transport ``name``. ``meeting``: of a collective. ``lasting``: see ``ObjectStoreSender``."""
    if name == "collective":
        return CollectiveSender(Group(meeting, device), bucket_bytes)
    return IpcSender(device, bucket_bytes) if name == "ipc" else ObjectStoreSender(lasting)


def make_receiver(name: str, device: torch.device, meeting: Meeting | None = None) -> Receiver:
    """The end of an engine's worker."""
    if name == "collective":
        return CollectiveReceiver(Group(meeting, device))
    return IpcReceiver(device) if name == "ipc" else ObjectStoreReceiver()
