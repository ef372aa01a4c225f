"""Calls and results packed by Python's own pickle: Ray's asks a function in Python about every object that it packs."""

from __future__ import annotations

import pickle
from typing import Any

from ray import cloudpickle

ALONE = 2**16  # bytes of an array that is not copied: it lies in Ray's object store as it is, and is read from there
AS_IT_IS = (type(None), bool, int, float, str, bytes)  # Ray packs these without its pickle


def dumps(value: Any, alone: list[pickle.PickleBuffer] | None = None) -> bytes:
    """``pickle.dumps``, by cloudpickle where that cannot. Arrays of ``ALONE`` bytes and more go to the list ``alone``,
    where there is one."""

    def inside(buffer: pickle.PickleBuffer) -> bool:
        if alone is None or buffer.raw().nbytes < ALONE:
            return True
        alone.append(buffer)
        return False

    try:
        packed = pickle.dumps(value, 5, buffer_callback=inside)
        if b"__main__" not in packed:  # what a script defines has no module by which another process would find it
            return packed
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    if alone is not None:
        alone.clear()
    return cloudpickle.dumps(value, 5, buffer_callback=inside)


class Packed:
    """Becomes its value where Ray unpacks it."""

    def __init__(self, value: Any) -> None:
        self._arrays: list[pickle.PickleBuffer] = []
        self._packed = dumps(value, self._arrays)

    def __reduce__(self) -> tuple:
        return _unpack, (pickle.PickleBuffer(self._packed), self._arrays)


def pack(value: Any) -> Any:
    """What is given to Ray in the place of a value."""
    return value if type(value) in AS_IT_IS else Packed(value)


def _unpack(packed: Any, arrays: list[Any]) -> Any:
    return pickle.loads(packed, buffers=arrays)
