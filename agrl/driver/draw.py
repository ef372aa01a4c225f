"""The prompts of a step: drawn by the replay actor, and tokenised only then; the first of them while others work."""

from __future__ import annotations

from dataclasses import dataclass

from agrl.driver.services import Services
from agrl.errors import AgrlError
from agrl.relevance.records import Example


@dataclass
class Ahead:
    """What was drawn for a step that is yet to come, or the error of that."""

    step: int
    examples: list[Example]
    error: AgrlError | None = None


def draw(s: Services, n: int, step: int) -> list[Example]:
    """``n`` different prompts for ``step``. Those longer than ``task.max_prompt_tokens`` are never drawn again, and
    others take their place.

    Raises ConfigError when the pool has not that many.
    """
    drawn: list[Example] = []
    if s.ahead is not None and s.ahead.step == step:
        drawn, error, s.ahead = s.ahead.examples, s.ahead.error, None
        if error is not None:
            raise error
    while len(drawn) < n:
        found = s.replay.call("sample", n - len(drawn), step).result()
        fitting = [s.encoder.fits(example, s.hinted) for example in found]
        drawn += [example for example, fits in zip(found, fitting, strict=True) if fits]
        if too_long := [example.id for example, fits in zip(found, fitting, strict=True) if not fits]:
            s.replay.call("leave_out", too_long, step).result()
    return drawn


def draw_ahead(s: Services, n: int, step: int) -> None:
    """Make the first ``draw`` of the step after this one, once all is said that this one has to say to the replay
    actor. An error of it waits for that step, too."""
    try:
        s.ahead = Ahead(step, draw(s, n, step))
    except AgrlError as error:
        s.ahead = Ahead(step, [], error)
