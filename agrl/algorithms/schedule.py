"""Learning-rate schedules as pure functions of the step, so that a resumed run needs nothing but its step."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine")


def learning_rate(step: int, peak: float, total_steps: int, warmup_steps: int = 0, schedule: str = "constant") -> float:
    """The rate of optimizer step ``step`` (from 0): linear warm-up to ``peak``, then constant or cosine to 0.

    Raises ValueError on an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; one of {', '.join(SCHEDULES)}")
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return peak
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
