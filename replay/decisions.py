"""Keep, guide or drop: the one decision that every group of rollouts gets, and its reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agrl.config.schema import GuidanceConfig
from replay.outcomes import TOLERANCE, Outcome
from replay.statistics import PromptStats

REASONS = {"keep": ("signal",), "guide": ("low_accuracy",), "drop": ("no_valid_scores", "zero_variance")}
"""Kind of decision -> the reasons that it can have."""

UNGUIDED = ("disabled", "warmup", "mastered", "unlucky", "cap")
"""Why a group with low accuracy got no guidance and was kept or dropped instead."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one group.

    ``reason``: one of ``REASONS[kind]``. ``count``: rollouts that guidance may replace, 0 unless ``kind`` is "guide".
    ``unguided``: one of ``UNGUIDED`` when the group's accuracy was low and guidance passed it over, else "".
    """

    kind: Literal["keep", "guide", "drop"]
    reason: str
    count: int = 0
    unguided: str = ""


def decide_batch(
    groups: Sequence[Outcome],
    stats: Sequence[PromptStats],
    cfg: GuidanceConfig,
    step: int,
    rollouts_total: int,
    granted_before: int = 0,
) -> list[Decision]:
    """One decision a group, in order. ``stats``: the prompts' records, the outcomes of these groups in them.

    At most ``cfg.max_share`` of the ``rollouts_total`` rollouts that the step has so far are given to guidance
    (``granted_before`` of them in its earlier rounds), to the prompts with the lowest moving accuracy first, among
    equals to those that have been failing longest, then in the order of the batch.
    """
    wishes = [_wish(group, record, cfg, step) for group, record in zip(groups, stats, strict=True)]

    def urgency(i: int) -> tuple[float, int, int]:
        return stats[i].accuracy, -stats[i].failing(cfg.tau), i

    budget = math.floor(cfg.max_share * rollouts_total + TOLERANCE) - granted_before
    granted = [0] * len(groups)
    for i in sorted((i for i, (count, _) in enumerate(wishes) if count), key=urgency):
        granted[i] = min(wishes[i][0], budget)
        budget -= granted[i]
    return [
        _decide(group, given, why_not or ("cap" if wished and not given else ""))
        for group, (wished, why_not), given in zip(groups, wishes, granted, strict=True)
    ]


def _wish(group: Outcome, stats: PromptStats, cfg: GuidanceConfig, step: int) -> tuple[int, str]:
    """(rollouts that guidance would replace, why none although the group's accuracy is low)."""
    correct, valid = group.correct_of_valid
    if not valid or correct == valid or correct > cfg.tau * valid + TOLERANCE:
        return 0, ""
    if not cfg.enabled or cfg.replace < 1:
        return 0, "disabled"
    if step < cfg.warmup_steps:
        return 0, "warmup"
    if stats.accuracy >= cfg.mastered:
        return 0, "mastered"
    if stats.accuracy > max(cfg.tau, cfg.mastered / 2) + TOLERANCE:
        return 0, "unlucky"
    # Help fades as the moving accuracy rises: all of `replace` at 0, nothing from `mastered` on.
    strength = 1 - stats.accuracy / cfg.mastered
    wrong = int((~group.correct).sum())
    return min(max(1, math.ceil(cfg.replace * strength - TOLERANCE)), wrong), ""


def _decide(group: Outcome, count: int, unguided: str) -> Decision:
    if not group.valid.any():
        return Decision("drop", "no_valid_scores")
    if count:
        return Decision("guide", "low_accuracy", count)
    if group.has_signal:
        return Decision("keep", "signal", unguided=unguided)
    return Decision("drop", "zero_variance", unguided=unguided)


def count_decisions(decisions: Sequence[Decision]) -> dict[str, float]:
    """The counts as metrics, ``decisions/<kind>``, ``decisions/<kind>/<reason>``, ``decisions/unguided/<reason>``.

    Every reason is there, 0 when it did not occur, so that curves have no holes.
    """
    return dict(_counts(decisions))


def _counts(decisions: Sequence[Decision]) -> Iterator[tuple[str, float]]:
    for kind, reasons in REASONS.items():
        yield f"decisions/{kind}", float(sum(d.kind == kind for d in decisions))
        for reason in reasons:
            yield f"decisions/{kind}/{reason}", float(sum((d.kind, d.reason) == (kind, reason) for d in decisions))
    for reason in UNGUIDED:
        yield f"decisions/unguided/{reason}", float(sum(d.unguided == reason for d in decisions))
