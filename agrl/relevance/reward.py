"""Rule-aware rewards: a response judged against gold, component by component.

Every component is a value in [0, 1] or invalid with a reason. Invalid ones are left out of every sum and statistic;
they are never counted as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from agrl.relevance.parse import CUT_OFF, parse
from agrl.relevance.reading import reading_supports
from agrl.relevance.records import TIERS, Component, Example, Order, ParseFailure, RewardMode, Score
from agrl.relevance.rules import CONSISTENCY, FORMAT, READING, TIER, RuleBook

RIGHT, WRONG = Component(1.0), Component(0.0)
UNPARSED = Component(0.0, reason="unparsed")
_SPAN = max(TIERS) - min(TIERS)


class Scorer:
    """Scores responses by a rule book.

    ``names``: the components, in order; without the reading where none is stated, only format and tier when the tier
    alone is asked for. ``weights``: name ->
    weight in the total, all on the tier with ``sparse``. In the decomposed mode the total is the same weighted sum (for
    people to read); advantages are then computed from ``components_matrix``.
    """

    def __init__(self, book: RuleBook, order: Order, mode: RewardMode = RewardMode.rules) -> None:
        self.book, self.order, self.mode = book, order, mode
        self.reasoned = order != Order.tier_only  # whether responses state verdicts
        stated = tuple(name for name in book.components if order.reads or name != READING)
        self.names = stated if self.reasoned else (FORMAT, TIER)
        sparse = mode == RewardMode.sparse
        self.weights = {name: float(name == TIER) if sparse else book.reward.weights[name] for name in self.names}
        gates = book.reward.gates if self.reasoned and not sparse else ()
        self.gates = tuple(gate for gate in gates if {gate.component, gate.requires} <= set(self.names))

    def score(self, example: Example, text: str, finish_reason: str = "stop") -> Score:
        """Scores one response; never raises on any text.

        A response that was cut off (``finish_reason`` "length") is unparsed with the reason "cut_off": it earns 0 for
        every component that has gold.
        """
        judgement = ParseFailure(CUT_OFF) if finish_reason == "length" else parse(self.book, text, self.order)
        if isinstance(judgement, ParseFailure):
            return self._unparsed(example, judgement.reason)
        consistent = not self.reasoned or self.book.decide(judgement.verdicts) == judgement.tier
        supported = not self.order.reads or reading_supports(self.book, judgement) is not False
        earned = {
            FORMAT: RIGHT,
            READING: RIGHT if supported else WRONG,
            CONSISTENCY: RIGHT if consistent else WRONG,
            TIER: self._tier(example, judgement.tier),
        }
        for name, verdict in judgement.verdicts.items():
            earned[name] = self._verdict(example, name, verdict)
        components = {name: earned[name] for name in self.names}
        correct = judgement.tier == example.tier
        return Score(
            **self._total(self._gated(components)),
            correct=correct,
            consistent=consistent,
            sound=correct and consistent and supported and self._verdicts_right(components),
            judgement=judgement,
        )

    def invalid(self, reason: str) -> Score:
        """The score of a response that could not be scored (for example "timeout"): nothing is valid."""
        return invalid_score(self.names, reason)

    def _unparsed(self, example: Example, reason: str) -> Score:
        earned = {FORMAT: WRONG, READING: UNPARSED, CONSISTENCY: UNPARSED, TIER: self._tier(example, 0)}
        for name in self.book.criteria:
            earned[name] = self._verdict(example, name, "")
        components = {name: UNPARSED if earned[name].valid and name != FORMAT else earned[name] for name in self.names}
        return Score(
            **self._total(components), correct=False, consistent=False, sound=False, judgement=None, failure=reason
        )

    def _verdict(self, example: Example, name: str, stated: str) -> Component:
        gold = example.verdicts.get(name)
        if gold is None:
            return Component(0.0, valid=False, reason="no gold verdict")
        if gold not in self.book.criteria[name].verdicts:
            return Component(0.0, valid=False, reason=f"gold verdict {gold!r} is not in the rule book")
        return RIGHT if stated == gold else WRONG

    def _tier(self, example: Example, stated: int) -> Component:
        if example.tier not in TIERS:
            return Component(0.0, valid=False, reason=f"gold tier {example.tier!r} is not a tier")
        if stated == example.tier:
            return RIGHT
        if stated and self.book.reward.tier_credit == "ordinal":
            return Component(1.0 - abs(stated - example.tier) / _SPAN)
        return WRONG

    def _gated(self, components: dict[str, Component]) -> dict[str, Component]:
        """Takes what a component earned away where what it requires is not fully earned (unknown: lets it be)."""
        gated = dict(components)
        for gate in self.gates:
            required = components[gate.requires]
            if required.valid and required.value < 1.0 and components[gate.component].valid:
                gated[gate.component] = Component(0.0, reason=f"gated: {gate.requires} is not earned")
        return gated

    def _total(self, components: dict[str, Component]) -> dict:
        """The weighted mean over the valid components, in [0, 1]; invalid when no weight is left."""
        valid = [(self.weights[name], component.value) for name, component in components.items() if component.valid]
        mass = sum(weight for weight, _ in valid)
        if mass <= 0:
            return {"total": math.nan, "valid": False, "components": components}
        total = sum(weight * value for weight, value in valid) / mass
        return {"total": min(1.0, max(0.0, total)), "valid": True, "components": components}

    def _verdicts_right(self, components: dict[str, Component]) -> bool:
        """Every stated verdict with gold is right."""
        stated = (components[name] for name in self.book.criteria if name in components)
        return all(verdict.value == 1.0 for verdict in stated if verdict.valid)


def invalid_score(names: Iterable[str], reason: str) -> Score:
    """A score in which nothing is valid; ``reason`` is kept in every component and as the failure."""
    lost = Component(0.0, valid=False, reason=reason)
    return Score(
        total=math.nan,
        valid=False,
        components=dict.fromkeys(names, lost),
        correct=False,
        consistent=False,
        sound=False,
        judgement=None,
        failure=reason,
    )


def components_matrix(scores: list[Score], names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The components of a group: ``values`` float64 [G, C] (0 where invalid) and ``valid`` bool [G, C]."""
    shape = (len(scores), len(names))
    values = np.array([[s.components[name].value for name in names] for s in scores], dtype=np.float64).reshape(shape)
    valid = np.array([[s.components[name].valid for name in names] for s in scores], dtype=bool).reshape(shape)
    return np.where(valid, values, 0.0), valid
