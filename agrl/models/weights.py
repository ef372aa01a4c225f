"""Model weights as they travel from the learner to the rollout actors: named numpy bytes, no torch objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agrl.errors import WeightSyncError

if TYPE_CHECKING:
    import torch

BUCKET_BYTES = 256 * 2**20


@dataclass(frozen=True)
class PackedTensor:
    """One parameter. ``name``: as in the Hugging Face checkpoint. ``dtype``: torch's name. ``data``: uint8 [bytes].

    Bytes, because numpy has no bfloat16; a numpy array crosses a Ray boundary without a copy.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray


def pack(name: str, tensor: torch.Tensor) -> PackedTensor:
    """A copy of ``tensor``, on the CPU: later changes of the parameter do not show in it."""
    import torch

    # a tensor on the CPU is cloned: sharing the learner's memory would let the next optimizer step change what is sent
    flat = tensor.detach().to("cpu", copy=True).contiguous().reshape(-1)
    return PackedTensor(
        name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.view(torch.uint8).numpy()
    )


def unpack(packed: PackedTensor) -> tuple[str, torch.Tensor]:
    """The name and the tensor, on the CPU.

    Raises WeightSyncError when the bytes are not those of the stated shape.
    """
    import torch

    dtype = getattr(torch, packed.dtype)
    needed = int(np.prod(packed.shape, dtype=np.int64)) * dtype.itemsize
    if packed.data.nbytes != needed:
        layout = f"{packed.dtype}{list(packed.shape)}"
        raise WeightSyncError(f"weight {packed.name}: {packed.data.nbytes} bytes arrived, {layout} needs {needed}")
    data = packed.data if packed.data.flags.writeable else packed.data.copy()  # torch warns of read-only memory
    return packed.name, torch.from_numpy(data).view(dtype).reshape(packed.shape)


def buckets(
    parameters: Iterable[tuple[str, torch.Tensor]], bucket_bytes: int = BUCKET_BYTES
) -> Iterator[list[PackedTensor]]:
    """Pack named tensors into lists of at most ``bucket_bytes`` bytes (one larger tensor makes a list of its own).

    Tensors are read one by one, so a source that gathers sharded parameters never holds more than a bucket.
    """
    bucket: list[PackedTensor] = []
    size = 0
    for name, tensor in parameters:
        packed = pack(name, tensor)
        if bucket and size + packed.data.nbytes > bucket_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append(packed)
        size += packed.data.nbytes
    if bucket:
        yield bucket
