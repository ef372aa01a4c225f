"""Chooses the trajectories that the report shows: few, and different enough to tell the story of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Sample = dict[str, Any]


def choose(samples: Sequence[Sample], count: int = 12) -> list[Sample]:
    """At most ``count`` samples in order of step: guided ones, unparsed ones, right and wrong ones, early and late.

    Takes from each kind in turn, spread evenly over the run, so that no kind crowds out another.
    """
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(kind(sample), []).append(sample)
    queues = [spread(kinds[name], count) for name in ("guided", "wrong", "right", "unparsed") if name in kinds]
    chosen: list[Sample] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return sorted(chosen, key=lambda sample: sample["step"])


def kind(sample: Sample) -> str:
    """``guided``, ``unparsed``, ``right`` or ``wrong``: the word that a trajectory is filed under."""
    if sample.get("provenance", "ON_POLICY") != "ON_POLICY":
        return "guided"
    if sample.get("failure"):
        return "unparsed"
    return "right" if sample.get("correct") else "wrong"


def spread(items: Sequence[Sample], count: int) -> list[Sample]:
    """At most ``count`` items, evenly over the sequence, ends first: the extremes tell most."""
    if len(items) <= count:
        return list(items)
    places = [round(i * (len(items) - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]
    outside_in = [place for pair in zip(places, reversed(places), strict=True) for place in pair]
    return [items[place] for place in dict.fromkeys(outside_in)]
