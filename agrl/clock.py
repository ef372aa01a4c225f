"""Wall-clock seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up how long named phases take; phases do not nest. ``phases``: those told also when they took 0 s."""

    def __init__(self, *phases: str) -> None:
        self.seconds = dict.fromkeys(phases, 0.0)
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin

    def metrics(self, group: str = "time") -> dict[str, float]:
        """``time/<phase>`` for each phase, ``time/step`` since the clock was made, ``time/overhead`` in no phase."""
        step = time.perf_counter() - self._start
        found = self.seconds | {"overhead": step - sum(self.seconds.values()), "step": step}
        return {f"{group}/{phase}": seconds for phase, seconds in found.items()}
