"""A checksum of a tensor's elements that is made on its device and does not depend on their order.

So the sum over a fused weight (query, key and value in one) is the sum over its parts, and that of a transposed or
sharded one the sum over what it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

MODULUS = 2**32
CHUNK = {"cpu": 2**18, "cuda": 2**24}  # elements at a time of narrow types, which are widened: within a CPU's caches


def bits(tensors: Iterable[torch.Tensor]) -> list[int]:
    """Of each tensor the sum of its elements' bits as integers, modulo 2^32.

    Sums are fetched from the device together, so that it need not wait for the CPU once a tensor.
    """
    sums = [_sum(tensor.detach()) for tensor in tensors]
    return [int(value) % MODULUS for value in torch.stack(sums).tolist()] if sums else []


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """int32 []; additions wrap around."""
    flat = tensor.contiguous().reshape(-1)
    if flat.dtype.itemsize >= 4:
        return flat.view(torch.int32).sum(dtype=torch.int32)
    narrow = flat.view({1: torch.int8, 2: torch.int16}[flat.dtype.itemsize])
    parts = narrow.split(CHUNK.get(tensor.device.type, 2**18)) if len(narrow) else [narrow]
    return torch.stack([part.to(torch.int32).sum(dtype=torch.int32) for part in parts]).sum(dtype=torch.int32)
