"""Do a response's verdicts follow from its own reading of query and product?

With ``reading: items`` a reading is a list: the query's is ``kind; need; need``, the product's ``kind; feature;
feature``. Needs are compared with features without the catalogue, so a right tier reached by wrong reasoning is seen.
"""

from __future__ import annotations

import re

from agrl.relevance.records import Judgement
from agrl.relevance.rules import ReadingCheck, RuleBook

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(?: (\S+))?"
_LIMIT = re.compile(rf"(.+) (under|over) {_NUMBER}")
_AMOUNT = re.compile(rf"(.+) {_NUMBER}")
_NOT = "not "


def split_items(reading: str) -> tuple[str, list[str]]:
    """Splits ``kind; item; item`` into the kind and the items, in lower case; an empty item stays (as "")."""
    kind, *items = [item.strip().casefold() for item in reading.split(";")]
    return kind, items


def join_items(kind: str, items: list[str]) -> str:
    """The inverse of ``split_items`` for lower-case items without semicolons."""
    return "; ".join([kind, *items])


def need_met(need: str, features: list[str]) -> bool:
    """Whether one need is met.

    ``X``: X is among the features. ``not X``: X is not met. ``NAME under N [UNIT]``: a feature ``NAME M [UNIT]`` of the
    same name and unit has M < N; ``NAME over N``: M > N.
    """
    if need.startswith(_NOT):
        return not need_met(need.removeprefix(_NOT), features)
    limit = _LIMIT.fullmatch(need)
    if limit is None:
        return need in features
    name, side, bound, unit = limit.groups()
    for feature in features:
        amount = _AMOUNT.fullmatch(feature)
        if amount and amount[1] == name and amount[3] == unit:
            value = float(amount[2])
            if value < float(bound) if side == "under" else value > float(bound):
                return True
    return False


def needs_outcome(needs: list[str], features: list[str]) -> str:
    """What the features give for the needs: "met", "partial" or "unmet".

    met: every need is met (or there is none); unmet: a ``not X`` is violated, or no need is met; partial: otherwise.
    """
    missed = [need for need in needs if not need_met(need, features)]
    if not missed:
        return "met"
    if len(missed) == len(needs) or any(need.startswith(_NOT) for need in missed):
        return "unmet"
    return "partial"


def reading_supports(book: RuleBook, judgement: Judgement) -> bool | None:
    """Whether the stated readings and verdicts agree, as far as can be derived without the catalogue.

    None when the rule book's readings are free text and cannot be checked.
    """
    check = book.reading_check
    if check is None:
        return None
    kind, needs = split_items(judgement.readings.get(check.query, ""))
    product_kind, features = split_items(judgement.readings.get(check.product, ""))
    if not all((kind, product_kind, *needs, *features)):  # an empty item states nothing: malformed
        return False
    offered = [product_kind, *features]  # the kind counts as a feature: "not guitar" rules guitars out
    return _kind_agrees(check, judgement, kind == product_kind) and _needs_agree(check, judgement, needs, offered)


def _kind_agrees(check: ReadingCheck, judgement: Judgement, equal: bool) -> bool:
    return not check.kind or (judgement.verdicts.get(check.kind) == check.same) == equal


def _needs_agree(check: ReadingCheck, judgement: Judgement, needs: list[str], features: list[str]) -> bool:
    return not check.needs or judgement.verdicts.get(check.needs) == check.outcomes[needs_outcome(needs, features)]
