"""The prompts of a step: drawn by the replay actor, and tokenised only then."""

from __future__ import annotations

import math

from agrl.config.schema import Config
from agrl.driver.services.services import Services
from agrl.relevance.records import Example


def draw(s: Services, n: int, step: int, apart: bool = False) -> list[Example]:
    """``n`` different prompts for ``step``. Those longer than ``task.max_prompt_tokens`` are never drawn again, and
    others take their place. ``apart``: from all that are under way, too.

    Raises ConfigError when the pool has not that many.
    """
    drawn: list[Example] = []
    while len(drawn) < n:
        found = s.replay.call("sample", n - len(drawn), step, apart).result()
        fitting = [s.encoder.fits(example, s.hinted) for example in found]
        drawn += [example for example, fits in zip(found, fitting, strict=True) if fits]
        if too_long := [example.id for example, fits in zip(found, fitting, strict=True) if not fits]:
            s.replay.call("leave_out", too_long, step).result()
    return drawn


def most_prompts(config: Config) -> int:
    """Prompts that one step may try at most."""
    t = config.trainer
    return math.floor(t.generation_budget * t.prompts_per_step + 1e-9)  # 1.1 * 10 is 11
